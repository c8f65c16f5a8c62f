import { failure, isStatusError, type Status, StatusError } from '#api/status.ts';
import type { KubeList, KubeObject, ObjectKey } from '#api/types.ts';
import type {
  Api,
  CallOptions,
  DeleteOptions,
  ListOptions,
  PatchBody,
  Resource,
  WatchOptions,
  WriteOptions,
} from '#client/api.ts';
import type { Transport, TransportRequest, TransportResponse } from '#client/transport.ts';
import { decodeWatch } from '#client/watch-decoder.ts';

/** An answer (except a watch's) that stays silent for so long is given up. */
const CALL_TIMEOUT_MS = 30_000;
/** Longest error text of a non-Kubernetes answer (a proxy's page) that is kept. */
const MAX_ERROR_TEXT = 2048;

const JSON_TYPE = 'application/json';
const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io';
const METADATA_ONLY_LIST = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io';

const PATCH_TYPES: Record<PatchBody['type'], string> = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml',
};

/** Builds the typed API over a transport. `userAgent` names the component in audit and events. */
export function createApi(transport: Transport, options: { userAgent: string }): Api {
  const base = { accept: JSON_TYPE, 'user-agent': options.userAgent };
  const call = callerOver(transport, base);
  return { ...readingApi(transport, base, call), ...writingApi(call) };
}

type CallRequest = Omit<TransportRequest, 'body' | 'headers'> & {
  send?: unknown;
  contentType?: string;
  accept?: string;
};
type Call = (request: CallRequest) => Promise<Uint8Array>;
type Headers = Readonly<Record<string, string>>;

/** One request, one whole answer; an error status is thrown. */
function callerOver(transport: Transport, base: Headers): Call {
  return async (request) => {
    const { send, contentType, accept, ...rest } = request;
    const headers: Record<string, string> = { ...base };
    if (accept !== undefined) headers.accept = accept;
    if (send !== undefined) headers['content-type'] = contentType ?? JSON_TYPE;
    const response = await transport.request({
      timeoutMs: CALL_TIMEOUT_MS,
      ...rest,
      headers,
      ...(send === undefined ? {} : { body: JSON.stringify(send) }),
    });
    const bytes = await collect(response.body);
    if (response.status >= 300) throw errorOf(response, bytes);
    return bytes;
  };
}

async function json<T>(answer: Promise<Uint8Array>): Promise<T> {
  return JSON.parse(textOf(await answer)) as T;
}

function readingApi(
  transport: Transport,
  base: Headers,
  call: Call,
): Pick<Api, 'get' | 'list' | 'watch' | 'raw'> {
  const callJson = <T>(request: CallRequest): Promise<T> => json<T>(call(request));
  return {
    get: <T extends KubeObject>(
      resource: Resource<T>,
      key: ObjectKey,
      { signal, subresource = '', metadataOnly }: CallOptions & GetExtras = {},
    ) =>
      callJson<T>({
        method: 'GET',
        path: objectPath(resource, key, subresource),
        signal,
        ...(metadataOnly ? { accept: METADATA_ONLY } : {}),
      }),

    async list<T extends KubeObject>(resource: Resource<T>, list: ListOptions = {}) {
      const answer = await callJson<KubeList<T>>({
        method: 'GET',
        path: collectionPath(resource, list.namespace) + listQuery(list),
        signal: list.signal,
        ...(list.metadataOnly ? { accept: METADATA_ONLY_LIST } : {}),
      });
      answer.items ??= [];
      return typedItems(answer, resource, list.metadataOnly === true);
    },

    watch: <T extends KubeObject>(resource: Resource<T>, watch: WatchOptions = {}) =>
      openWatch<T>(transport, resource, watch, base),

    raw: (path, { signal, accept } = {}) =>
      call({ method: 'GET', path, signal, ...(accept === undefined ? {} : { accept }) }),
  };
}

type Writes = 'create' | 'post' | 'update' | 'patch' | 'delete' | 'deleteCollection';

function writingApi(call: Call): Pick<Api, Writes> {
  const callJson = <T>(request: CallRequest): Promise<T> => json<T>(call(request));
  return {
    create: <T extends KubeObject>(resource: Resource<T>, object: T, write: WriteOptions = {}) =>
      callJson<T>({
        method: 'POST',
        path:
          (write.subresource
            ? objectPath(resource, keyOf(object), write.subresource)
            : collectionPath(resource, object.metadata.namespace)) + writeQuery(write),
        send: withType(resource, object, write),
        signal: write.signal,
      }),

    async post(resource, key, subresource, body, { signal } = {}) {
      const path = objectPath(resource, key, subresource);
      const bytes = await call({ method: 'POST', path, send: body, signal });
      return bytes.length ? (JSON.parse(textOf(bytes)) as unknown) : undefined;
    },

    update: <T extends KubeObject>(resource: Resource<T>, object: T, write: WriteOptions = {}) =>
      callJson<T>({
        method: 'PUT',
        path: objectPath(resource, keyOf(object), write.subresource) + writeQuery(write),
        send: withType(resource, object, write),
        signal: write.signal,
      }),

    patch: <T extends KubeObject>(
      resource: Resource<T>,
      key: ObjectKey,
      patch: PatchBody,
      write: WriteOptions = {},
    ) =>
      callJson<T>({
        method: 'PATCH',
        path: objectPath(resource, key, write.subresource) + writeQuery(write, patch),
        send: patch.body,
        contentType: PATCH_TYPES[patch.type],
        signal: write.signal,
      }),

    async delete(resource, key, remove: DeleteOptions = {}) {
      const answer = await callJson<KubeObject>({
        method: 'DELETE',
        path: objectPath(resource, key),
        send: deleteBody(remove),
        signal: remove.signal,
      });
      return answer.kind === 'Status' ? undefined : answer;
    },

    async deleteCollection(resource, remove: ListOptions & DeleteOptions = {}) {
      await call({
        method: 'DELETE',
        path: collectionPath(resource, remove.namespace) + listQuery(remove),
        send: deleteBody(remove),
        signal: remove.signal,
      });
    },
  };
}

type GetExtras = { subresource?: string; metadataOnly?: boolean };

async function* openWatch<T extends KubeObject>(
  transport: Transport,
  resource: Resource<T>,
  watch: WatchOptions,
  base: Readonly<Record<string, string>>,
) {
  const response = await transport.request({
    method: 'GET',
    path: collectionPath(resource, watch.namespace) + watchQuery(watch),
    headers: watch.metadataOnly ? { ...base, accept: METADATA_ONLY } : base,
    signal: watch.signal,
  });
  if (response.status >= 300) throw errorOf(response, await collect(response.body));
  yield* decodeWatch<T>(response.body);
}

/** Path of a resource's collection; all namespaces when `namespace` is unset. */
export function collectionPath(resource: Resource, namespace?: string): string {
  const root = resource.group
    ? `/apis/${resource.group}/${resource.version}`
    : `/api/${resource.version}`;
  const scope = resource.namespaced && namespace ? `/namespaces/${escape(namespace)}` : '';
  return `${root}${scope}/${resource.resource}`;
}

/** Path of one object, or of its subresource. Throws when the key lacks what the resource needs. */
export function objectPath(resource: Resource, key: ObjectKey, subresource?: string): string {
  if (!key.name || (resource.namespaced && !key.namespace)) {
    throw new TypeError(`${resource.resource} need a ${key.name ? 'namespace' : 'name'}`);
  }
  const path = `${collectionPath(resource, key.namespace)}/${escape(key.name)}`;
  return subresource ? `${path}/${subresource}` : path;
}

const escape = (segment: string): string =>
  /^[a-z0-9.-]+$/.test(segment) ? segment : encodeURIComponent(segment);

const keyOf = (object: KubeObject): ObjectKey => ({
  namespace: object.metadata.namespace,
  name: object.metadata.name ?? '',
});

function listQuery(options: ListOptions): string {
  const query = new URLSearchParams();
  addSelection(query, options);
  if (options.limit) query.set('limit', String(options.limit));
  if (options.continue) query.set('continue', options.continue);
  return queryText(query);
}

function watchQuery(options: WatchOptions): string {
  const query = new URLSearchParams({ watch: '1' });
  addSelection(query, options);
  if (options.allowBookmarks) query.set('allowWatchBookmarks', 'true');
  if (options.sendInitialEvents) query.set('sendInitialEvents', 'true');
  if (options.timeoutSeconds) query.set('timeoutSeconds', String(options.timeoutSeconds));
  return queryText(query);
}

function addSelection(query: URLSearchParams, options: Omit<ListOptions, 'limit'>): void {
  if (options.labelSelector) query.set('labelSelector', options.labelSelector);
  if (options.fieldSelector) query.set('fieldSelector', options.fieldSelector);
  if (options.resourceVersion) query.set('resourceVersion', options.resourceVersion);
  if (options.resourceVersionMatch) query.set('resourceVersionMatch', options.resourceVersionMatch);
}

function writeQuery(options: WriteOptions, patch?: PatchBody): string {
  const query = new URLSearchParams();
  if (options.dryRun) query.set('dryRun', 'All');
  if (options.fieldManager) query.set('fieldManager', options.fieldManager);
  if (options.fieldValidation) query.set('fieldValidation', options.fieldValidation);
  if (patch?.type === 'apply') {
    query.set('fieldManager', patch.fieldManager);
    if (patch.force) query.set('force', 'true');
  }
  return queryText(query);
}

function queryText(query: URLSearchParams): string {
  const text = query.toString();
  return text ? `?${text}` : '';
}

function deleteBody(options: DeleteOptions): unknown {
  const { propagationPolicy, gracePeriodSeconds, preconditions } = options;
  return {
    kind: 'DeleteOptions',
    apiVersion: 'v1',
    ...(propagationPolicy ? { propagationPolicy } : {}),
    ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    ...(preconditions ? { preconditions } : {}),
  };
}

const apiVersion = (resource: Resource): string =>
  resource.group ? `${resource.group}/${resource.version}` : resource.version;

/** The server insists on apiVersion and kind; callers need not repeat what the resource knows. */
function withType<T extends KubeObject>(resource: Resource<T>, object: T, write: WriteOptions): T {
  if (object.kind || (write.subresource && write.subresource !== 'status')) return object;
  return { apiVersion: apiVersion(resource), kind: resource.kind, ...object };
}

/** Items of a list come without apiVersion and kind; owner references and events need them. */
function typedItems<T extends KubeObject>(
  list: KubeList<T>,
  resource: Resource<T>,
  metadataOnly: boolean,
): KubeList<T> {
  if (metadataOnly) return list;
  const version = apiVersion(resource);
  for (const item of list.items) {
    item.apiVersion ??= version;
    item.kind ??= resource.kind;
  }
  return list;
}

async function collect(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

/** The Status in an error's body; a Status of our own when something else answered. */
function errorOf(response: TransportResponse, bytes: Uint8Array): StatusError {
  const text = textOf(bytes);
  try {
    const body = JSON.parse(text) as Partial<Status> | null;
    if (body?.kind === 'Status' && typeof body.code === 'number') {
      return new StatusError(body as Status);
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const said = text.slice(0, MAX_ERROR_TEXT).trim() || '(no body)';
  return failure(response.status, REASONS[response.status] ?? 'Unknown', said);
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  409: 'Conflict',
  410: 'Gone',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** True for failures that another try may cure without any change of what is asked. */
export function isRetriable(error: unknown): boolean {
  if (!isStatusError(error)) return true;
  return error.code === 429 || error.code >= 500;
}
