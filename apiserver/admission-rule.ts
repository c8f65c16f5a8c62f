import type { Clock } from '#base/clock.ts';
import type { Random } from '#base/random.ts';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import type { Authorizer } from '#apiserver/authz/authorizer.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { Reinvocation } from '#apiserver/reinvocation.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** One write on its way into the store. Source: admission.k8s.io/v1 AdmissionRequest. */
export type AdmissionRequest = {
  operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';
  kind: Kind;
  subresource: string;
  namespace: string;
  name: string;
  /** Mutating rules change this in place; null on DELETE. For subresources with a body of their own, that body. */
  object: KubeObject | null;
  oldObject: KubeObject | null;
  user: UserInfo;
  dryRun: boolean;
  /** Rules add texts that the client receives as HTTP Warning headers. */
  warnings: string[];
  /** Adds to the request's audit record; absent where none is kept. */
  annotate?: Annotate | undefined;
  /** Set by mutating rules that other rules' changes concern; see apiserver/reinvocation.ts. */
  reinvocation?: Reinvocation;
};

/** `level` Request: too much for records that are to hold no more than metadata. */
export type Annotate = (key: string, value: string, level?: 'Request') => void;

export type AdmissionContext = {
  /** As it is at this moment: custom kinds come and go. */
  readonly scheme: Scheme;
  reader: ObjectReader;
  /** For rules that depend on what else the user may do (escalation, owner references). */
  authorizer: Authorizer;
  /**
   * Compare-and-swap of another object's status, as the server itself: for rules that keep count.
   * `change` mutates a copy of the newest and may throw a StatusError to give up.
   */
  modify: <T extends KubeObject>(
    group: string,
    version: string,
    resource: string,
    key: ObjectKey,
    change: (current: T) => void,
  ) => Promise<void>;
  clock: Clock;
  random: Random;
  signal: AbortSignal;
};

/** One rule of apiserver/admission.ts, the ordered list. Refusals are thrown as StatusError. */
export type AdmissionRule = {
  name: string;
  handles(request: AdmissionRequest): boolean;
  mutate?(request: AdmissionRequest, context: AdmissionContext): void | Promise<void>;
  validate?(request: AdmissionRequest, context: AdmissionContext): void | Promise<void>;
};
