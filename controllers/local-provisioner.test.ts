import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PersistentVolumeClaim, Pod } from '#api/types.ts';
import {
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
} from '#client/resources.ts';
import { localProvisionerController } from '#controllers/local-provisioner-controller.ts';
import { persistentVolumeBinderController } from '#controllers/persistentvolume-binder-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';
import {
  claimProtectionController,
  volumeProtectionController,
} from '#controllers/volume-protection-controller.ts';

const controllers = [
  persistentVolumeBinderController,
  localProvisionerController,
  claimProtectionController,
  volumeProtectionController,
];
const key = { namespace: 'd', name: 'c' };

async function start(seed: number, claim: object = {}): Promise<Simulation> {
  const sim = simulate({ seed, controllers, runPods: false });
  await sim.api.create(nodes, {
    metadata: { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' } },
  });
  await sim.api.create(storageClasses, {
    metadata: { name: 'local' },
    provisioner: 'gantry.dev/local',
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
  });
  const made: PersistentVolumeClaim = {
    metadata: { ...key },
    spec: {
      storageClassName: 'local',
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Gi' } },
      ...claim,
    },
  };
  await sim.api.create(persistentVolumeClaims, made);
  return sim;
}

const user: Pod = {
  metadata: { namespace: 'd', name: 'user' },
  spec: {
    containers: [],
    nodeName: 'n1',
    volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'c' } }],
  },
};

test("a claim gets a directory on its consumer's node, which goes with the claim", async () => {
  const sim = await start(1);
  await sim.advance(2000);
  assert.equal(sim.api.all(persistentVolumes).length, 0, 'nothing before there is a consumer');
  await sim.api.create(pods, user);
  await sim.until(() => sim.api.all(persistentVolumeClaims)[0]?.status?.phase === 'Bound', 'bound');
  const [volume] = sim.api.all(persistentVolumes);
  const name = `pvc-${sim.api.all(persistentVolumeClaims)[0]?.metadata.uid}`;
  assert.equal(volume?.metadata.name, name);
  assert.deepEqual(volume?.spec?.csi, { driver: 'local.gantry.dev', volumeHandle: name });
  assert.deepEqual(volume?.spec?.nodeAffinity?.required?.nodeSelectorTerms, [
    { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['n1'] }] },
  ]);
  assert.ok(
    sim.said.includes(`Normal ProvisioningSucceeded Successfully provisioned volume ${name}`),
  );
  await sim.api.delete(pods, { namespace: 'd', name: 'user' }, { gracePeriodSeconds: 0 });
  await sim.api.delete(persistentVolumeClaims, key);
  await sim.until(() => sim.api.all(persistentVolumes).length === 0, 'no volume');
  await sim.stop();
});

test('what a directory cannot be is told', async () => {
  const sim = await start(2, { accessModes: ['ReadWriteMany'] });
  await sim.api.create(pods, user);
  await sim.until(
    () => sim.said.some((said) => /ProvisioningFailed .*ReadWriteMany/.test(said)),
    'told',
  );
  assert.equal(sim.api.all(persistentVolumes).length, 0);
  await sim.stop();
});

test('a claim whose node has gone is given back to the scheduler', async () => {
  const sim = await start(3);
  const selected = 'volume.kubernetes.io/selected-node';
  const body = { metadata: { annotations: { [selected]: 'gone' } } };
  await sim.api.patch(persistentVolumeClaims, key, { type: 'merge', body });
  const annotations = () => sim.api.all(persistentVolumeClaims)[0]?.metadata.annotations ?? {};
  await sim.until(() => !(selected in annotations()), 'given back');
  assert.equal(sim.api.all(persistentVolumes).length, 0);
  await sim.stop();
});

test('a class of images says so in its volumes; another parameter is refused', async () => {
  for (const [seed, parameters, wanted] of [
    [4, { type: 'image' }, { type: 'image' }],
    [5, { type: 'cloud' }, undefined],
    [6, { size: '1' }, undefined],
  ] as const) {
    const sim = await start(seed, { storageClassName: 'other' });
    await sim.api.create(storageClasses, {
      metadata: { name: 'other' },
      provisioner: 'gantry.dev/local',
      volumeBindingMode: 'WaitForFirstConsumer',
      parameters,
    });
    await sim.api.create(pods, user);
    const volumes = () => sim.api.all(persistentVolumes);
    const isTold = () => sim.said.some((said) => /ProvisioningFailed .*parameters/.test(said));
    await sim.until(() => volumes().length > 0 || isTold(), 'made or refused');
    assert.deepEqual(volumes()[0]?.spec?.csi?.volumeAttributes, wanted);
    assert.equal(isTold(), wanted === undefined);
    await sim.stop();
  }
});
