import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Feed, type History } from '#apiserver/store/feed.ts';
import { CompactedError, type WatchBatch, type WatchEvent } from '#apiserver/store/store.ts';

const event = (revision: number, key = `/k/${revision}`): WatchEvent => ({
  type: 'put',
  entry: { key, value: new Uint8Array(), createRevision: revision, modRevision: revision },
  previous: null,
});

const NO_HISTORY: History = () => {
  throw new Error('nobody should ask for history');
};

const begin = (feed: Feed, from: number, maxLag?: number) =>
  feed.watch(
    { prefix: '/k/' },
    { from, signal: new AbortController().signal, ...(maxLag === undefined ? {} : { maxLag }) },
  );

const summary = (batch: WatchBatch | void) => [batch?.events.length, batch?.revision];

test('what is published between two reads is one batch', async () => {
  const feed = new Feed(10, NO_HISTORY);
  const watch = begin(feed, 10);
  const first = watch.next();
  feed.publish([event(11), event(12, '/other/a')], 12);
  assert.deepEqual(summary((await first).value), [1, 12]);
  feed.publish([event(13)], 13);
  feed.publish([event(14), event(15)], 15);
  assert.deepEqual(summary((await watch.next()).value), [3, 15]);
});

test('a watcher enters the feed where history ends, however long that takes', async () => {
  const reached: number[] = [];
  const history: History = async function* (_range, from) {
    for (let at = from; ; ) {
      at += 1;
      reached.push(at);
      yield { events: [event(at)], revision: at };
    }
  };
  const feed = new Feed(12, history);
  const watch = begin(feed, 10);
  assert.deepEqual(summary((await watch.next()).value), [1, 11]);
  // Published while the watcher is still in history, which therefore has it.
  feed.publish([event(13)], 13);
  assert.deepEqual(summary((await watch.next()).value), [1, 12]);
  assert.deepEqual(summary((await watch.next()).value), [1, 13]);
  const live = watch.next();
  await new Promise((resolve) => setImmediate(resolve));
  feed.publish([event(14)], 14);
  assert.deepEqual(summary((await live).value), [1, 14]);
  assert.deepEqual(reached, [11, 12, 13]);
});

test('progress is a batch without events, and none is told twice', async () => {
  const feed = new Feed(5, NO_HISTORY);
  const watch = begin(feed, 5);
  const next = watch.next();
  feed.progress();
  assert.deepEqual(summary((await next).value), [0, 5]);
  const after = watch.next();
  feed.publish([event(6)], 6);
  feed.progress();
  assert.deepEqual(summary((await after).value), [1, 6]);
});

test('the bound counts what has not been read', async () => {
  const feed = new Feed(0, NO_HISTORY);
  const watch = begin(feed, 0, 2);
  const first = watch.next();
  feed.publish([event(1), event(2)], 2);
  assert.deepEqual(summary((await first).value), [2, 2]);
  feed.publish([event(3), event(4)], 4);
  feed.publish([event(5)], 5);
  await assert.rejects(watch.next(), {
    name: 'LaggedError',
    message: 'watcher is 3 events behind',
  });
});

test('an interrupted feed ends its watches and serves new ones', async () => {
  const feed = new Feed(1, NO_HISTORY);
  const watch = begin(feed, 1);
  const next = watch.next();
  feed.interrupt(9, new CompactedError(8));
  await assert.rejects(next, CompactedError);
  const fresh = begin(feed, 9).next();
  feed.publish([event(10)], 10);
  assert.deepEqual(summary((await fresh).value), [1, 10]);
});

test('reached waits for the revision, or for the end', async () => {
  const feed = new Feed(1, NO_HISTORY);
  await feed.reached(1);
  const two = feed.reached(2);
  const nine = feed.reached(9);
  feed.publish([event(2)], 2);
  await two;
  feed.close(new Error('closed'));
  await nine;
});
