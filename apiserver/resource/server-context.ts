import type { Kind } from '#api/kind.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import type { ResourceName } from '#api/status.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import type { Annotate } from '#apiserver/admission-rule.ts';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import type { AdmissionContext, AdmissionRule } from '#apiserver/admission-rule.ts';
import type { Conversion } from '#apiserver/extensions/conversion.ts';
import type { Authorizer } from '#apiserver/authz/authorizer.ts';
import type { ServiceAllocator } from '#apiserver/resource/service-allocator.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { UserInfo } from '#apiserver/user.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

/** What the verbs need of their server. */
export type ServerContext = {
  /** As it is at this moment: custom kinds come and go. */
  readonly scheme: Scheme;
  /** Aborts when a custom kind changes or goes; its watches end then. */
  endOf?: (kind: Kind) => AbortSignal | undefined;
  /** For custom kinds whose versions a webhook turns into each other. */
  conversion?: Conversion;
  cache: WatchCache;
  reader: ObjectReader;
  admission: readonly AdmissionRule[];
  authorizer: Authorizer;
  /** For admission rules that keep count in another object. */
  modify: AdmissionContext['modify'];
  /** Addresses and node ports of services; without it services keep what users write. */
  services?: ServiceAllocator;
  clock: Clock;
  random: Random;
  log: Log;
  /** Aborts when the server stops. */
  signal: AbortSignal;
};

/** Who writes and under which options; shared by all writing verbs. */
export type WriteOptions = {
  user: UserInfo;
  dryRun: boolean;
  /** Owner of the fields in metadata.managedFields. */
  fieldManager: string;
  /** Texts for HTTP Warning headers; the verbs add to them. */
  warnings: string[];
  signal: AbortSignal;
  /** Adds to the audit record of the request, where one is kept. */
  annotate?: Annotate | undefined;
  /** One of a whole collection that is deleted: admission is asked without a name, as upstream. */
  collection?: boolean;
  /** The object's managedFields are settled already (server-side apply). */
  tracked?: boolean;
};

/** An object after a write, as its stored kind has it. Shared: never mutate. */
export type Written = {
  object: KubeObject;
  /** The bytes clients see, when they exist already. */
  wire: Buffer | null;
};

export const nameOf = (kind: Kind): ResourceName => ({ group: kind.group, resource: kind.plural });

export const keyOf = (object: KubeObject): ObjectKey => ({
  namespace: object.metadata.namespace,
  name: object.metadata.name ?? '',
});

/** Stamps an object as being of this kind. */
export function stamp(object: KubeObject, kind: Kind): void {
  object.apiVersion = apiVersionOf(kind);
  object.kind = kind.kind;
}

/** RFC 3339 to the second, as metadata's times are. */
export const timestamp = (nowMs: number): string =>
  `${new Date(Math.min(nowMs, LAST_MS)).toISOString().slice(0, 19)}Z`;
/** RFC 3339 has no later moment: a grace period may be absurdly long. */
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59);
