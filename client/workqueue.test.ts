import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { WorkQueue } from '#client/workqueue.ts';

function setUp() {
  const clock = manualClock();
  const stop = new AbortController();
  const queue = new WorkQueue({
    signal: stop.signal,
    clock,
    initialBackoffMs: 10,
    maxBackoffMs: 100,
  });
  return { clock, stop, queue };
}

test('a key waits once and keeps the order of arrival', async () => {
  const { queue } = setUp();
  for (const key of ['a', 'b', 'a']) queue.add(key);
  assert.equal(queue.length, 2);
  assert.deepEqual([await queue.next(), await queue.next()], ['a', 'b']);
});

test('a key added while worked on comes again only after done', async () => {
  const { queue } = setUp();
  queue.add('a');
  await queue.next();
  queue.add('a');
  queue.add('a');
  assert.equal(queue.length, 0);
  queue.done('a');
  assert.equal(await queue.next(), 'a');
  queue.done('a');
  assert.equal(queue.length, 0);
});

test('a waiting taker gets the key at once', async () => {
  const { queue } = setUp();
  const taken = queue.next();
  queue.add('a');
  assert.equal(await taken, 'a');
});

test('the earliest of several delays counts', async () => {
  const { queue, clock } = setUp();
  queue.addAfter('late', 50);
  queue.addAfter('a', 30);
  queue.addAfter('a', 10);
  queue.addAfter('a', 40);
  await clock.advance(9);
  assert.equal(queue.length, 0);
  await clock.advance(1);
  assert.equal(queue.length, 1);
  await clock.advance(39);
  assert.equal(queue.length, 1);
  await clock.advance(1);
  assert.equal(queue.length, 2);
});

test('retries back off per key up to the bound, and forget starts anew', () => {
  const { queue } = setUp();
  const delays = [1, 2, 3, 4, 5].map(() => queue.retry('a'));
  assert.deepEqual(delays, [10, 20, 40, 80, 100]);
  assert.equal(queue.retry('b'), 10);
  queue.forget('a');
  assert.equal(queue.retry('a'), 10);
});

test('abort releases takers and drops everything', async () => {
  const { queue, stop } = setUp();
  const taken = queue.next();
  queue.addAfter('a', 10);
  stop.abort(new Error('stop'));
  assert.equal(await taken, undefined);
  queue.add('b');
  assert.equal(await queue.next(), undefined);
});
