import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import type { ConfigMap, Pod } from '#api/types.ts';
import { createInformers } from '#client/informer-factory.ts';
import { configMaps, secrets } from '#client/resources.ts';
import { simulateApi } from '#client/simulated-api.ts';
import { referencedObjects } from '#node-agent/pods/referenced-objects.ts';
import { referencesOf, WatchedObjects } from '#node-agent/pods/watched-objects.ts';

function pod(uid: string, spec: object): Pod {
  return {
    metadata: { name: uid, namespace: 'ns', uid },
    spec: { containers: [{ name: 'main' }], ...spec },
  } as unknown as Pod;
}
const withMaps = (uid: string, ...names: string[]): Pod =>
  pod(uid, { volumes: names.map((name) => ({ name, configMap: { name } })) });

test('every place of a pod that names a ConfigMap or Secret is found, once', () => {
  const found = referencesOf(
    pod('p', {
      volumes: [
        { name: 'a', configMap: { name: 'c1' } },
        { name: 'b', secret: { secretName: 's1' } },
        {
          name: 'c',
          projected: {
            sources: [{ configMap: { name: 'c2' } }, { secret: { name: 's2' } }, {}],
          },
        },
        { name: 'd', emptyDir: {} },
      ],
      initContainers: [{ name: 'i', envFrom: [{ configMapRef: { name: 'c3' } }] }],
      containers: [
        {
          name: 'm',
          env: [
            { name: 'x', valueFrom: { secretKeyRef: { name: 's3', key: 'k' } } },
            { name: 'y', valueFrom: { configMapKeyRef: { name: 'c1', key: 'k' } } },
            { name: 'z', value: 'plain' },
          ],
        },
      ],
      ephemeralContainers: [{ name: 'e', envFrom: [{ secretRef: { name: 's4' } }] }],
      imagePullSecrets: [{ name: 's5' }, {}],
    }),
  );
  const names = found.map(({ resource, name }) => `${resource}/${name}`).sort();
  assert.deepEqual(
    names,
    ['c1', 'c2', 'c3']
      .map((n) => `configmaps/${n}`)
      .concat(['s1', 's2', 's3', 's4', 's5'].map((n) => `secrets/${n}`)),
  );
});

function world() {
  const clock = manualClock(1_000_000);
  const api = simulateApi({ clock });
  const stop = new AbortController();
  after(() => stop.abort(new Error('test is over')));
  const watching: string[] = [];
  let gets = 0;
  const spied = {
    ...api,
    get: (...args: Parameters<typeof api.get>) => {
      gets++;
      return api.get(...args);
    },
    watch: (...[resource, options]: Parameters<typeof api.watch>) => {
      const name = options?.fieldSelector ?? '';
      watching.push(name);
      options?.signal?.addEventListener('abort', () => watching.splice(watching.indexOf(name), 1));
      return api.watch(resource, options);
    },
  } as typeof api;
  const informers = createInformers(spied, { signal: stop.signal, clock });
  const told: string[] = [];
  let wake: () => void = () => {};
  const objects = new WatchedObjects({
    informers,
    direct: referencedObjects(spied, clock),
    clock,
    onChange: (uid) => {
      told.push(uid);
      wake();
    },
  });
  const put = (name: string, data: string, more: object = {}) => {
    const object = { metadata: { name, namespace: 'ns' }, data: { k: data }, ...more };
    return api.create(configMaps, object as ConfigMap);
  };
  const change = async (name: string, data: string) => {
    const old = await api.get(configMaps, { namespace: 'ns', name });
    return api.update(configMaps, { ...old, data: { k: data } });
  };
  const news = async (count: number) => {
    while (told.length < count) await new Promise<void>((resolve) => (wake = resolve));
    return told.splice(0).sort();
  };
  const read = async (name: string) => (await objects.configMap('ns', name))?.data?.['k'];
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    api,
    clock,
    objects,
    put,
    change,
    news,
    told,
    read,
    settled,
    watching,
    gets: () => gets,
  };
}

test('a change is told to the pods that use the object, and read from the watch', async () => {
  const w = world();
  await w.put('a', 'one');
  w.objects.follow(withMaps('p1', 'a'));
  w.objects.follow(withMaps('p2', 'a', 'b'));
  assert.equal(await w.read('a'), 'one');
  assert.equal(await w.read('b'), undefined);
  await w.settled();
  assert.deepEqual(w.told, [], 'the first list is no news to who has read');
  assert.deepEqual(w.watching.sort(), ['metadata.name=a', 'metadata.name=b']);
  await w.change('a', 'two');
  assert.deepEqual(await w.news(2), ['p1', 'p2']);
  const before = w.gets();
  assert.equal(await w.read('a'), 'two');
  assert.equal(w.gets(), before);
  await w.put('b', 'here');
  assert.deepEqual(await w.news(1), ['p2']);
  assert.equal(await w.read('b'), 'here');
  await w.api.delete(configMaps, { namespace: 'ns', name: 'b' });
  assert.deepEqual(await w.news(1), ['p2']);
  assert.equal(await w.read('b'), undefined);
});

test('what changes between a read and the start of the watch is told', async () => {
  const w = world();
  await w.put('a', 'one');
  w.objects.follow(withMaps('p1', 'a'));
  const reading = w.read('a');
  await w.change('a', 'two');
  const got = await reading;
  if (got === 'one') assert.deepEqual(await w.news(1), ['p1']);
  assert.equal(await w.read('a'), 'two');
});

test('a watch ends some time after its last pod, and at once for what never changes', async () => {
  const w = world();
  await w.put('a', 'one');
  await w.put('fixed', 'for ever', { immutable: true });
  w.objects.follow(withMaps('p1', 'a', 'fixed'));
  w.objects.follow(withMaps('p2', 'a'));
  await w.settled();
  await w.settled();
  assert.deepEqual(w.watching, ['metadata.name=a']);
  assert.equal(await w.read('fixed'), 'for ever');
  w.objects.forget('p1');
  await w.clock.advance(120_000);
  w.objects.sweep();
  assert.deepEqual(w.watching, ['metadata.name=a'], 'p2 still uses it');
  w.objects.forget('p2');
  assert.deepEqual(w.watching, ['metadata.name=a'], 'the next pod may want it');
  await w.clock.advance(14_000);
  w.objects.follow(withMaps('p3', 'a'));
  w.objects.forget('p3');
  await w.clock.advance(14_000);
  w.objects.sweep();
  assert.deepEqual(w.watching, ['metadata.name=a']);
  await w.clock.advance(2_000);
  w.objects.sweep();
  assert.deepEqual(w.watching, []);
});

test('secrets are watched like ConfigMaps; a pod that stops using one hears no more', async () => {
  const w = world();
  const secret = { metadata: { name: 's', namespace: 'ns' }, data: { k: 'MQ==' } };
  await w.api.create(secrets, secret as never);
  w.objects.follow(pod('p1', { imagePullSecrets: [{ name: 's' }] }));
  assert.ok(await w.objects.secret('ns', 's'));
  w.objects.follow(pod('p1', {}));
  w.objects.follow(pod('p2', { imagePullSecrets: [{ name: 's' }] }));
  await w.settled();
  const there = await w.api.get(secrets, { namespace: 'ns', name: 's' });
  await w.api.update(secrets, { ...there, data: { k: 'Mg==' } });
  assert.deepEqual(await w.news(1), ['p2']);
});
