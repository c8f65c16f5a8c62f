import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { seededRandom } from '#base/random.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { listRecorder } from '#client/events.ts';
import { createInformers } from '#client/informer-factory.ts';
import {
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
} from '#client/resources.ts';
import { simulateApi } from '#client/simulated-api.ts';
import { pluginsFor } from '#scheduler/plugins.ts';
import { runScheduler } from '#scheduler/scheduler.ts';
import { testNode, testPod } from '#scheduler/testing.ts';

const SELECTED = 'volume.kubernetes.io/selected-node';
const key = (name: string) => ({ namespace: 'default', name });

/** A scheduler over an API in memory; the test is binder and provisioner. */
async function start(nodeNames: readonly string[]) {
  const stop = new AbortController();
  const { signal } = stop;
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const random = seededRandom(1);
  const api = simulateApi({ clock, random });
  const bindings: string[] = [];
  const bound: Api = {
    ...api,
    async post(_resource, { namespace, name }, _subresource, body) {
      const { target } = body as { target: { name: string } };
      const pod = await api.get(pods, { namespace, name });
      bindings.push(`${name} ${target.name}`);
      await api.update(pods, { ...pod, spec: { ...pod.spec, nodeName: target.name } });
    },
  };
  for (const name of nodeNames) await api.create(nodes, testNode(name));
  const storageClass: StorageClass = {
    metadata: { name: 'wait' },
    provisioner: 'example.com/disk',
    volumeBindingMode: 'WaitForFirstConsumer',
  };
  await api.create(storageClasses, storageClass);
  const recorder = listRecorder();
  const informers = createInformers(bound, { signal, clock, random, freeze: true });
  const plugins = pluginsFor('pack');
  const options = { informers, recorder, plugins, signal, log: silentLog, clock, random };
  const running = runScheduler({ api: bound, ...options }).catch(() => {});
  const end = async (): Promise<void> => {
    stop.abort(new Error('the test is over'));
    await Promise.all([running, informers.done().catch(() => {})]);
  };
  after(end);
  return {
    api,
    bindings,
    said: recorder.said,
    claimNamed: (name: string) => api.get(persistentVolumeClaims, key(name)),
    async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
      for (let i = 0; i < 200; i++) {
        if (await holds()) return;
        await clock.advance(50);
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.fail(`never: ${what}; bindings ${bindings.join()}; said ${recorder.said.join('\n')}`);
    },
    async pass(ms: number): Promise<void> {
      for (let passed = 0; passed < ms; passed += 1000) {
        await clock.advance(1000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

type World = Awaited<ReturnType<typeof start>>;

const claim = (name: string): PersistentVolumeClaim => ({
  metadata: { namespace: 'default', name },
  spec: {
    storageClassName: 'wait',
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '1Gi' } },
  },
});

const user = (name: string, claimName: string) =>
  testPod(name, { volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }] });

const selectedOf = async (world: World, name: string): Promise<string | undefined> =>
  (await world.claimNamed(name)).metadata.annotations?.[SELECTED];

/** What provisioner and binder do once the scheduler has chosen. */
async function provide(world: World, name: string): Promise<void> {
  const wanted = await world.claimNamed(name);
  const spec: PersistentVolume['spec'] = {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteOnce'],
    storageClassName: 'wait',
    claimRef: { namespace: 'default', name, uid: wanted.metadata.uid ?? '' },
  };
  await world.api.create(persistentVolumes, { metadata: { name: `pv-${name}` }, spec });
  await bindClaim(world, name, `pv-${name}`);
}

async function bindClaim({ api }: World, name: string, volumeName: string): Promise<void> {
  const one = await api.get(persistentVolumeClaims, key(name));
  const spec = { ...one.spec, volumeName };
  const asked = await api.update(persistentVolumeClaims, { ...one, spec });
  const object = { ...asked, status: { phase: 'Bound' } };
  await api.update(persistentVolumeClaims, object, { subresource: 'status' });
}

test('a pod is bound after its claim, and keeps nobody waiting meanwhile', async () => {
  const world = await start(['n1']);
  await world.api.create(persistentVolumeClaims, claim('c'));
  await world.api.create(pods, user('user', 'c'));
  await world.until('a node is chosen', async () => (await selectedOf(world, 'c')) === 'n1');
  for (let i = 0; i < 100; i++) await world.api.create(pods, testPod(`plain-${i}`));
  await world.until('the others are bound', () => world.bindings.length === 100);
  assert.ok(!world.bindings.includes('user n1'), 'not before the claim');
  await provide(world, 'c');
  await world.until('bound', () => world.bindings.includes('user n1'));
});

test('a provisioner that gives the claim back has the pod scheduled anew', async () => {
  const world = await start(['n1', 'n2']);
  await world.api.create(persistentVolumeClaims, claim('c'));
  await world.api.create(pods, user('user', 'c'));
  await world.until('chosen', async () => (await selectedOf(world, 'c')) !== undefined);
  const first = (await selectedOf(world, 'c')) ?? '';
  // As a provisioner does that has no room there; the node is then closed for new pods.
  await world.api.patch(
    nodes,
    { name: first },
    { type: 'merge', body: { spec: { unschedulable: true } } },
  );
  const body = { metadata: { annotations: { [SELECTED]: null } } };
  await world.api.patch(persistentVolumeClaims, key('c'), { type: 'merge', body });
  const other = first === 'n1' ? 'n2' : 'n1';
  await world.until('chosen anew', async () => (await selectedOf(world, 'c')) === other);
  assert.ok(
    world.said.some((said) =>
      said.includes(
        'FailedScheduling running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "c"',
      ),
    ),
    world.said.join('\n'),
  );
  await provide(world, 'c');
  await world.until('bound', () => world.bindings.length > 0);
  assert.deepEqual(world.bindings, [`user ${other}`]);
});

test('a claim that is never met is given up after ten minutes, and tried again', async () => {
  const world = await start(['n1']);
  await world.api.create(persistentVolumeClaims, claim('c'));
  await world.api.create(pods, user('user', 'c'));
  await world.until('chosen', async () => (await selectedOf(world, 'c')) === 'n1');
  await world.pass(595_000);
  const late = (): boolean => world.said.some((said) => said.includes('deadline exceeded'));
  assert.ok(!late());
  await world.until('given up', late);
  const condition = (await world.api.get(pods, key('user'))).status?.conditions?.[0];
  assert.equal(condition?.reason, 'SchedulerError');
  await provide(world, 'c');
  await world.until('bound', () => world.bindings.includes('user n1'));
});

test('two pods get two volumes, and two pods of one claim the same node', async () => {
  const world = await start(['n1', 'n2', 'n3']);
  for (const name of ['v1', 'v2']) {
    const capacity = { storage: '2Gi' };
    const spec = { capacity, accessModes: ['ReadWriteOnce'], storageClassName: 'wait' };
    await world.api.create(persistentVolumes, { metadata: { name }, spec });
  }
  for (const name of ['a', 'b', 'shared']) {
    await world.api.create(persistentVolumeClaims, claim(name));
  }
  await world.api.create(pods, user('one', 'a'));
  await world.api.create(pods, user('two', 'b'));
  const reserved = (): string[] =>
    world.api.all(persistentVolumes).map(({ spec }) => spec?.claimRef?.name ?? '');
  await world.until('both are reserved', () => reserved().sort().join() === 'a,b');
  await world.api.create(pods, user('first', 'shared'));
  await world.api.create(pods, user('second', 'shared'));
  await world.until('told', async () => (await selectedOf(world, 'shared')) !== undefined);
  assert.equal(world.bindings.length, 0);
  for (const { metadata, spec } of world.api.all(persistentVolumes)) {
    await bindClaim(world, spec?.claimRef?.name ?? '', metadata.name ?? '');
  }
  await provide(world, 'shared');
  await world.until('all are bound', () => world.bindings.length === 4);
  const shared = (await selectedOf(world, 'shared')) ?? '';
  for (const name of ['first', 'second']) {
    assert.ok(world.bindings.includes(`${name} ${shared}`), world.bindings.join());
  }
});

test('a pod that is deleted while it waits leaves nothing behind', async () => {
  const world = await start(['n1']);
  await world.api.create(persistentVolumeClaims, claim('c'));
  await world.api.create(pods, { ...user('user', 'c') });
  await world.until('chosen', async () => (await selectedOf(world, 'c')) === 'n1');
  await world.api.delete(pods, key('user'), { gracePeriodSeconds: 0 });
  await world.pass(2000);
  await provide(world, 'c');
  await world.pass(2000);
  assert.deepEqual(world.bindings, []);
  assert.ok(!world.said.some((said) => said.includes('FailedScheduling')), world.said.join());
});
