import assert from 'node:assert/strict';
import type { Revision, Store, WatchBatch, WatchEvent, Write } from '#apiserver/store/store.ts';

/** Bytes and readings that the store suite's tests share. */
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (value: Uint8Array): string => new TextDecoder().decode(value);

/** Commits what must succeed; returns the revision. */
export async function write(store: Store, commit: Write): Promise<Revision> {
  const result = await store.commit(commit);
  assert.ok(result.ok, `commit of ${commit.key} met a conflict`);
  return result.revision;
}

export const put = (store: Store, key: string, value: string): Promise<Revision> =>
  write(store, { key, expect: 'any', value: bytes(value) });

export const remove = (store: Store, key: string): Promise<Revision> =>
  write(store, { key, expect: 'any', value: null });

/** Events of one watch, as they come. */
export type Collector = {
  /** All events so far, waiting until there are at least `count`. */
  take(count: number): Promise<WatchEvent[]>;
  /** Waits for a batch whose revision is at least this one. */
  reach(revision: Revision): Promise<WatchBatch>;
  events: WatchEvent[];
  stop(): Promise<void>;
};

/** A watch that is begun at once and read one batch ahead; what it throws, the methods throw. */
export function collect(
  store: Store,
  prefix: string,
  from: Revision,
  onBatch: (batch: WatchBatch) => void = () => {},
): Collector {
  const abort = new AbortController();
  const batches = store.watch({ prefix }, { from, signal: abort.signal });
  const iterator = batches[Symbol.asyncIterator]();
  const events: WatchEvent[] = [];
  const begin = () => {
    const coming = iterator.next();
    // Whoever awaits it sees the failure.
    coming.catch(() => {});
    return coming;
  };
  let coming = begin();
  const next = async (): Promise<WatchBatch> => {
    const { value, done } = await coming;
    assert.ok(!done, 'the watch has ended');
    coming = begin();
    onBatch(value);
    events.push(...value.events);
    return value;
  };
  return {
    events,
    async take(count) {
      while (events.length < count) await next();
      return events;
    },
    async reach(revision) {
      for (;;) {
        const batch = await next();
        if (batch.revision >= revision) return batch;
      }
    },
    async stop() {
      abort.abort();
      while (!(await coming).done) coming = begin();
    },
  };
}

/** A watch event in a line, for comparison: `put /k v2 was v1`, `delete /k was v2`. */
export function describeEvent(event: WatchEvent): string {
  const was = event.previous === null ? '' : ` was ${text(event.previous.value)}`;
  return event.type === 'put'
    ? `put ${event.entry.key} ${text(event.entry.value)}${was}`
    : `delete ${event.key}${was}`;
}

export const revisionOf = (event: WatchEvent): Revision =>
  event.type === 'put' ? event.entry.modRevision : event.revision;
