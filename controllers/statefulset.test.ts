import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Pod, StatefulSet } from '#api/types.ts';
import {
  controllerRevisions,
  persistentVolumeClaims,
  pods,
  statefulSets,
} from '#client/resources.ts';
import { isReady } from '#controllers/pods.ts';
import { type Simulation, type SimulationOptions, simulate } from '#controllers/simulation.ts';
import { statefulSetController } from '#controllers/statefulset-controller.ts';

const key = { namespace: 'd', name: 'db' };

function start(seed: number, options: Partial<SimulationOptions> = {}): Simulation {
  return simulate({ seed, controllers: [statefulSetController], ...options });
}

function db(spec: Record<string, unknown> = {}, image = 'v1'): StatefulSet {
  return {
    metadata: { ...key },
    spec: {
      replicas: 3,
      serviceName: 'db',
      podManagementPolicy: 'OrderedReady',
      selector: { matchLabels: { app: 'db' } },
      template: {
        metadata: { labels: { app: 'db' } },
        spec: { containers: [{ name: 'c', image }] },
      },
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
      revisionHistoryLimit: 2,
      ...spec,
    },
  };
}

const current = ({ api }: Simulation): StatefulSet => {
  const [set] = api.all(statefulSets);
  assert.ok(set);
  return set;
};
const named = ({ api }: Simulation, name: string): Pod | undefined =>
  api.all(pods).find((pod) => pod.metadata.name === name);
const imageOf = (pod: Pod | undefined): string => pod?.spec.containers[0]?.image ?? '';
const patch = (sim: Simulation, body: unknown): Promise<unknown> =>
  sim.api.patch(statefulSets, key, { type: 'merge', body });
const setImage = (sim: Simulation, image: string): Promise<unknown> =>
  patch(sim, { spec: { template: db({}, image).spec?.template } });

const isSettled = (sim: Simulation, replicas: number) => (): boolean => {
  const { status, metadata } = current(sim);
  return (
    status?.observedGeneration === metadata.generation &&
    status?.replicas === replicas &&
    (status.readyReplicas ?? 0) === replicas &&
    (status.updatedReplicas ?? 0) === replicas &&
    status.currentRevision === status.updateRevision &&
    sim.api.all(pods).length === replicas
  );
};

/** Names in the order in which pods came (`+`) and were asked to go (`-`). */
function historyOf(sim: Simulation): string[] {
  const seen: string[] = [];
  const going = new Set<string>();
  sim.api.onCommit(({ type, resource, object }) => {
    const { name = '', uid = '', deletionTimestamp } = object.metadata;
    if (resource.resource !== 'pods') return;
    if (type === 'ADDED') seen.push(`+${name}`);
    if (deletionTimestamp && !going.has(uid)) {
      going.add(uid);
      seen.push(`-${name}`);
    }
  });
  return seen;
}

test('members come and go in order, each after the one before is ready', async () => {
  const sim = start(1);
  const seen = historyOf(sim);
  const unready: string[] = [];
  sim.api.onCommit(({ type, resource }) => {
    if (resource.resource !== 'pods' || type !== 'ADDED') return;
    const waiting = sim.api.all(pods).filter((pod) => !isReady(pod));
    if (waiting.length > 1) unready.push(waiting.map((pod) => pod.metadata.name).join());
  });
  await sim.api.create(statefulSets, db());
  await sim.until(isSettled(sim, 3), 'three members');
  await patch(sim, { spec: { replicas: 1 } });
  await sim.until(isSettled(sim, 1), 'one member');
  assert.deepEqual(seen, ['+db-0', '+db-1', '+db-2', '-db-2', '-db-1']);
  assert.deepEqual(unready, []);
  const pod = named(sim, 'db-0');
  assert.equal(pod?.spec.hostname, 'db-0');
  assert.equal(pod?.spec['subdomain'], 'db');
  assert.deepEqual(pod?.metadata.labels, {
    app: 'db',
    'controller-revision-hash': current(sim).status?.currentRevision,
    'statefulset.kubernetes.io/pod-name': 'db-0',
    'apps.kubernetes.io/pod-index': '0',
  });
  assert.ok(
    sim.said.includes('Normal SuccessfulCreate create Pod db-0 in StatefulSet db successful'),
  );
  await sim.stop();
});

test('a rolling update goes from the highest number down, a rollback reuses its revision', async () => {
  const sim = start(2);
  await sim.api.create(statefulSets, db());
  await sim.until(isSettled(sim, 3), 'v1');
  const first = current(sim).status?.currentRevision;
  const seen = historyOf(sim);
  await setImage(sim, 'v2');
  await sim.until(isSettled(sim, 3), 'v2');
  assert.deepEqual(seen, ['-db-2', '+db-2', '-db-1', '+db-1', '-db-0', '+db-0']);
  assert.notEqual(current(sim).status?.currentRevision, first);
  await setImage(sim, 'v1');
  await sim.until(isSettled(sim, 3), 'v1 again');
  assert.equal(current(sim).status?.currentRevision, first);
  const numbers = sim.api.all(controllerRevisions).map(({ revision }) => revision);
  assert.deepEqual(
    numbers.sort((a, b) => a - b),
    [2, 3],
  );
  await sim.stop();
});

test('a partition keeps lower members at the old revision, also when they are made again', async () => {
  const sim = start(3);
  await sim.api.create(statefulSets, db());
  await sim.until(isSettled(sim, 3), 'v1');
  const partition = { type: 'RollingUpdate', rollingUpdate: { partition: 2 } };
  await patch(sim, { spec: { updateStrategy: partition } });
  await setImage(sim, 'v2');
  await sim.until(() => imageOf(named(sim, 'db-2')) === 'v2', 'canary');
  await sim.api.delete(pods, { namespace: 'd', name: 'db-0' });
  await sim.advance(30_000);
  const images = ['db-0', 'db-1', 'db-2'].map((name) => imageOf(named(sim, name)));
  assert.deepEqual(images, ['v1', 'v1', 'v2']);
  const { status } = current(sim);
  assert.equal(status?.updatedReplicas, 1);
  assert.equal(status?.currentReplicas, 2);
  assert.notEqual(status?.currentRevision, status?.updateRevision);
  await sim.stop();
});

test('Parallel makes all at once; OnDelete waits for the user', async () => {
  const sim = start(4, { runPods: false });
  const updateStrategy = { type: 'OnDelete' };
  await sim.api.create(statefulSets, db({ podManagementPolicy: 'Parallel', updateStrategy }));
  await sim.until(() => sim.api.all(pods).length === 3, 'all members');
  await setImage(sim, 'v2');
  await sim.advance(1000);
  assert.ok(sim.api.all(pods).every((pod) => imageOf(pod) === 'v1'));
  await sim.api.delete(pods, { namespace: 'd', name: 'db-1' });
  await sim.until(() => imageOf(named(sim, 'db-1')) === 'v2', 'made of the new template');
  await sim.stop();
});

test('maxUnavailable lets several members be updated at once', async () => {
  const sim = start(5);
  const rollingUpdate = { partition: 0, maxUnavailable: 2 };
  const updateStrategy = { type: 'RollingUpdate', rollingUpdate };
  const spec = { replicas: 5, podManagementPolicy: 'Parallel', updateStrategy };
  await sim.api.create(statefulSets, db(spec));
  await sim.until(isSettled(sim, 5), 'v1');
  let least = 5;
  let most = 0;
  sim.api.onCommit(({ resource }) => {
    if (resource.resource !== 'pods') return;
    const up = sim.api.all(pods).filter((pod) => isReady(pod) && !pod.metadata.deletionTimestamp);
    least = Math.min(least, up.length);
    most = Math.max(most, 5 - up.length);
  });
  await setImage(sim, 'v2');
  await sim.until(isSettled(sim, 5), 'v2');
  assert.equal(least, 3);
  assert.equal(most, 2);
  await sim.stop();
});

test('an ended member is made again under its name', async () => {
  const sim = start(6);
  await sim.api.create(statefulSets, db({ replicas: 2 }));
  await sim.until(isSettled(sim, 2), 'two members');
  const uid = named(sim, 'db-0')?.metadata.uid;
  const failed = { status: { phase: 'Failed', conditions: [] } };
  const name = { namespace: 'd', name: 'db-0' };
  await sim.api.patch(pods, name, { type: 'merge', body: failed }, { subresource: 'status' });
  await sim.until(() => named(sim, 'db-0')?.metadata.uid !== uid, 'another pod');
  await sim.until(isSettled(sim, 2), 'two members again');
  const said = 'Warning RecreatingFailedPod StatefulSet d/db is recreating failed Pod db-0';
  assert.ok(sim.said.includes(said));
  await sim.stop();
});

test('claims follow the retention policy', async () => {
  const sim = start(7);
  const volumeClaimTemplates = [{ metadata: { name: 'data' }, spec: { accessModes: ['x'] } }];
  const retention = { whenDeleted: 'Delete', whenScaled: 'Retain' };
  const spec = { replicas: 2, volumeClaimTemplates };
  await sim.api.create(
    statefulSets,
    db({ ...spec, persistentVolumeClaimRetentionPolicy: retention }),
  );
  await sim.until(isSettled(sim, 2), 'two members');
  const owners = (): string[] =>
    sim.api
      .all(persistentVolumeClaims)
      .map(({ metadata }) => `${metadata.name} ${metadata.ownerReferences?.[0]?.kind ?? 'nobody'}`);
  assert.deepEqual(owners(), ['data-db-0 StatefulSet', 'data-db-1 StatefulSet']);
  const volume = named(sim, 'db-1')?.spec.volumes?.[0];
  assert.deepEqual(volume, { name: 'data', persistentVolumeClaim: { claimName: 'data-db-1' } });
  const both = { whenDeleted: 'Delete', whenScaled: 'Delete' };
  await patch(sim, { spec: { persistentVolumeClaimRetentionPolicy: both, replicas: 1 } });
  await sim.until(isSettled(sim, 1), 'one member');
  assert.deepEqual(owners(), ['data-db-0 StatefulSet', 'data-db-1 Pod']);
  // The collector has not deleted the old member's claim yet: its successor waits.
  await patch(sim, { spec: { replicas: 2 } });
  await sim.advance(5000);
  assert.equal(named(sim, 'db-1'), undefined);
  await sim.api.delete(persistentVolumeClaims, { namespace: 'd', name: 'data-db-1' });
  await sim.until(isSettled(sim, 2), 'two members again');
  const none = { whenDeleted: 'Retain', whenScaled: 'Retain' };
  await patch(sim, { spec: { persistentVolumeClaimRetentionPolicy: none } });
  await sim.until(() => owners().every((one) => one.endsWith('nobody')), 'claims stay');
  await sim.stop();
});

for (let seed = 21; seed <= 28; seed++) {
  test(`it converges whatever is asked for in between (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const sim = start(seed);
    const podManagementPolicy = random() < 0.5 ? 'Parallel' : 'OrderedReady';
    await sim.api.create(statefulSets, db({ podManagementPolicy, minReadySeconds: 1 }));
    let replicas = 3;
    for (let round = 0; round < 6; round++) {
      await sim.advance(randomInt(random, 8000));
      const choice = random();
      if (choice < 0.4) await setImage(sim, `v${randomInt(random, 3)}`);
      else if (choice < 0.8) {
        replicas = randomInt(random, 5);
        await patch(sim, { spec: { replicas } });
      } else {
        const [victim] = sim.api.all(pods);
        const name = victim?.metadata.name ?? '';
        if (victim) await sim.api.delete(pods, { namespace: 'd', name });
      }
    }
    await sim.until(isSettled(sim, replicas), 'settled', 300_000);
    await sim.advance(2000);
    const image = current(sim).spec?.template.spec?.containers[0]?.image;
    assert.ok(sim.api.all(pods).every((pod) => imageOf(pod) === image));
    assert.ok(sim.api.all(controllerRevisions).length <= 3);
    await sim.stop();
  });
}
