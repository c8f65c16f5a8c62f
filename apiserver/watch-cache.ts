import type { Kind } from '#api/kind.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type {
  CommitResult,
  Entry,
  Revision,
  Store,
  WatchEvent,
  Write,
} from '#apiserver/store/store.ts';
import { StoreUnavailableError } from '#apiserver/store/store.ts';
import { CacheEntry, spliceVersion } from '#apiserver/watch-cache-entry.ts';
import { ResourceCache } from '#apiserver/watch-cache-resource.ts';

/** Every object's key begins with this. */
export const REGISTRY = '/registry/';

/** Entries per read of the initial load; bounds the size of one answer of the store. */
const LOAD_PAGE = 2_000;
/** A broken feed is set up again after this long. */
const FEED_RETRY_MS = 200;

/** Where a stored kind's objects lie: `/registry/apps/deployments/`. */
export function storagePrefix(group: string, plural: string): string {
  return `${REGISTRY}${group || 'core'}/${plural}/`;
}

export const idOf = (key: ObjectKey): string =>
  key.namespace ? `${key.namespace}/${key.name}` : key.name;

/** The kind under which objects of `kind` are stored. */
export const storedKind = (kind: Kind): Kind => (kind.storedAs ? kind.storedAs.kind() : kind);

type OwnCommit = {
  key: string;
  value: Uint8Array | null;
  object: KubeObject | undefined;
  seal: string | undefined;
};

/**
 * Everything in the store, decoded and encoded at most once. One feed of all commits fills it, in
 * order; commits made through `commit` enter at once when they are next in the sequence, so that
 * a write's answer and the reads after it agree.
 */
export class WatchCache {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Whether this process alone writes to the store, so that the cache is never behind. */
  readonly #exclusive: boolean;
  readonly #resources = new Map<string, ResourceCache>();
  readonly #own = new Map<Revision, OwnCommit>();
  #waiters: { revision: Revision; wake: () => void; fail: (error: Error) => void }[] = [];
  /** Nothing new comes any more, and nobody must wait for it. */
  #ended: Error | undefined;
  #revision = 0;
  #forgotten = 0;
  /** Resources unseen until now have had no events since then. */
  #loadedAt = 0;
  #asking: Promise<Revision> | undefined;

  constructor(options: { store: Store; exclusive: boolean; clock: Clock; log: Log }) {
    this.#store = options.store;
    this.#exclusive = options.exclusive;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Everything up to this commit is in the cache. */
  get revision(): Revision {
    return this.#revision;
  }

  get store(): Store {
    return this.#store;
  }

  of(kind: Kind): ResourceCache {
    const stored = storedKind(kind);
    return this.at(stored.group, stored.plural);
  }

  at(group: string, plural: string): ResourceCache {
    return this.#resource(storagePrefix(group, plural));
  }

  /** All resources that have or had objects. */
  resources(): Iterable<ResourceCache> {
    return this.#resources.values();
  }

  /** Reads the whole store. Call once, before `run`. */
  async load(): Promise<void> {
    let after: string | undefined;
    let at: Revision | undefined;
    for (;;) {
      const page = await this.#store.list(
        { prefix: REGISTRY },
        { limit: LOAD_PAGE, ...(after ? { after } : {}), ...(at ? { at } : {}) },
      );
      at ??= page.revision;
      if (this.#revision === 0) this.#revision = this.#loadedAt = page.revision;
      for (const entry of page.entries) {
        const place = this.#locate(entry.key);
        if (!place) continue;
        const value = this.#read(place, () => entry.value);
        if (!value) continue;
        place.resource.load(
          new CacheEntry({
            id: place.id,
            createRevision: entry.createRevision,
            revision: entry.modRevision,
            wire: spliceVersion(value, entry.modRevision),
            seal: entry.seal,
          }),
        );
      }
      const last = page.entries.at(-1);
      if (page.remaining === 0 || !last) return;
      after = last.key;
    }
  }

  /**
   * Follows the store until the signal aborts. A feed that breaks is continued where it ended.
   * Whoever then still waits for a revision gets a StoreUnavailableError.
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#follow(signal);
    } finally {
      this.#ended = new StoreUnavailableError('the server is stopping');
      for (const waiter of this.#waiters.splice(0)) waiter.fail(this.#ended);
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const range = { prefix: REGISTRY };
        for await (const batch of this.#store.watch(range, { from: this.#revision, signal })) {
          this.#feed(batch.events);
          if (batch.revision > this.#revision) this.#settle(batch.revision);
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#log.warn('feed of the store broke; continuing', { error: errorText(error) });
        await this.#clock.sleep(FEED_RETRY_MS, { signal }).catch(() => {});
      }
    }
  }

  /**
   * Commits to the store; when it succeeds the cache contains the commit before this resolves.
   * `object` is what `value` encodes, with its resourceVersion still to be set (spares a parse).
   */
  async commit(write: Write, object?: KubeObject): Promise<CommitResult> {
    const seal = this.#store.sealFor?.(write.key);
    const result = await this.#store.commit(write);
    if (!result.ok) return result;
    const { revision } = result;
    if (revision > this.#revision) {
      this.#own.set(revision, { key: write.key, value: write.value, object, seal });
      this.#drainOwn();
      if (revision > this.#revision) await this.reached(revision);
    }
    return result;
  }

  /** Resolves when the cache contains everything up to `revision`. */
  reached(revision: Revision, signal?: AbortSignal): Promise<void> {
    if (this.#revision >= revision) return Promise.resolve();
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const waiter = { revision, wake: resolve, fail: reject };
      this.#waiters.push(waiter);
      signal?.addEventListener(
        'abort',
        () => {
          this.#waiters = this.#waiters.filter((w) => w !== waiter);
          reject(signal.reason);
        },
        { once: true },
      );
    });
  }

  /**
   * Resolves when the cache shows everything acknowledged before the call, by any server.
   * Returns nothing when that is so already: callers need not wait a turn.
   */
  fresh(): Promise<void> | undefined {
    if (this.#exclusive) return undefined;
    return this.#freshen();
  }

  async #freshen(): Promise<void> {
    // A question under way may have been answered before our moment; the next one serves all.
    if (this.#asking) await this.#asking.catch(() => {});
    this.#asking ??= this.#store.revision().finally(() => {
      this.#asking = undefined;
    });
    await this.reached(await this.#asking);
  }

  /** Synchronous reads for authorization and admission. */
  reader(): ObjectReader {
    return {
      get: <T extends KubeObject>(group: string, resource: string, key: ObjectKey) =>
        this.at(group, resource).get(idOf(key))?.object as T | undefined,
      list: <T extends KubeObject>(group: string, resource: string, namespace = '') => {
        const cache = this.at(group, resource);
        const entries = namespace === '' ? cache.all() : cache.range(namespace);
        return entries.map((entry) => entry.object as T);
      },
      generation: (group, resource) => this.at(group, resource).generation,
    };
  }

  /** Snapshots before this revision are gone, whether or not anything has changed since. */
  get forgotten(): Revision {
    return this.#forgotten;
  }

  /** After compaction: events at or before `revision` are no longer offered. */
  forget(revision: Revision): void {
    this.#forgotten = Math.max(this.#forgotten, revision);
    for (const resource of this.#resources.values()) resource.forget(revision);
  }

  #resource(prefix: string): ResourceCache {
    let resource = this.#resources.get(prefix);
    if (!resource) {
      resource = new ResourceCache(prefix, this.#loadedAt);
      this.#resources.set(prefix, resource);
    }
    return resource;
  }

  #locate(key: string): { resource: ResourceCache; id: string } | null {
    const group = key.indexOf('/', REGISTRY.length);
    const plural = key.indexOf('/', group + 1);
    if (group < 0 || plural < 0 || plural === key.length - 1) return null;
    return { resource: this.#resource(key.slice(0, plural + 1)), id: key.slice(plural + 1) };
  }

  /** Events of one commit share a revision (keys of one expired lease): they settle together. */
  #feed(events: readonly WatchEvent[]): void {
    let applied = 0;
    for (const event of events) {
      const revision = event.type === 'put' ? event.entry.modRevision : event.revision;
      if (revision <= this.#revision) continue;
      if (applied !== 0 && applied !== revision) this.#settle(applied);
      applied = revision;
      if (event.type === 'put') {
        const { key, value, object, seal } = this.#own.get(revision) ?? {};
        if (key === event.entry.key && value) this.#put(key, value, revision, object, seal);
        else this.#putStored(event.entry, revision);
      } else this.#remove(event.key, revision);
    }
    if (applied !== 0) this.#settle(applied);
  }

  /** Own commits that are next in the sequence enter without waiting for the feed. */
  #drainOwn(): void {
    for (;;) {
      const revision = this.#revision + 1;
      const own = this.#own.get(revision);
      if (!own) return;
      if (own.value) this.#put(own.key, own.value, revision, own.object, own.seal);
      else this.#remove(own.key, revision);
      this.#settle(revision);
    }
  }

  /** What another server, or an earlier connection to the store, has written. */
  #putStored(entry: Entry, revision: Revision): void {
    const place = this.#locate(entry.key);
    const value = place && this.#read(place, () => entry.value);
    if (value) this.#put(entry.key, value, revision, undefined, entry.seal);
  }

  /** A value that cannot be read is the matter of who asks for it, not of the whole cache. */
  #read(
    { resource, id }: { resource: ResourceCache; id: string },
    read: () => Uint8Array,
  ): Uint8Array | null {
    try {
      return read();
    } catch (error) {
      this.#log.error('a stored object cannot be read', { error: errorText(error) });
      resource.loseSight(id, error);
      return null;
    }
  }

  #put(
    key: string,
    value: Uint8Array,
    revision: Revision,
    object: KubeObject | undefined,
    seal: string | undefined,
  ): void {
    const place = this.#locate(key);
    if (!place) return;
    const previous = place.resource.get(place.id);
    if (object) object.metadata.resourceVersion = String(revision);
    place.resource.put(
      new CacheEntry({
        id: place.id,
        createRevision: previous?.createRevision ?? revision,
        revision,
        wire: spliceVersion(value, revision),
        object,
        seal,
      }),
    );
  }

  #remove(key: string, revision: Revision): void {
    const place = this.#locate(key);
    place?.resource.remove(place.id, revision);
  }

  #settle(revision: Revision): void {
    this.#revision = revision;
    this.#own.delete(revision);
    if (this.#waiters.length === 0) return;
    const due = this.#waiters.filter((w) => w.revision <= revision);
    if (due.length === 0) return;
    this.#waiters = this.#waiters.filter((w) => w.revision > revision);
    for (const waiter of due) waiter.wake();
  }
}
