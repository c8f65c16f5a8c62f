import { isDeepStrictEqual } from 'node:util';
import { type Clock, systemClock } from '#base/clock.ts';
import { type Random, seededRandom } from '#base/random.ts';
import {
  alreadyExistsError,
  conflictError,
  failure,
  modifiedError,
  notFoundError,
} from '#api/status.ts';
import { formatTime } from '#api/time.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import type {
  Api,
  DeleteOptions,
  ListOptions,
  PatchBody,
  Resource,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from '#client/api.ts';

export type SimulatedApi = Api & {
  /** Everything stored of a resource, for assertions. */
  all<T extends KubeObject>(resource: Resource<T>): T[];
  /** Runs before each write and may throw to make it fail. */
  onWrite(check: (verb: string, resource: Resource, object: KubeObject) => void): void;
  /** Called after each change. */
  onCommit(handler: (event: Commit) => void): void;
};

export type Commit = {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  resource: Resource;
  object: KubeObject;
  version: number;
};

type Stored = Map<string, KubeObject>;

/**
 * An API in memory for tests of controllers: versions, conflicts, generations, finalizers, graceful
 * deletion and watches behave as the real one's; nothing is validated or defaulted.
 */
export function simulateApi(options: { clock?: Clock; random?: Random } = {}): SimulatedApi {
  const store = new SimulatedStore(options.clock ?? systemClock, options.random ?? seededRandom(1));
  const typed = <T>(object: KubeObject): Promise<T> => Promise.resolve(object as T);
  return {
    get: async (resource, key) => typed(structuredClone(store.find(resource as Resource, key))),
    list: async (resource, selection = {}) =>
      typed({
        apiVersion: 'v1',
        kind: `${resource.kind}List`,
        metadata: { resourceVersion: store.version },
        items: structuredClone(store.list(resource as Resource, selection)),
      }),
    create: async (resource, object) => typed(store.create(resource as Resource, object)),
    async post(resource, key, subresource, body) {
      if (subresource !== 'eviction') throw failure(405, 'MethodNotAllowed', subresource);
      store.remove(resource, key, (body as { deleteOptions?: DeleteOptions }).deleteOptions ?? {});
      return undefined;
    },
    update: async (resource, object, write = {}) =>
      typed(store.replace(resource as Resource, object, write)),
    async patch(resource, key, patch, write = {}) {
      const old = structuredClone(store.find(resource as Resource, key));
      const next = patched(old, patch);
      if (!('resourceVersion' in metadataOf(patch.body))) delete next.metadata.resourceVersion;
      return typed(store.replace(resource as Resource, next, write));
    },
    delete: async (resource, key, wish = {}) => store.remove(resource, key, wish),
    async deleteCollection(resource, wish = {}) {
      for (const object of store.list(resource, wish)) store.remove(resource, keyOf(object), wish);
    },
    watch: (resource, selection = {}) => store.watch(resource, selection),
    raw: (path) => Promise.reject(failure(404, 'NotFound', `nothing at ${path}`)),
    all: (resource) => structuredClone([...store.storeOf(resource as Resource).values()]) as never,
    onWrite: (one) => void store.checks.push(one),
    onCommit: (handler) => void store.handlers.push(handler),
  };
}

/** Objects by resource and key, and the row of commits that watches follow. */
class SimulatedStore {
  readonly checks: ((verb: string, resource: Resource, object: KubeObject) => void)[] = [];
  readonly handlers: ((event: Commit) => void)[] = [];
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #stores = new Map<string, Stored>();
  readonly #commits: Commit[] = [];
  readonly #watchers = new Set<() => void>();
  #version = 0;
  #uids = 0;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  get version(): string {
    return String(this.#version);
  }

  storeOf(resource: Resource): Stored {
    const name = `${resource.group}/${resource.resource}`;
    let store = this.#stores.get(name);
    if (!store) this.#stores.set(name, (store = new Map()));
    return store;
  }

  find(resource: Resource, key: ObjectKey): KubeObject {
    const object = this.storeOf(resource).get(`${key.namespace ?? ''}/${key.name}`);
    if (!object) throw notFoundError(resource, key.name);
    return object;
  }

  #now(): string {
    return formatTime(this.#clock.now());
  }

  #check(verb: string, resource: Resource, object: KubeObject): void {
    for (const one of this.checks) one(verb, resource, object);
  }

  #commit(type: Commit['type'], resource: Resource, object: KubeObject): KubeObject {
    this.#version += 1;
    const stored = structuredClone(object);
    stored.metadata.resourceVersion = String(this.#version);
    const store = this.storeOf(resource);
    const key = `${stored.metadata.namespace ?? ''}/${stored.metadata.name}`;
    if (type === 'DELETED') store.delete(key);
    else store.set(key, stored);
    const event: Commit = { type, resource, object: stored, version: this.#version };
    this.#commits.push(event);
    for (const handler of this.handlers) handler(event);
    for (const wake of this.#watchers) wake();
    return structuredClone(stored);
  }

  create(resource: Resource, object: KubeObject): KubeObject {
    this.#check('create', resource, object);
    const made = structuredClone(object);
    made.apiVersion ??= resource.group ? `${resource.group}/${resource.version}` : resource.version;
    made.kind ??= resource.kind;
    const { metadata } = made;
    if (!metadata.name) {
      const suffix = Math.floor(this.#random() * 60_466_176).toString(36);
      metadata.name = `${metadata.generateName}${suffix.padStart(5, 'x')}`;
    }
    if (this.storeOf(resource).has(`${metadata.namespace ?? ''}/${metadata.name}`)) {
      throw alreadyExistsError(resource, metadata.name);
    }
    this.#uids += 1;
    metadata.uid = `uid-${this.#uids}`;
    metadata.creationTimestamp = this.#now();
    metadata.generation = 1;
    return this.#commit('ADDED', resource, made);
  }

  replace(resource: Resource, object: KubeObject, write: WriteOptions): KubeObject {
    const old = this.find(resource, keyOf(object));
    const sent = object.metadata.resourceVersion;
    if (sent && sent !== old.metadata.resourceVersion) {
      throw modifiedError(resource, old.metadata.name ?? '');
    }
    this.#check(write.subresource === 'status' ? 'updateStatus' : 'update', resource, object);
    const next: KubeObject =
      write.subresource === 'status' ? withStatusOf(object, old) : { ...structuredClone(object) };
    if (write.subresource !== 'status' && old.status !== undefined) next.status = old.status;
    next.metadata = { ...next.metadata, ...fixedMetadata(old) };
    if (!isDeepStrictEqual(next.spec, old.spec)) {
      next.metadata.generation = (old.metadata.generation ?? 0) + 1;
    }
    if (isDeepStrictEqual(next, old)) return structuredClone(old);
    const finished = next.metadata.deletionTimestamp && !next.metadata.finalizers?.length;
    return this.#commit(
      finished && !isGraceful(resource, next) ? 'DELETED' : 'MODIFIED',
      resource,
      next,
    );
  }

  remove(resource: Resource, key: ObjectKey, wish: DeleteOptions): KubeObject | undefined {
    const old = this.find(resource, key);
    this.#check('delete', resource, old);
    const { uid, resourceVersion } = wish.preconditions ?? {};
    if (uid && uid !== old.metadata.uid) {
      throw conflictError(resource, key.name, `the UID in the precondition (${uid}) differs`);
    }
    if (resourceVersion && resourceVersion !== old.metadata.resourceVersion) {
      throw conflictError(resource, key.name, 'the ResourceVersion in the precondition differs');
    }
    const next = structuredClone(old);
    const finalizers = new Set(next.metadata.finalizers ?? []);
    if (wish.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion');
    if (wish.propagationPolicy === 'Orphan') finalizers.add('orphan');
    if (finalizers.size > 0) next.metadata.finalizers = [...finalizers];
    const graceful = isGraceful(resource, next) && wish.gracePeriodSeconds !== 0;
    if (finalizers.size === 0 && !graceful) {
      this.#commit('DELETED', resource, next);
      return undefined;
    }
    if (next.metadata.deletionTimestamp) return next;
    next.metadata.deletionTimestamp = this.#now() as unknown as NonNullable<
      typeof next.metadata.deletionTimestamp
    >;
    if (graceful) next.metadata.deletionGracePeriodSeconds = wish.gracePeriodSeconds ?? 30;
    return this.#commit('MODIFIED', resource, next);
  }

  list(resource: Resource, selection: ListOptions): KubeObject[] {
    return [...this.storeOf(resource).values()].filter((object) => matches(object, selection));
  }

  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    selection: WatchOptions,
  ): AsyncGenerator<WatchEvent<T>[]> {
    let next = this.#commits.length;
    if (selection.sendInitialEvents) {
      const events: WatchEvent<T>[] = this.list(resource, selection).map((object) => ({
        type: 'ADDED',
        object: structuredClone(object) as T,
      }));
      const resourceVersion = String(this.#version);
      events.push({ type: 'BOOKMARK', resourceVersion, initialEventsEnd: true });
      yield events;
    } else
      next = this.#commits.findIndex((c) => c.version > Number(selection.resourceVersion ?? 0));
    if (next < 0) next = this.#commits.length;
    for (;;) {
      selection.signal?.throwIfAborted();
      const events: WatchEvent<T>[] = [];
      for (; next < this.#commits.length; next++) {
        const event = this.#commits[next];
        if (!event || event.resource.resource !== resource.resource) continue;
        if (event.resource.group !== resource.group || !matches(event.object, selection)) continue;
        events.push({ type: event.type, object: structuredClone(event.object) as T });
      }
      if (events.length) yield events;
      else await changed(this.#watchers, selection.signal);
    }
  }
}

/** A status write may also change annotations, which the Deployment controller relies on. */
function withStatusOf(sent: KubeObject, old: KubeObject): KubeObject {
  const next = structuredClone(old);
  next.status = structuredClone(sent.status);
  if (sent.metadata.annotations) next.metadata.annotations = { ...sent.metadata.annotations };
  return next;
}

const keyOf = (object: KubeObject): ObjectKey => ({
  namespace: object.metadata.namespace,
  name: object.metadata.name ?? '',
});

/** Pods on a node are removed by its agent, which in these tests is the test. */
const isGraceful = (resource: Resource, object: KubeObject): boolean =>
  resource.resource === 'pods' &&
  Boolean((object.spec as { nodeName?: string } | undefined)?.nodeName);

function fixedMetadata(old: KubeObject): Partial<KubeObject['metadata']> {
  const { uid, creationTimestamp, generation, resourceVersion, deletionTimestamp } = old.metadata;
  return {
    ...(uid ? { uid } : {}),
    ...(creationTimestamp ? { creationTimestamp } : {}),
    ...(generation ? { generation } : {}),
    ...(resourceVersion ? { resourceVersion } : {}),
    ...(deletionTimestamp ? { deletionTimestamp } : {}),
  };
}

function matches(object: KubeObject, selection: ListOptions): boolean {
  if (selection.namespace && object.metadata.namespace !== selection.namespace) return false;
  return (selection.labelSelector ?? '')
    .split(',')
    .filter(Boolean)
    .every((term) => {
      const [name = '', value] = term.split('=');
      return object.metadata.labels?.[name] === value;
    });
}

function patched(target: KubeObject, patch: PatchBody): KubeObject {
  if (patch.type === 'merge' || patch.type === 'strategic') {
    return merged(target, patch.body) as KubeObject;
  }
  if (patch.type === 'apply') throw failure(415, 'UnsupportedMediaType', 'no apply in simulation');
  for (const op of patch.body) patchOne(target, op);
  return target;
}

function patchOne(target: KubeObject, op: { op: string; path: string; value?: unknown }): void {
  const steps = op.path
    .slice(1)
    .split('/')
    .map((s) => s.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = steps.pop() ?? '';
  let parent = target as unknown as Record<string, unknown>;
  for (const name of steps) parent = parent[name] as Record<string, unknown>;
  if (op.op === 'test') {
    if (!isDeepStrictEqual(parent[last], op.value)) {
      throw failure(422, 'Invalid', `testing value ${op.path} failed`);
    }
  } else if (op.op === 'remove') {
    if (Array.isArray(parent)) parent.splice(Number(last), 1);
    else delete parent[last];
  } else if (Array.isArray(parent) && op.op === 'add') {
    parent.splice(last === '-' ? parent.length : Number(last), 0, op.value);
  } else parent[last] = op.value;
}

function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const from = typeof target === 'object' && target !== null && !Array.isArray(target);
  const result: Record<string, unknown> = from ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  }
  return result;
}

function metadataOf(body: unknown): object {
  return (body as { metadata?: object } | undefined)?.metadata ?? {};
}

function changed(watchers: Set<() => void>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const wake = (): void => {
      watchers.delete(wake);
      signal?.removeEventListener('abort', onAbort);
      resolve();
    };
    const onAbort = (): void => {
      watchers.delete(wake);
      reject(signal?.reason);
    };
    watchers.add(wake);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
