import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, VolumeAttachment } from '#api/types.ts';
import {
  csiDrivers,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  volumeAttachments,
} from '#client/resources.ts';
import { attachDetachController } from '#controllers/attach-detach-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';
import { volumeExpandController } from '#controllers/volume-expand-controller.ts';

const UNIQUE = 'kubernetes.io/csi/d.test^h';

const node = (name: string): Node => ({
  metadata: { name },
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
});

const user = (name: string, nodeName: string): Pod => ({
  metadata: { namespace: 'd', name },
  spec: {
    containers: [],
    nodeName,
    volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'c' } }],
  },
});

async function start(seed: number, modes = ['ReadWriteOnce']): Promise<Simulation> {
  const controllers = [attachDetachController, volumeExpandController];
  const sim = simulate({ seed, controllers, runPods: false });
  for (const name of ['n1', 'n2']) await sim.api.create(nodes, node(name));
  const claim = await sim.api.create(persistentVolumeClaims, {
    metadata: { namespace: 'd', name: 'c' },
    spec: { volumeName: 'pv', resources: { requests: { storage: '1Gi' } } },
    status: { phase: 'Bound', capacity: { storage: '1Gi' } },
  });
  const { uid = '' } = claim.metadata;
  await sim.api.create(persistentVolumes, {
    metadata: { name: 'pv' },
    spec: {
      accessModes: modes,
      capacity: { storage: '1Gi' },
      claimRef: { namespace: 'd', name: 'c', uid },
      csi: { driver: 'd.test', volumeHandle: 'h' },
    },
  });
  return sim;
}

const ours = (sim: Simulation): VolumeAttachment[] =>
  sim.api.all(volumeAttachments).filter(({ metadata }) => metadata.name?.startsWith('csi-'));

/** Plays the external-attacher. */
async function answer(sim: Simulation, status: VolumeAttachment['status']): Promise<void> {
  await sim.until(() => ours(sim).length > 0, 'an attachment');
  for (const one of ours(sim))
    await sim.api.patch(
      volumeAttachments,
      { name: one.metadata.name ?? '' },
      { type: 'merge', body: { status } },
      { subresource: 'status' },
    );
}

const attachedTo = (sim: Simulation, name: string): string[] =>
  (
    sim.api.all(nodes).find(({ metadata }) => metadata.name === name)?.status?.volumesAttached ?? []
  ).map((one) => one.name);

const report = (sim: Simulation, name: string, status: Node['status']) =>
  sim.api.patch(nodes, { name }, { type: 'merge', body: { status } }, { subresource: 'status' });

test('a volume is attached for its pod, and detached when the node has let it go', async () => {
  const sim = await start(1);
  await sim.api.create(pods, user('a', 'n1'));
  await answer(sim, { attached: true });
  const [attachment] = sim.api.all(volumeAttachments);
  assert.match(attachment?.metadata.name ?? '', /^csi-[0-9a-f]{64}$/);
  assert.deepEqual(attachment?.spec, {
    attacher: 'd.test',
    nodeName: 'n1',
    source: { persistentVolumeName: 'pv' },
  });
  await sim.until(() => attachedTo(sim, 'n1').includes(UNIQUE), 'on the list of the node');
  assert.ok(sim.said.some((said) => /SuccessfulAttachVolume/.test(said)));
  await report(sim, 'n1', { volumesInUse: [UNIQUE] });
  await sim.api.delete(pods, { namespace: 'd', name: 'a' }, { gracePeriodSeconds: 0 });
  await sim.advance(10_000);
  assert.equal(sim.api.all(volumeAttachments).length, 1, 'still mounted');
  assert.deepEqual(attachedTo(sim, 'n1'), [UNIQUE]);
  await report(sim, 'n1', { volumesInUse: [] });
  await sim.until(() => sim.api.all(volumeAttachments).length === 0, 'detached');
  assert.deepEqual(attachedTo(sim, 'n1'), []);
  await sim.stop();
});

test('a volume for one node waits until the other has let it go', async () => {
  const sim = await start(2);
  await sim.api.create(pods, user('a', 'n1'));
  await answer(sim, { attached: true });
  await sim.until(() => attachedTo(sim, 'n1').includes(UNIQUE), 'attached');
  await sim.api.create(pods, user('b', 'n2'));
  await sim.until(() => sim.said.some((said) => /Multi-Attach error/.test(said)), 'told');
  await sim.api.delete(pods, { namespace: 'd', name: 'a' }, { gracePeriodSeconds: 0 });
  await sim.until(
    () => sim.api.all(volumeAttachments).some(({ spec }) => spec.nodeName === 'n2'),
    'asked for on the second node',
  );
  await sim.stop();
});

test('a node that is lost loses its volumes after a while, one out of service at once', async () => {
  const sim = await start(3);
  await sim.api.create(pods, user('a', 'n1'));
  await answer(sim, { attached: true });
  await sim.until(() => attachedTo(sim, 'n1').includes(UNIQUE), 'attached');
  const conditions = [{ type: 'Ready', status: 'Unknown' }];
  await report(sim, 'n1', { volumesInUse: [UNIQUE], conditions });
  await sim.api.delete(pods, { namespace: 'd', name: 'a' }, { gracePeriodSeconds: 0 });
  await sim.advance(60_000);
  assert.equal(sim.api.all(volumeAttachments).length, 1);
  await sim.until(
    () => sim.api.all(volumeAttachments).length === 0,
    'taken away after six minutes',
    8 * 60_000,
  );
  await sim.api.create(pods, user('a', 'n2'));
  await answer(sim, { attached: true });
  await report(sim, 'n2', { volumesInUse: [UNIQUE] });
  await sim.api.delete(pods, { namespace: 'd', name: 'a' }, { gracePeriodSeconds: 0 });
  const taints = [{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' }];
  await sim.api.patch(nodes, { name: 'n2' }, { type: 'merge', body: { spec: { taints } } });
  await sim.until(() => sim.api.all(volumeAttachments).length === 0, 'taken away at once', 5_000);
  await sim.stop();
});

test('drivers without attaching are left alone, failures are told, others are not touched', async () => {
  const sim = await start(4, ['ReadWriteMany']);
  const foreign = { attacher: 'x', nodeName: 'n1', source: { persistentVolumeName: 'other' } };
  await sim.api.create(volumeAttachments, { metadata: { name: 'by-hand' }, spec: foreign });
  await sim.api.create(pods, user('a', 'n1'));
  await answer(sim, { attached: false, attachError: { message: 'no such disk' } });
  await sim.until(() => sim.said.some((said) => /no such disk/.test(said)), 'told');
  await sim.api.create(csiDrivers, {
    metadata: { name: 'd.test' },
    spec: { attachRequired: false },
  });
  await sim.until(() => sim.api.all(volumeAttachments).length === 1, 'only the one by hand');
  await sim.stop();
});

test("a claim that wants more is handed to its driver's resizer", async () => {
  const sim = await start(5);
  const key = { namespace: 'd', name: 'c' };
  const spec = { resources: { requests: { storage: '2Gi' } } };
  await sim.api.patch(persistentVolumeClaims, key, { type: 'merge', body: { spec } });
  await sim.until(() => sim.said.some((said) => /ExternalExpanding/.test(said)), 'told');
  const [claim] = sim.api.all(persistentVolumeClaims);
  assert.equal(claim?.metadata.annotations?.['volume.kubernetes.io/storage-resizer'], 'd.test');
  const csi = { driver: 'local.gantry.dev', volumeHandle: 'pv' };
  await sim.api.patch(
    persistentVolumes,
    { name: 'pv' },
    { type: 'merge', body: { spec: { csi } } },
  );
  await sim.until(
    () => sim.api.all(persistentVolumeClaims)[0]?.status?.capacity?.['storage'] === '2Gi',
    'a directory grows at once',
  );
  assert.equal(sim.api.all(persistentVolumes)[0]?.spec?.capacity?.['storage'], '2Gi');
  await sim.stop();
});
