import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import type { ConfigMap } from '#api/types.ts';
import type { Resource } from '#client/api.ts';
import { ConsistencyGate } from '#client/consistency-gate.ts';
import { cacheOf } from '#client/controller.ts';
import { InformerCache } from '#client/informer-store.ts';
import { configMaps, secrets } from '#client/resources.ts';

const resource = configMaps as Resource;

function setUp() {
  const clock = manualClock(1000);
  const cache = new InformerCache<ConfigMap>();
  const { signal } = new AbortController();
  const gate = new ConsistencyGate([cacheOf(configMaps, cache)], { clock, signal });
  const object = { metadata: { name: 'a', namespace: 'd', uid: 'u', resourceVersion: '4' } };
  cache.feed([
    { type: 'restarted' },
    { type: 'applied', object },
    { type: 'synced', resourceVersion: '5' },
  ]);
  const opened: string[] = [];
  return { clock, cache, gate, object, opened, open: () => opened.push('open') };
}

test('a write that the cache shows does not close the gate, a newer one does', async () => {
  const { cache, gate, opened, open, clock } = setUp();
  gate.expect('k', [{ resource, resourceVersion: '5' }]);
  assert.equal(gate.isOpen('k'), true);
  gate.expect('k', [{ resource, resourceVersion: '7' }]);
  assert.equal(gate.isOpen('k'), false);
  assert.equal(gate.isOpen('other'), true);
  gate.whenOpen('k', open);
  cache.feed([{ type: 'progress', resourceVersion: '6' }]);
  await clock.advance(1);
  assert.deepEqual(opened, []);
  cache.feed([{ type: 'progress', resourceVersion: '7' }]);
  await clock.advance(1);
  assert.deepEqual(opened, ['open']);
  assert.equal(gate.isOpen('k'), true);
});

test('a deletion is seen when the object is gone or replaced', async () => {
  const { cache, gate, object, opened, open, clock } = setUp();
  gate.expect('k', [{ resource, deleted: { namespace: 'd', name: 'a' }, uid: 'u' }]);
  assert.equal(gate.isOpen('k'), false);
  gate.whenOpen('k', open);
  cache.feed([{ type: 'deleted', object }]);
  await clock.advance(1);
  assert.deepEqual(opened, ['open']);
});

test('a cache that stays behind is given up after a minute', async () => {
  const { gate, opened, open, clock } = setUp();
  gate.expect('k', [{ resource, resourceVersion: '99' }]);
  gate.whenOpen('k', open);
  await clock.advance(59_999);
  assert.deepEqual(opened, []);
  await clock.advance(1);
  assert.deepEqual(opened, ['open']);
  assert.equal(gate.isOpen('k'), true);
});

test('writes to what is not cached are not waited for', () => {
  const { gate } = setUp();
  gate.expect('k', [{ resource: secrets as Resource, resourceVersion: '99' }]);
  assert.equal(gate.isOpen('k'), true);
});
