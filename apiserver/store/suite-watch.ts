import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  collect,
  describeEvent,
  put,
  remove,
  revisionOf,
  text,
} from '#apiserver/store/suite-material.ts';
import type { SuiteContext } from '#apiserver/store/suite.ts';
import { CompactedError, LaggedError, type WatchBatch } from '#apiserver/store/store.ts';

/** Watches: live, from the past, their bounds and their end. */
export function watchSuite(context: SuiteContext): void {
  describe('watch', () => {
    deliveryTests(context);
    handoverTests(context);
    boundTests(context);
    endTests(context);
  });
}

function deliveryTests({ store, prefix }: SuiteContext): void {
  const script = async (own: string) => {
    await put(store(), `${own}a`, 'a1');
    await put(store(), `/elsewhere${own}`, 'x');
    await put(store(), `${own}b`, 'b1');
    await put(store(), `${own}a`, 'a2');
    await remove(store(), `${own}a`);
    return put(store(), `${own}a`, 'a3');
  };
  const expected = (own: string) => [
    `put ${own}a a1`,
    `put ${own}b b1`,
    `put ${own}a a2 was a1`,
    `delete ${own}a was a2`,
    `put ${own}a a3`,
  ];

  test('a live watch delivers its range with the values before', async () => {
    const own = prefix();
    const from = await store().revision();
    const watch = collect(store(), own, from);
    const taken = watch.take(5);
    await script(own);
    assert.deepEqual((await taken).map(describeEvent), expected(own));
    assert.deepEqual(
      watch.events.map(revisionOf),
      [1, 3, 4, 5, 6].map((n) => from + n),
    );
    await watch.stop();
  });

  test('a watch from an old revision delivers the same', async () => {
    const own = prefix();
    const from = await store().revision();
    await script(own);
    for (let skip = 0; skip <= 6; skip++) {
      const later = [1, 3, 4, 5, 6].filter((n) => n > skip).map((n) => from + n);
      const watch = collect(store(), own, from + skip);
      const events = await watch.take(later.length);
      assert.deepEqual(events.map(revisionOf), later);
      assert.deepEqual(events.map(describeEvent), expected(own).slice(5 - later.length));
      await watch.stop();
    }
  });

  test('events of a put carry the entry as a read shows it', async () => {
    const own = prefix();
    const from = await store().revision();
    const watch = collect(store(), own, from);
    await put(store(), `${own}a`, '1');
    const { entry } = await store().get(`${own}a`);
    await put(store(), `${own}a`, '2');
    const [first, second] = await watch.take(2);
    assert.deepEqual(first, { type: 'put', entry, previous: null });
    assert.ok(second?.type === 'put');
    assert.deepEqual(second.previous, entry);
    assert.equal(second.entry.createRevision, entry?.createRevision);
    await watch.stop();
  });

  test('a watch from a revision to come starts there', async () => {
    const own = prefix();
    const from = await store().revision();
    const watch = collect(store(), own, from + 2);
    const taken = watch.take(1);
    for (const value of ['1', '2', '3']) await put(store(), `${own}a`, value);
    assert.deepEqual((await taken).map(revisionOf), [from + 3]);
    await watch.stop();
  });
}

function handoverTests({ store, prefix }: SuiteContext): void {
  test('watches begun at any moment of a write load see every commit once, in order', async () => {
    const own = prefix();
    const start = await store().revision();
    const total = 600;
    const watches: { from: number; done: Promise<number[]> }[] = [];
    for (let sent = 0; sent < total; sent += 30) {
      const writes = Array.from({ length: 30 }, (_, n) =>
        put(store(), `${own}${(sent + n) % 50}`, String(sent + n)),
      );
      // One from the beginning, one from what is known now.
      for (const from of [start, await store().revision()]) {
        const watch = collect(store(), own, from);
        const done = watch.reach(start + total).then(async () => {
          await watch.stop();
          return watch.events.map(revisionOf);
        });
        watches.push({ from, done });
      }
      await Promise.all(writes);
    }
    for (const { from, done } of watches) {
      const expected = Array.from({ length: start + total - from }, (_, n) => from + 1 + n);
      assert.deepEqual(await done, expected);
    }
  });

  test('a batch says how far it goes: nothing up to there comes later', async () => {
    const own = prefix();
    const from = await store().revision();
    let reached = from;
    const check = ({ events, revision }: WatchBatch) => {
      for (const event of events) {
        assert.ok(revisionOf(event) > reached && revisionOf(event) <= revision);
      }
      assert.ok(revision >= reached);
      reached = revision;
    };
    await Promise.all(Array.from({ length: 50 }, (_, n) => put(store(), `${own}${n}`, 'a')));
    const watch = collect(store(), own, from, check);
    const taken = watch.take(100);
    await Promise.all(Array.from({ length: 50 }, (_, n) => put(store(), `${own}${n}`, 'b')));
    await taken;
    await watch.stop();
    assert.equal(reached >= from + 100, true);
  });
}

function boundTests({ store, prefix, passTime }: SuiteContext): void {
  test('a watch from forgotten history throws CompactedError', async () => {
    const own = prefix();
    const first = await put(store(), `${own}a`, '1');
    await put(store(), `${own}a`, '2');
    const mark = await put(store(), `${own}a`, '3');
    await put(store(), `${own}a`, '4');
    await store().compact(mark);
    for (const from of [first, mark - 1]) {
      await assert.rejects(
        collect(store(), own, from).take(1),
        (error) => error instanceof CompactedError && error.compactedRevision === mark,
      );
    }
    const watch = collect(store(), own, mark);
    assert.deepEqual((await watch.take(1)).map(describeEvent), [`put ${own}a 4 was 3`]);
    await watch.stop();
  });

  test('a watcher that does not keep up gets LaggedError', async () => {
    const own = prefix();
    const from = await store().revision();
    const { signal } = new AbortController();
    const slow = store().watch({ prefix: own }, { from, signal, maxLag: 10 });
    const batches = slow[Symbol.asyncIterator]();
    const first = batches.next();
    await put(store(), `${own}a`, '0');
    assert.equal((await first).value?.events.length, 1);
    const quick = collect(store(), own, from);
    for (let n = 1; n <= 11; n++) await put(store(), `${own}a`, String(n));
    // Who has read on is not bothered; and by now the slow one's events are there as well.
    await quick.take(12);
    await quick.stop();
    await assert.rejects(batches.next(), LaggedError);
    assert.equal((await batches.next()).done, true);
  });

  test('history may be longer than the bound on lag', async () => {
    const own = prefix();
    const from = await store().revision();
    for (let n = 0; n < 30; n++) await put(store(), `${own}a`, String(n));
    const abort = new AbortController();
    const seen: string[] = [];
    const options = { from, signal: abort.signal, maxLag: 10 };
    for await (const { events } of store().watch({ prefix: own }, options)) {
      for (const event of events) if (event.type === 'put') seen.push(text(event.entry.value));
      if (seen.length === 30) break;
    }
    assert.deepEqual(
      seen,
      Array.from({ length: 30 }, (_, n) => String(n)),
    );
  });

  test('progress comes while nothing happens in the range', async () => {
    const own = prefix();
    const from = await put(store(), `${own}a`, '1');
    const watch = collect(store(), own, from);
    const elsewhere = await put(store(), `${prefix()}b`, '1');
    const reached = watch.reach(elsewhere);
    await passTime(1_100);
    assert.deepEqual(await reached, { events: [], revision: elsewhere });
    const again = watch.reach(elsewhere);
    await passTime(1_100);
    assert.deepEqual(await again, { events: [], revision: elsewhere });
    await watch.stop();
  });
}

function endTests({ store, prefix }: SuiteContext): void {
  test('an aborted watch ends quietly: before, while waiting, in between', async () => {
    const own = prefix();
    const from = await store().revision();
    const over = { value: undefined, done: true };
    const begin = (signal: AbortSignal) =>
      store().watch({ prefix: own }, { from, signal })[Symbol.asyncIterator]();
    assert.deepEqual(await begin(AbortSignal.abort()).next(), over);

    const waiting = new AbortController();
    const next = begin(waiting.signal).next();
    waiting.abort();
    assert.deepEqual(await next, over);

    const between = new AbortController();
    const batches = begin(between.signal);
    const first = batches.next();
    await put(store(), `${own}a`, '1');
    assert.equal((await first).done, false);
    await put(store(), `${own}a`, '2');
    between.abort();
    assert.deepEqual(await batches.next(), over);
  });

  test('a watch left by break is forgotten', async () => {
    const own = prefix();
    const from = await store().revision();
    await put(store(), `${own}a`, '1');
    const { signal } = new AbortController();
    for await (const batch of store().watch({ prefix: own }, { from, signal, maxLag: 1 })) {
      assert.equal(batch.events.length, 1);
      break;
    }
    // Would be beyond its bound, were it still there.
    for (const value of ['2', '3', '4']) await put(store(), `${own}a`, value);
  });
}
