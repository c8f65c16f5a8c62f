import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import type { Annotate } from '#apiserver/admission-rule.ts';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import type { Authenticator } from '#apiserver/authn/authenticate.ts';
import type { ServiceAccountTokens } from '#apiserver/authn/service-account-tokens.ts';
import type { Attributes, Decision } from '#apiserver/authz/authorizer.ts';
import type { Rbac } from '#apiserver/authz/rbac.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { RequestInfo, ServerRequest, ServerResponse } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** Who writes and how; every write through `Resources` says so. */
export type WriteAs = {
  user: UserInfo;
  signal: AbortSignal;
  dryRun?: boolean;
  /** Owner in metadata.managedFields; default: what the user agent says, else `unknown`. */
  fieldManager?: string;
  /** Filled with texts for HTTP Warning headers. */
  warnings?: string[];
  /** Adds to the audit record of the request, where one is kept. */
  annotate?: Annotate | undefined;
};

/** Source: metav1.DeleteOptions. */
export type DeleteOptions = {
  gracePeriodSeconds?: number;
  propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
  orphanDependents?: boolean;
  preconditions?: { uid?: string; resourceVersion?: string };
  dryRun?: readonly string[];
};

/**
 * Objects of any kind, read and written as a request would: admission, validation, managedFields
 * and read-your-writes included. Every failure is a StatusError. Results are the caller's own.
 */
export type Resources = {
  /** As the store has it now; 404 when absent. */
  get<T extends KubeObject>(kind: Kind, key: ObjectKey): Promise<T>;
  create<T extends KubeObject>(kind: Kind, object: T, as: WriteAs): Promise<T>;
  /** A whole PUT: prepares, admits, validates. `subresource` is '' or one of type 'status'. */
  update<T extends KubeObject>(
    kind: Kind,
    object: T,
    as: WriteAs & { subresource?: string },
  ): Promise<T>;
  /**
   * Compare-and-swap with retries: `change` mutates a copy of the newest object and may throw a
   * StatusError to give up. Written as it is (no defaults, preparation, admission or validation):
   * for subresources that set what users may not, such as a binding.
   */
  modify<T extends KubeObject>(
    kind: Kind,
    key: ObjectKey,
    change: (current: T) => void,
    as: WriteAs & { subresource?: string },
  ): Promise<T>;
  /** Like DELETE: the object as it then stands, `removed` when it is gone from the store. */
  delete(
    kind: Kind,
    key: ObjectKey,
    options: DeleteOptions,
    as: WriteAs,
  ): Promise<{ object: KubeObject; removed: boolean }>;
};

/** What every handler gets; one per server. */
export type HandlerContext = {
  scheme: Scheme;
  reader: ObjectReader;
  resources: Resources;
  /** The whole chain of authorizers, asked as for a request. */
  authorize(attributes: Attributes): Decision;
  /** Admission for verbs that are not a write of `Resources` (CONNECT, bindings, evictions). */
  admit(request: {
    operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';
    kind: Kind;
    subresource: string;
    namespace: string;
    name: string;
    object: KubeObject | null;
    oldObject?: KubeObject | null;
    as: WriteAs;
  }): Promise<void>;
  /** Service account tokens: issued by TokenRequest (authn/service-account-tokens.ts). */
  tokens: ServiceAccountTokens;
  /** Whose token it is, asked of every token authenticator; for TokenReview. */
  reviewToken: Authenticator['reviewToken'];
  /** Rules of a user in a namespace, for SelfSubjectRulesReview. */
  rbac: Rbac;
  /** Credentials towards node agents, PEM; a function because certificates are renewed. */
  nodeClient: () => { caPem: string; certPem: string; keyPem: string };
  clock: Clock;
  random: Random;
  log: Log;
};

/** One authenticated and authorized request for a handler. */
export type HandlerRequest = {
  info: RequestInfo;
  user: UserInfo;
  /** Of the parent resource; for create-only kinds (TokenReview) that kind. */
  kind: Kind;
  request: ServerRequest;
  /** For `Resources`: who, dry run, field manager and where warnings go. */
  as: WriteAs;
  /**
   * The body, decoded as the subresource's `body` kind (or `kind`): unknown fields pruned or
   * refused by fieldValidation, types checked, defaults set. StatusError 400 when unreadable.
   */
  body<T extends KubeObject>(): Promise<T>;
  /** The object as the client wants it (JSON, YAML, table); adds Warning headers. Default status 200. */
  answer(object: KubeObject | Record<string, unknown>, status?: number): Promise<ServerResponse>;
};

/** The client's connection after its `Upgrade` request; the handler owns it from now on. */
export type UpgradedConnection = {
  request: IncomingMessage;
  socket: Duplex;
  /** Bytes that came after the request's head. */
  head: Buffer;
};

/**
 * A subresource (or a create-only kind, `subresource` '') that needs more than a status split.
 * A member of handlers.ts, the list.
 */
export type SubresourceHandler = {
  group: string;
  /** Plural of the parent. */
  resource: string;
  subresource: string;
  handle(context: HandlerContext, request: HandlerRequest): Promise<ServerResponse>;
  /**
   * For requests with an Upgrade header (exec, attach, portforward, proxy). Errors thrown before
   * the handler has written anything are answered as a Status.
   */
  connect?(
    context: HandlerContext,
    request: HandlerRequest,
    connection: UpgradedConnection,
  ): Promise<void>;
};
