import type { KubeObject, ObjectKey } from '#api/types.ts';
import type { Change, Informer } from '#client/informer.ts';
import type { WatcherItem } from '#client/watcher.ts';

/** Gives the values under which an object is found in an index. Must be a fixed function. */
export type IndexFunction<T> = (object: T) => readonly string[];

/** resourceVersions are positive decimal integers that only grow; < 0 when `a` is older. */
export function compareResourceVersions(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** An informer and its writing end, fed by a watcher. */
export type InformerStore<T extends KubeObject> = Informer<T> & {
  feed(items: readonly WatcherItem<T>[]): void;
  /** Adds an index over what is there and what comes. Throws if `name` means another function. */
  addIndex(name: string, index: IndexFunction<T>): void;
};

type Waiter = { resourceVersion: string; resolve: () => void };
type Index<T> = { of: IndexFunction<T>; entries: Map<string, Set<T>> };

const textKey = (object: KubeObject): string =>
  `${object.metadata.namespace ?? ''}/${object.metadata.name ?? ''}`;

/** Holds a resource's objects by key, with indexes, and tells handlers of every change. */
export class InformerCache<T extends KubeObject> implements InformerStore<T> {
  readonly #objects = new Map<string, T>();
  readonly #byNamespace = new Map<string, Set<T>>();
  readonly #indexes = new Map<string, Index<T>>();
  readonly #handlers = new Set<(change: Change<T>) => void>();
  readonly #freeze: boolean;
  #arriving: Map<string, T> | null = null;
  #waiters: Waiter[] = [];
  #version = '';
  #synced = Promise.withResolvers<void>();
  #isSynced = false;

  /** With `freeze`, objects are frozen deeply, so that a test finds who mutates them. */
  constructor(options: { freeze?: boolean } = {}) {
    this.#freeze = options.freeze ?? false;
  }

  get(key: ObjectKey): T | undefined {
    return this.#objects.get(`${key.namespace ?? ''}/${key.name}`);
  }

  list(namespace?: string): T[] {
    if (namespace === undefined || namespace === '') return [...this.#objects.values()];
    return [...(this.#byNamespace.get(namespace) ?? [])];
  }

  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.get(name);
    if (!index) throw new Error(`informer has no index "${name}"`);
    return [...(index.entries.get(value) ?? [])];
  }

  onChange(handler: (change: Change<T>) => void): () => void {
    this.#handlers.add(handler);
    for (const object of this.#objects.values()) handler({ type: 'added', object });
    return () => void this.#handlers.delete(handler);
  }

  synced(): Promise<void> {
    return this.#synced.promise;
  }

  hasSynced(): boolean {
    return this.#isSynced;
  }

  resourceVersion(): string {
    return this.#version;
  }

  reached(resourceVersion: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#isSynced && compareResourceVersions(this.#version, resourceVersion) >= 0) {
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters = this.#waiters.filter((w) => w !== waiter);
        reject(signal?.reason);
      };
      const waiter: Waiter = {
        resourceVersion,
        resolve: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      this.#waiters.push(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  addIndex(name: string, of: IndexFunction<T>): void {
    const known = this.#indexes.get(name);
    if (known) {
      if (known.of !== of) throw new Error(`index "${name}" already means another function`);
      return;
    }
    const index: Index<T> = { of, entries: new Map() };
    this.#indexes.set(name, index);
    for (const object of this.#objects.values()) addTo(index, object);
  }

  feed(items: readonly WatcherItem<T>[]): void {
    for (const item of items) this.#take(item);
    this.#wakeWaiters();
  }

  #take(item: WatcherItem<T>): void {
    switch (item.type) {
      case 'restarted':
        this.#arriving = new Map();
        return;
      case 'applied':
        if (this.#freeze) deepFreeze(item.object);
        if (this.#arriving) this.#arriving.set(textKey(item.object), item.object);
        else this.#put(item.object);
        return;
      case 'deleted':
        if (this.#arriving) this.#arriving.delete(textKey(item.object));
        else this.#remove(item.object);
        return;
      case 'synced':
        this.#replace(item.resourceVersion);
        return;
      case 'progress':
        this.#advance(item.resourceVersion);
        return;
      case 'failed':
        return;
    }
  }

  #replace(resourceVersion: string): void {
    const arriving = this.#arriving ?? new Map<string, T>();
    this.#arriving = null;
    const gone = [...this.#objects].filter(([key]) => !arriving.has(key));
    // A store restored from a backup may count lower: a complete list is always right.
    this.#version = resourceVersion;
    for (const [, object] of gone) this.#remove(object);
    for (const object of arriving.values()) this.#put(object);
    this.#advance(resourceVersion);
    if (!this.#isSynced) {
      this.#isSynced = true;
      this.#synced.resolve();
    }
  }

  #put(object: T): void {
    const key = textKey(object);
    const old = this.#objects.get(key);
    this.#advance(object.metadata.resourceVersion ?? '');
    if (old && old.metadata.resourceVersion === object.metadata.resourceVersion) return;
    if (old) this.#unlink(old);
    this.#objects.set(key, object);
    this.#link(object);
    // Another object under the old name: whoever counts by uid must hear of both.
    if (old && old.metadata.uid !== object.metadata.uid) {
      this.#tell({ type: 'deleted', object: old });
      this.#tell({ type: 'added', object });
    } else this.#tell(old ? { type: 'updated', object, old } : { type: 'added', object });
  }

  #remove(object: T): void {
    const key = textKey(object);
    const old = this.#objects.get(key);
    this.#advance(object.metadata.resourceVersion ?? '');
    if (!old) return;
    this.#objects.delete(key);
    this.#unlink(old);
    this.#tell({ type: 'deleted', object });
  }

  #link(object: T): void {
    const namespace = object.metadata.namespace ?? '';
    if (namespace) addEntry(this.#byNamespace, namespace, object);
    for (const index of this.#indexes.values()) addTo(index, object);
  }

  #unlink(object: T): void {
    const namespace = object.metadata.namespace ?? '';
    if (namespace) removeEntry(this.#byNamespace, namespace, object);
    for (const index of this.#indexes.values()) {
      for (const value of index.of(object)) removeEntry(index.entries, value, object);
    }
  }

  #tell(change: Change<T>): void {
    for (const handler of this.#handlers) handler(change);
  }

  #advance(resourceVersion: string): void {
    if (compareResourceVersions(resourceVersion, this.#version) > 0) {
      this.#version = resourceVersion;
    }
  }

  #wakeWaiters(): void {
    if (this.#waiters.length === 0 || !this.#isSynced || this.#arriving) return;
    const ready = (w: Waiter): boolean =>
      compareResourceVersions(this.#version, w.resourceVersion) >= 0;
    const due = this.#waiters.filter(ready);
    if (due.length === 0) return;
    this.#waiters = this.#waiters.filter((w) => !ready(w));
    for (const waiter of due) waiter.resolve();
  }
}

function addTo<T>(index: Index<T>, object: T): void {
  for (const value of index.of(object)) addEntry(index.entries, value, object);
}

function addEntry<T>(entries: Map<string, Set<T>>, value: string, object: T): void {
  const set = entries.get(value);
  if (set) set.add(object);
  else entries.set(value, new Set([object]));
}

function removeEntry<T>(entries: Map<string, Set<T>>, value: string, object: T): void {
  const set = entries.get(value);
  if (!set) return;
  set.delete(object);
  if (set.size === 0) entries.delete(value);
}

function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  for (const item of Object.values(value)) deepFreeze(item);
}
