import { type Clock, systemClock } from '#base/clock.ts';
import type { ObjectKey } from '#api/types.ts';
import type { Written } from '#client/actions.ts';
import type { Resource } from '#client/api.ts';
import { compareResourceVersions } from '#client/informer-store.ts';
import type { Informer } from '#client/informer.ts';

type Cache = { resource: Resource; informer: Informer };
type Pending = { informer: Informer } & (
  | { resourceVersion: string }
  | { deleted: ObjectKey; uid: string }
);

/** A cache that lags for so long is stuck; planning on old news is then the lesser evil. */
const MAX_WAIT_MS = 60_000;

/**
 * Keeps a controller from planning for a key until its caches show its own last writes for it.
 * This replaces counting expected creations and deletions.
 */
export class ConsistencyGate {
  readonly #informers = new Map<string, Informer>();
  readonly #pending = new Map<string, { writes: Pending[]; sinceMs: number }>();
  readonly #waiting = new Map<string, () => void>();
  readonly #unsubscribe: (() => void)[] = [];
  readonly #clock: Clock;
  readonly #signal: AbortSignal;

  constructor(caches: readonly Cache[], options: { signal: AbortSignal; clock?: Clock }) {
    this.#clock = options.clock ?? systemClock;
    this.#signal = options.signal;
    for (const { resource, informer } of caches) this.#informers.set(nameOf(resource), informer);
  }

  /** Notes what was written for a key. Writes to resources without a cache are not waited for. */
  expect(key: string, written: readonly Written[]): void {
    const writes: Pending[] = [];
    for (const write of written) {
      const informer = this.#informers.get(nameOf(write.resource));
      if (!informer) continue;
      writes.push(
        'uid' in write
          ? { informer, deleted: write.deleted, uid: write.uid }
          : { informer, resourceVersion: write.resourceVersion },
      );
    }
    const open = writes.filter((write) => !isSeen(write));
    if (open.length === 0) return;
    const before = this.#pending.get(key);
    this.#pending.set(key, {
      writes: [...(before?.writes ?? []), ...open],
      sinceMs: this.#clock.now(),
    });
  }

  isOpen(key: string): boolean {
    const pending = this.#pending.get(key);
    if (!pending) return true;
    pending.writes = pending.writes.filter((write) => !isSeen(write));
    if (pending.writes.length > 0 && this.#clock.now() - pending.sinceMs < MAX_WAIT_MS)
      return false;
    this.#pending.delete(key);
    return true;
  }

  /** Calls `open` once, when the caches have caught up for the key or have been given up. */
  whenOpen(key: string, open: () => void): void {
    if (this.#waiting.has(key)) return;
    this.#subscribe();
    const timer = new AbortController();
    const done = (): void => {
      timer.abort();
      this.#waiting.delete(key);
      open();
    };
    this.#waiting.set(key, done);
    const signal = AbortSignal.any([timer.signal, this.#signal]);
    const giveUp = (): void => this.#waiting.get(key)?.();
    this.#clock.sleep(MAX_WAIT_MS, { signal }).then(giveUp, () => {});
    for (const write of this.#pending.get(key)?.writes ?? []) {
      if (!('resourceVersion' in write)) continue;
      write.informer.reached(write.resourceVersion, { signal }).then(
        () => this.#check(key),
        () => {},
      );
    }
    this.#check(key);
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#waiting.clear();
  }

  /** Deletions show as changes only, so those are watched while anyone waits. */
  #subscribe(): void {
    if (this.#unsubscribe.length > 0) return;
    for (const informer of new Set(this.#informers.values())) {
      let live = false;
      this.#unsubscribe.push(
        informer.onChange((change) => {
          if (live && change.type === 'deleted') queueMicrotask(() => this.#checkAll());
        }),
      );
      live = true;
    }
  }

  #checkAll(): void {
    for (const key of this.#waiting.keys()) this.#check(key);
  }

  #check(key: string): void {
    const done = this.#waiting.get(key);
    if (done && this.isOpen(key)) done();
  }
}

function isSeen(write: Pending): boolean {
  if ('resourceVersion' in write) {
    const seen = write.informer.resourceVersion();
    return compareResourceVersions(seen, write.resourceVersion) >= 0;
  }
  const object = write.informer.get(write.deleted);
  return object?.metadata.uid !== write.uid || object.metadata.deletionTimestamp !== undefined;
}

const nameOf = (resource: Resource): string => `${resource.group}/${resource.resource}`;
