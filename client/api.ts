import type { KubeList, KubeObject, ObjectKey } from '#api/types.ts';

/** Where a kind lives in the API, with its object's type carried along. See resources.ts for the list. */
export type Resource<T extends KubeObject = KubeObject> = {
  group: string;
  version: string;
  /** Plural, as in the URL. */
  resource: string;
  kind: string;
  namespaced: boolean;
  /** Never set: carries T for inference. */
  readonly object?: T;
};

export type CallOptions = { signal?: AbortSignal | undefined };

export type ListOptions = CallOptions & {
  namespace?: string | undefined;
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
  resourceVersion?: string;
  resourceVersionMatch?: 'Exact' | 'NotOlderThan';
  /** Only apiVersion, kind and metadata of each object (PartialObjectMetadata). */
  metadataOnly?: boolean;
};

export type WriteOptions = CallOptions & {
  subresource?: string;
  dryRun?: boolean;
  fieldManager?: string;
  /** What the server does with unknown and duplicate fields; its default is Warn. */
  fieldValidation?: 'Strict' | 'Warn' | 'Ignore';
};

export type PatchBody =
  | { type: 'merge'; body: unknown }
  | { type: 'strategic'; body: unknown }
  | { type: 'json'; body: readonly { op: string; path: string; value?: unknown; from?: string }[] }
  | { type: 'apply'; body: unknown; fieldManager: string; force?: boolean };

export type DeleteOptions = CallOptions & {
  propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
  gracePeriodSeconds?: number;
  preconditions?: { uid?: string; resourceVersion?: string };
};

export type WatchOptions = Omit<ListOptions, 'limit' | 'continue'> & {
  sendInitialEvents?: boolean;
  allowBookmarks?: boolean;
  /** The server ends the watch after so long; the caller resumes. */
  timeoutSeconds?: number;
};

export type WatchEvent<T> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  /** `initialEventsEnd` marks the bookmark after the initial list. */
  | { type: 'BOOKMARK'; resourceVersion: string; initialEventsEnd: boolean };

/**
 * The public API as functions. Every failure that the server reports is a StatusError (api/status.ts),
 * every failure to get an answer a TransportError.
 */
export type Api = {
  get<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    options?: CallOptions & { subresource?: string; metadataOnly?: boolean },
  ): Promise<T>;
  list<T extends KubeObject>(resource: Resource<T>, options?: ListOptions): Promise<KubeList<T>>;
  /** `object.metadata.namespace` says where. With `subresource`, `object` is that subresource's body. */
  create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options?: WriteOptions,
  ): Promise<T>;
  /** POST to a subresource (binding, eviction, token) whose body is another kind. */
  post(
    resource: Resource,
    key: ObjectKey,
    subresource: string,
    body: unknown,
    options?: CallOptions,
  ): Promise<unknown>;
  update<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options?: WriteOptions,
  ): Promise<T>;
  patch<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    patch: PatchBody,
    options?: WriteOptions,
  ): Promise<T>;
  /** The object as it stands when it goes on terminating (or was sent back); nothing otherwise. */
  delete(
    resource: Resource,
    key: ObjectKey,
    options?: DeleteOptions,
  ): Promise<KubeObject | undefined | void>;
  deleteCollection(resource: Resource, options?: ListOptions & DeleteOptions): Promise<void>;
  /** Batches as they arrive; throws StatusError (410 Expired) or TransportError; ends when the server ends it. */
  watch<T extends KubeObject>(
    resource: Resource<T>,
    options?: WatchOptions,
  ): AsyncIterable<WatchEvent<T>[]>;
  /** Any path, for discovery, logs and the like. */
  raw(path: string, options?: CallOptions & { accept?: string }): Promise<Uint8Array>;
};
