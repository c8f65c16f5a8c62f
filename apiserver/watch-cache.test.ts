import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeObject } from '#api/encode.ts';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { CommitResult, Entry, Store, WatchBatch, Write } from '#apiserver/store/store.ts';
import { CacheEntry, respliceVersion, spliceVersion } from '#apiserver/watch-cache-entry.ts';
import { listSegments } from '#apiserver/watch-cache-list.ts';
import type { CacheEvent } from '#apiserver/watch-cache-resource.ts';
import { RING_EVENTS, ResourceCache } from '#apiserver/watch-cache-resource.ts';
import { WatchCache, storagePrefix } from '#apiserver/watch-cache.ts';

const stored = (name: string, extra: object = {}) =>
  encodeObject({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, ...extra });

const entry = (id: string, revision: number): CacheEntry =>
  new CacheEntry({
    id,
    createRevision: revision,
    revision,
    wire: spliceVersion(stored(id.slice(id.indexOf('/') + 1)), revision),
  });

test('the version is spliced into stored bytes and out again', () => {
  const wire = spliceVersion(stored('a', { data: { metadata: '"metadata":{' } }), 12);
  assert.deepEqual(JSON.parse(wire.toString()), {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { resourceVersion: '12', name: 'a' },
    data: { metadata: '"metadata":{' },
  });
  assert.equal(
    JSON.parse(respliceVersion(wire, 12, 1234).toString()).metadata.resourceVersion,
    '1234',
  );
  const bare = spliceVersion(Buffer.from('{"metadata":{}}'), 7);
  assert.equal(bare.toString(), '{"metadata":{"resourceVersion":"7"}}');
});

test('a range is a namespace, in key order, after an id', () => {
  const cache = new ResourceCache('/registry/core/configmaps/', 1);
  for (const [i, id] of ['b/x', 'a-0/z', 'a/c', 'a/a', 'a/b', 'a.b/q'].entries()) {
    cache.put(entry(id, i + 2));
  }
  assert.deepEqual(
    cache.all().map((e) => e.id),
    ['a-0/z', 'a.b/q', 'a/a', 'a/b', 'a/c', 'b/x'],
  );
  assert.deepEqual(
    cache.range('a').map((e) => e.id),
    ['a/a', 'a/b', 'a/c'],
  );
  assert.deepEqual(
    cache.range('a', 'a/a').map((e) => e.id),
    ['a/b', 'a/c'],
  );
  assert.deepEqual(
    cache.range('a', 'a/bb').map((e) => e.id),
    ['a/c'],
  );
  assert.deepEqual(cache.range('none'), []);
  assert.deepEqual(
    cache.range('', 'a/c').map((e) => e.id),
    ['b/x'],
  );
  cache.remove('a/b', 20);
  assert.deepEqual(
    cache.range('a').map((e) => e.id),
    ['a/a', 'a/c'],
  );
  assert.equal(cache.get('a/b'), undefined);
});

test('the ring gives every event after a revision, or says that it cannot', () => {
  const cache = new ResourceCache('/registry/core/configmaps/', 10);
  for (let revision = 11; revision <= 13; revision++) cache.put(entry('a/a', revision));
  assert.deepEqual(
    cache.since(10)?.map((e) => e.revision),
    [11, 12, 13],
  );
  assert.deepEqual(
    cache.since(12)?.map((e) => e.revision),
    [13],
  );
  assert.deepEqual(cache.since(99), []);
  assert.equal(cache.since(9), null);
  for (let revision = 14; revision <= 14 + 2 * RING_EVENTS; revision++) {
    cache.put(entry('a/a', revision));
  }
  assert.equal(cache.since(13), null);
  assert.ok((cache.since(14 + RING_EVENTS)?.length ?? 0) >= RING_EVENTS);
  cache.forget(14 + 2 * RING_EVENTS);
  assert.deepEqual(cache.since(14 + 2 * RING_EVENTS), []);
  assert.equal(cache.since(13 + 2 * RING_EVENTS), null);
});

test('frames are made once and a removal shows the revision of the removal', () => {
  const cache = new ResourceCache('/registry/core/configmaps/', 1);
  const events: CacheEvent[] = [];
  const stop = cache.listen((event) => events.push(event));
  cache.put(entry('a/a', 2));
  cache.remove('a/a', 3);
  stop();
  cache.put(entry('a/a', 4));
  const [added, removed] = events;
  assert.equal(events.length, 2);
  assert.ok(added && removed);
  assert.equal(added.frame('ADDED'), added.frame('ADDED'));
  const frame = removed.frame('DELETED').toString();
  assert.ok(frame.endsWith('}\n'));
  const parsed = JSON.parse(frame);
  assert.equal(parsed.type, 'DELETED');
  assert.equal(parsed.object.metadata.resourceVersion, '3');
  assert.equal(parsed.object.metadata.name, 'a');
});

test('list segments are shared until one of their entries changes', () => {
  const entries = Array.from({ length: 1_000 }, (_, i) => entry(`a/pod-${i}`, i + 2));
  const skip = 1;
  const first = listSegments(entries, skip);
  assert.ok(first.length > 5);
  const text = `[${Buffer.concat(first).subarray(1).toString()}]`;
  assert.deepEqual(
    JSON.parse(text).map((o: { metadata: { name: string } }) => o.metadata.name),
    entries.map((e) => e.name),
  );
  const again = listSegments(entries, skip);
  assert.ok(again.every((piece, i) => piece === first[i]));
  const changed = entries.with(500, entry('a/pod-500', 5_000));
  const after = listSegments(changed, skip);
  assert.equal(after.filter((piece) => !first.includes(piece)).length, 1);
  const inserted = entries.toSpliced(3, 0, entry('a/pod-2x', 6_000));
  const fresh = listSegments(inserted, skip).filter((piece) => !first.includes(piece));
  assert.ok(fresh.length <= 3, `${fresh.length} segments were made anew`);
});

/** A store whose feed and acknowledgements the test gives by hand. */
class HandStore {
  revision = 1;
  #batches: WatchBatch[] = [];
  #wake: () => void = () => {};

  store(): Store {
    return {
      revision: async () => this.revision,
      get: async () => ({ entry: null, revision: this.revision }),
      list: async () => ({ entries: [], revision: this.revision, remaining: 0 }),
      commit: async (write: Write): Promise<CommitResult> => {
        void write;
        this.revision++;
        return { ok: true, revision: this.revision };
      },
      watch: (_range, { signal }) => this.#feed(signal),
      compact: async () => {},
      close: async () => {},
    };
  }

  feed(batch: WatchBatch): void {
    this.#batches.push(batch);
    this.#wake();
  }

  async *#feed(signal: AbortSignal): AsyncGenerator<WatchBatch, void, void> {
    signal.addEventListener('abort', () => this.#wake());
    while (!signal.aborted) {
      const batch = this.#batches.shift();
      if (batch) yield batch;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

const PREFIX = storagePrefix('', 'configmaps');
const put = (name: string, revision: number): { type: 'put'; entry: Entry; previous: null } => ({
  type: 'put',
  entry: {
    key: `${PREFIX}a/${name}`,
    value: stored(name),
    createRevision: revision,
    modRevision: revision,
  },
  previous: null,
});

async function withCache(
  run: (cache: WatchCache, hand: HandStore) => Promise<void>,
): Promise<void> {
  const hand = new HandStore();
  const cache = new WatchCache({
    store: hand.store(),
    exclusive: false,
    clock: systemClock,
    log: silentLog,
  });
  await cache.load();
  const stop = new AbortController();
  const running = cache.run(stop.signal);
  try {
    await run(cache, hand);
  } finally {
    stop.abort();
    await running;
  }
}

test("an own commit that is next enters at once, without the feed's help", () =>
  withCache(async (cache) => {
    const result = await cache.commit({
      key: `${PREFIX}a/x`,
      expect: 'absent',
      value: stored('x'),
    });
    assert.deepEqual(result, { ok: true, revision: 2 });
    assert.equal(cache.revision, 2);
    assert.equal(cache.at('', 'configmaps').get('a/x')?.object.metadata.resourceVersion, '2');
  }));

test("an own commit waits for others' commits before it, and order is kept", () =>
  withCache(async (cache, hand) => {
    const seen: number[] = [];
    cache.at('', 'configmaps').listen((event) => seen.push(event.revision));
    hand.revision = 2; // somebody else's commit, which the feed has not brought yet
    const own = cache.commit({ key: `${PREFIX}a/x`, expect: 'absent', value: stored('x') });
    let done = false;
    void own.then(() => (done = true));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(done, false);
    hand.feed({ events: [put('other', 2), put('x', 3)], revision: 3 });
    await own;
    assert.deepEqual(seen, [2, 3]);
    hand.feed({ events: [put('x', 3)], revision: 3 }); // a repeat changes nothing
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(seen, [2, 3]);
  }));

test('all events of one commit enter, though they share its revision', () =>
  withCache(async (cache, hand) => {
    hand.feed({ events: [put('p', 2), put('q', 2)], revision: 2 });
    await cache.reached(2);
    assert.deepEqual(
      cache
        .at('', 'configmaps')
        .all()
        .map((e) => e.name),
      ['p', 'q'],
    );
  }));

test('a fresh read waits until the cache has reached the store', () =>
  withCache(async (cache, hand) => {
    hand.revision = 5;
    let fresh = false;
    const reading = cache.fresh()?.then(() => (fresh = true));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(fresh, false);
    hand.feed({ events: [], revision: 5 });
    await reading;
    assert.equal(cache.revision, 5);
  }));
