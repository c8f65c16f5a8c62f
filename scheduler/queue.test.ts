import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { SchedulingQueue } from '#scheduler/queue.ts';
import { testPod } from '#scheduler/testing.ts';

const never = () => false;
const names = (queue: SchedulingQueue): string[] => {
  const taken: string[] = [];
  for (let next = queue.take(); next; next = queue.take()) taken.push(next.pod.metadata.name ?? '');
  return taken;
};

test('higher priority goes first, then older', async () => {
  const clock = manualClock();
  const queue = new SchedulingQueue(clock, never);
  queue.set(testPod('old'));
  await clock.advance(1);
  queue.set(testPod('new'));
  queue.set(testPod('urgent', { priority: 10 }));
  assert.deepEqual(names(queue), ['urgent', 'old', 'new']);
});

test('an unschedulable pod waits for a change, and at least its back-off', async () => {
  const clock = manualClock();
  const queue = new SchedulingQueue(clock, never);
  queue.set(testPod('p'));
  assert.deepEqual(names(queue), ['p']);
  queue.failed('default/p', 'unschedulable');
  await clock.advance(60_000);
  assert.deepEqual(names(queue), []);
  queue.clusterChanged();
  assert.deepEqual(names(queue), ['p']);
  queue.failed('default/p', 'unschedulable');
  queue.clusterChanged();
  assert.deepEqual(names(queue), [], 'second failure: two seconds of back-off');
  await clock.advance(2_000);
  assert.deepEqual(names(queue), ['p']);
});

test('a change during the attempt is not missed', async () => {
  const clock = manualClock();
  const queue = new SchedulingQueue(clock, never);
  queue.set(testPod('p'));
  queue.take();
  queue.clusterChanged();
  queue.failed('default/p', 'unschedulable');
  await clock.advance(1_000);
  assert.deepEqual(names(queue), ['p']);
});

test('a forgotten unschedulable pod is tried again after five minutes', async () => {
  const clock = manualClock();
  const queue = new SchedulingQueue(clock, never);
  queue.set(testPod('p'));
  queue.take();
  queue.failed('default/p', 'unschedulable');
  await clock.advance(300_000);
  assert.deepEqual(names(queue), ['p']);
});

test('ready resolves when a pod comes, and when a back-off runs out', async () => {
  const clock = manualClock();
  const queue = new SchedulingQueue(clock, never);
  const signal = new AbortController().signal;
  const first = queue.ready(signal);
  queue.set(testPod('p'));
  await first;
  queue.take();
  queue.failed('default/p', 'error');
  let woke = false;
  const second = queue.ready(signal).then(() => {
    woke = true;
  });
  await clock.advance(900);
  assert.equal(woke, false);
  await clock.advance(100);
  await second;
  assert.deepEqual(names(queue), ['p']);
});

test('a gated pod is not taken until its gates are gone', () => {
  const queue = new SchedulingQueue(
    manualClock(),
    (pod) => (pod.spec.schedulingGates ?? []).length > 0,
  );
  queue.set(testPod('p', { schedulingGates: [{ name: 'wait' }] }));
  assert.deepEqual(names(queue), []);
  queue.set(testPod('p', { schedulingGates: [] }));
  assert.deepEqual(names(queue), ['p']);
});
