import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConfigMap } from '#api/types.ts';
import { compareResourceVersions, InformerCache } from '#client/informer-store.ts';
import type { WatcherItem } from '#client/watcher.ts';

function object(name: string, resourceVersion: string, uid = `uid-${name}`): ConfigMap {
  return { metadata: { name, namespace: 'd', resourceVersion, uid, labels: { app: name } } };
}
const applied = (o: ConfigMap): WatcherItem<ConfigMap> => ({ type: 'applied', object: o });
const deleted = (o: ConfigMap): WatcherItem<ConfigMap> => ({ type: 'deleted', object: o });
const synced = (resourceVersion: string): WatcherItem<ConfigMap> => ({
  type: 'synced',
  resourceVersion,
});
const byApp = (o: ConfigMap): string[] => Object.values(o.metadata.labels ?? {});

function setUp() {
  const cache = new InformerCache<ConfigMap>({ freeze: true });
  const changes: string[] = [];
  cache.onChange((c) => changes.push(`${c.type} ${c.object.metadata.name}`));
  return { cache, changes };
}

test('nothing shows before the first list is complete', async () => {
  const { cache, changes } = setUp();
  cache.feed([{ type: 'restarted' }, applied(object('a', '1'))]);
  assert.equal(cache.hasSynced(), false);
  assert.deepEqual(cache.list(), []);
  cache.feed([synced('5')]);
  await cache.synced();
  assert.deepEqual(changes, ['added a']);
  assert.equal(cache.resourceVersion(), '5');
});

test('a second list is told as the difference to the first', () => {
  const { cache, changes } = setUp();
  const [a, b, c] = [object('a', '1'), object('b', '2'), object('c', '3')];
  cache.feed([{ type: 'restarted' }, applied(a), applied(b), applied(c), synced('3')]);
  changes.length = 0;
  cache.feed([{ type: 'restarted' }, applied(a), applied(object('b', '7'))]);
  assert.equal(cache.list().length, 3);
  cache.feed([applied(object('d', '8')), synced('9')]);
  assert.deepEqual(changes, ['deleted c', 'updated b', 'added d']);
});

test('a namesake with another uid is a deletion and an addition', () => {
  const { cache, changes } = setUp();
  cache.feed([{ type: 'restarted' }, applied(object('a', '1', 'old')), synced('1')]);
  changes.length = 0;
  cache.feed([applied(object('a', '5', 'new'))]);
  assert.deepEqual(changes, ['deleted a', 'added a']);
});

test('indexes follow changes, also when added late', () => {
  const { cache } = setUp();
  cache.feed([{ type: 'restarted' }, applied(object('a', '1')), synced('1')]);
  cache.addIndex('app', byApp);
  assert.equal(cache.byIndex('app', 'a').length, 1);
  const moved: ConfigMap = { metadata: { ...object('a', '2').metadata, labels: { app: 'z' } } };
  cache.feed([applied(moved)]);
  assert.deepEqual([cache.byIndex('app', 'a').length, cache.byIndex('app', 'z').length], [0, 1]);
  cache.feed([deleted(object('a', '3'))]);
  assert.equal(cache.byIndex('app', 'z').length, 0);
  assert.throws(() => cache.addIndex('app', () => []), /another function/);
  assert.throws(() => cache.byIndex('none', 'a'), /no index/);
});

test('reached waits for one of one own writes, by bookmark or event', async () => {
  const { cache } = setUp();
  const log: string[] = [];
  const wait = (version: string) => cache.reached(version).then(() => log.push(version));
  const first = wait('5');
  const second = wait('10');
  cache.feed([{ type: 'restarted' }, synced('4')]);
  cache.feed([applied(object('a', '6'))]);
  await first;
  assert.deepEqual(log, ['5']);
  cache.feed([{ type: 'progress', resourceVersion: '10' }]);
  await second;
  const stop = new AbortController();
  const never = cache.reached('99', { signal: stop.signal });
  stop.abort(new Error('stopped'));
  await assert.rejects(never, /stopped/);
});

test('shared objects are frozen when asked', () => {
  const { cache } = setUp();
  cache.feed([{ type: 'restarted' }, applied(object('a', '1')), synced('1')]);
  const found = cache.get({ namespace: 'd', name: 'a' });
  assert.ok(found);
  assert.throws(() => {
    found.metadata.name = 'b';
  }, TypeError);
});

test('versions compare as numbers', () => {
  assert.ok(compareResourceVersions('9', '10') < 0);
  assert.ok(compareResourceVersions('21', '20') > 0);
  assert.equal(compareResourceVersions('7', '7'), 0);
  assert.ok(compareResourceVersions('', '1') < 0);
});
