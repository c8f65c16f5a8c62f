import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '#api/types.ts';
import { findVolume } from '#api/volume-match.ts';
import {
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
  volumeAttributesClasses,
} from '#client/resources.ts';
import { ephemeralVolumeController } from '#controllers/ephemeral-volume-controller.ts';
import { persistentVolumeBinderController } from '#controllers/persistentvolume-binder-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';
import {
  attributesClassProtectionController,
  claimProtectionController,
  volumeProtectionController,
} from '#controllers/volume-protection-controller.ts';

const controllers = [
  persistentVolumeBinderController,
  claimProtectionController,
  volumeProtectionController,
  attributesClassProtectionController,
  ephemeralVolumeController,
];

type VolumeSpec = NonNullable<PersistentVolume['spec']>;
type ClaimSpec = NonNullable<PersistentVolumeClaim['spec']>;

function volume(name: string, storage: string, spec: Partial<VolumeSpec> = {}): PersistentVolume {
  return {
    metadata: { name, finalizers: ['kubernetes.io/pv-protection'] },
    spec: {
      capacity: { storage },
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      hostPath: { path: '/x' },
      ...spec,
    },
  };
}

function claim(storage: string, spec: Partial<ClaimSpec> = {}, name = 'c'): PersistentVolumeClaim {
  return {
    metadata: { namespace: 'd', name, uid: 'u', finalizers: ['kubernetes.io/pvc-protection'] },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      resources: { requests: { storage } },
      ...spec,
    },
  };
}

const waiting: StorageClass = {
  metadata: { name: 'wait' },
  provisioner: 'kubernetes.io/no-provisioner',
  volumeBindingMode: 'WaitForFirstConsumer',
};

function onNode(name: string): Partial<VolumeSpec> {
  const matchExpressions = [{ key: 'host', operator: 'In', values: [name] }];
  return {
    storageClassName: 'wait',
    nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } },
  };
}

const matches: {
  name: string;
  of: PersistentVolumeClaim;
  volumes: PersistentVolume[];
  to: string;
}[] = [
  {
    name: 'the smallest that is large enough',
    of: claim('2Gi'),
    volumes: [volume('large', '10Gi'), volume('small', '1Gi'), volume('right', '3Gi')],
    to: 'right',
  },
  {
    name: 'one that was reserved for it, though larger',
    of: claim('1Gi'),
    volumes: [
      volume('small', '1Gi'),
      volume('mine', '9Gi', { claimRef: { namespace: 'd', name: 'c' } }),
    ],
    to: 'mine',
  },
  {
    name: "none that is another's",
    of: claim('1Gi'),
    volumes: [volume('a', '1Gi', { claimRef: { namespace: 'd', name: 'other', uid: 'x' } })],
    to: '',
  },
  {
    name: 'none of another class',
    of: claim('1Gi', { storageClassName: 'fast' }),
    volumes: [volume('a', '1Gi')],
    to: '',
  },
  {
    name: 'none with fewer access modes',
    of: claim('1Gi', { accessModes: ['ReadWriteMany'] }),
    volumes: [volume('a', '1Gi'), volume('b', '5Gi', { accessModes: ['ReadWriteMany'] })],
    to: 'b',
  },
  {
    name: 'none of another mode',
    of: claim('1Gi', { volumeMode: 'Block' }),
    volumes: [volume('a', '1Gi')],
    to: '',
  },
  {
    name: 'none that its selector does not pick',
    of: claim('1Gi', { selector: { matchLabels: { disk: 'ssd' } } }),
    volumes: [volume('a', '1Gi')],
    to: '',
  },
];
for (const { name, of, volumes, to } of matches) {
  test(`a claim gets ${name}`, () => {
    const found = findVolume({ claim: of, volumes, storageClass: undefined, node: undefined });
    assert.equal(found?.metadata.name ?? '', to);
  });
}

test('a class that waits binds only where the consumer is', () => {
  const volumes = [volume('a', '1Gi', onNode('n1')), volume('b', '1Gi', onNode('n2'))];
  const of = claim('1Gi', { storageClassName: 'wait' });
  const world = { claim: of, volumes, storageClass: waiting };
  assert.equal(findVolume({ ...world, node: undefined }), undefined);
  const node = { metadata: { name: 'n2', labels: { host: 'n2' } } };
  assert.equal(findVolume({ ...world, node })?.metadata.name, 'b');
});

const found = ({ api }: Simulation) => {
  const [one] = api.all(persistentVolumeClaims);
  const [other] = api.all(persistentVolumes);
  return { claim: one, volume: other };
};

test('a claim and a volume are bound, used, released and deleted', async () => {
  const sim = simulate({ seed: 1, controllers });
  await sim.api.create(persistentVolumeClaims, claim('1Gi'));
  await sim.until(() => sim.said.some((said) => said.includes('FailedBinding')), 'no volume');
  await sim.api.create(persistentVolumes, volume('v', '2Gi'));
  await sim.until(() => found(sim).claim?.status?.phase === 'Bound', 'bound claim');
  await sim.until(() => found(sim).volume?.status?.phase === 'Bound', 'bound volume');
  const bound = found(sim);
  assert.equal(bound.claim?.spec?.volumeName, 'v');
  assert.deepEqual(bound.claim?.status?.capacity, { storage: '2Gi' });
  assert.equal(bound.volume?.spec?.claimRef?.uid, bound.claim?.metadata.uid);
  assert.deepEqual(bound.claim?.metadata.annotations, {
    'pv.kubernetes.io/bind-completed': 'yes',
    'pv.kubernetes.io/bound-by-controller': 'yes',
  });
  const user: Pod = {
    metadata: { namespace: 'd', name: 'user' },
    spec: {
      containers: [],
      nodeName: 'n1',
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'c' } }],
    },
  };
  await sim.api.create(pods, user);
  await sim.api.delete(persistentVolumes, { name: 'v' });
  await sim.api.delete(persistentVolumeClaims, { namespace: 'd', name: 'c' });
  await sim.advance(5000);
  assert.ok(found(sim).claim, 'a claim in use stays');
  await sim.api.delete(pods, { namespace: 'd', name: 'user' });
  await sim.until(() => !found(sim).claim, 'no claim');
  await sim.until(() => !found(sim).volume, 'no volume');
  await sim.stop();
});

test('a released volume is kept; a claim that lost its volume says so', async () => {
  const sim = simulate({ seed: 2, controllers });
  await sim.api.create(persistentVolumes, volume('v', '2Gi'));
  await sim.api.create(persistentVolumeClaims, claim('1Gi'));
  await sim.until(() => found(sim).volume?.status?.phase === 'Bound', 'bound');
  await sim.api.delete(persistentVolumeClaims, { namespace: 'd', name: 'c' });
  await sim.until(() => found(sim).volume?.status?.phase === 'Released', 'released');
  await sim.api.create(persistentVolumeClaims, claim('1Gi'));
  await sim.advance(2000);
  assert.equal(found(sim).claim?.status?.phase, 'Pending', 'a released volume is not given again');
  await sim.api.delete(persistentVolumes, { name: 'v' });
  await sim.api.create(persistentVolumes, volume('w', '2Gi'));
  await sim.until(() => found(sim).claim?.status?.phase === 'Bound', 'bound again');
  const gone = { metadata: { finalizers: null } };
  await sim.api.patch(persistentVolumes, { name: 'w' }, { type: 'merge', body: gone });
  await sim.api.delete(persistentVolumes, { name: 'w' }).catch(() => {});
  await sim.api
    .patch(persistentVolumes, { name: 'w' }, { type: 'merge', body: gone })
    .catch(() => {});
  await sim.until(() => found(sim).claim?.status?.phase === 'Lost', 'lost');
  assert.ok(sim.said.some((said) => said.startsWith('Warning ClaimLost')));
  await sim.stop();
});

for (const [policy, reason] of [
  ['Recycle', 'VolumeFailedRecycle'],
  ['Delete', 'VolumeFailedDelete'],
] as const) {
  test(`a released volume that nobody can ${policy.toLowerCase()} has failed, and says so`, async () => {
    const sim = simulate({ seed: 7, controllers });
    const spec = { persistentVolumeReclaimPolicy: policy };
    await sim.api.create(persistentVolumes, volume('v', '2Gi', spec));
    await sim.api.create(persistentVolumeClaims, claim('1Gi'));
    await sim.until(() => found(sim).volume?.status?.phase === 'Bound', 'bound');
    await sim.api.delete(persistentVolumeClaims, { namespace: 'd', name: 'c' });
    await sim.until(() => found(sim).volume?.status?.phase === 'Failed', 'failed');
    assert.ok(sim.said.some((said) => said.startsWith(`Warning ${reason} `)));
    await sim.stop();
  });
}

test('a volume that a claim names has to be large enough and of its kind', async () => {
  const cases: [Partial<VolumeSpec>, Partial<ClaimSpec>, string][] = [
    [{ capacity: { storage: '1Gi' } }, {}, 'requested PV is too small'],
    [{ storageClassName: 'x' }, {}, 'storageClassName does not match'],
    [{ volumeMode: 'Block' }, {}, 'incompatible volumeMode'],
    [{}, { accessModes: ['ReadWriteMany'] }, 'incompatible accessMode'],
  ];
  for (const [spec, wish, why] of cases) {
    const sim = simulate({ seed: 8, controllers });
    await sim.api.create(persistentVolumes, volume('v', '3Gi', spec));
    await sim.api.create(persistentVolumeClaims, claim('2Gi', { volumeName: 'v', ...wish }));
    const said = `Warning VolumeMismatch Cannot bind to requested volume "v": ${why}`;
    await sim.until(() => sim.said.includes(said), why);
    assert.equal(found(sim).claim?.status?.phase, 'Pending');
    await sim.stop();
  }
});

test('a provisioner is told where the first consumer runs', async () => {
  const sim = simulate({ seed: 3, controllers, runPods: false });
  await sim.api.create(nodes, { metadata: { name: 'n1' } });
  const ours = { ...waiting, provisioner: 'example.com/disk' };
  await sim.api.create(storageClasses, ours);
  await sim.api.create(persistentVolumeClaims, claim('1Gi', { storageClassName: 'wait' }));
  await sim.until(() => sim.said.some((said) => said.includes('WaitForFirstConsumer')), 'waits');
  const user: Pod = {
    metadata: { namespace: 'd', name: 'user' },
    spec: {
      containers: [],
      nodeName: 'n1',
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'c' } }],
    },
  };
  await sim.api.create(pods, user);
  await sim.until(() => Boolean(found(sim).claim?.metadata.annotations), 'told');
  assert.deepEqual(found(sim).claim?.metadata.annotations, {
    'volume.kubernetes.io/storage-provisioner': 'example.com/disk',
    'volume.beta.kubernetes.io/storage-provisioner': 'example.com/disk',
    'volume.kubernetes.io/selected-node': 'n1',
  });
  await sim.stop();
});

test('an ephemeral volume gets a claim of its own, owned by the pod', async () => {
  const sim = simulate({ seed: 4, controllers, runPods: false });
  const volumeClaimTemplate = { metadata: { labels: { a: 'b' } }, spec: claim('1Gi').spec ?? {} };
  const metadata = { namespace: 'd', name: 'p' };
  const volumes = [{ name: 'tmp', ephemeral: { volumeClaimTemplate } }];
  await sim.api.create(pods, { metadata, spec: { containers: [], volumes } });
  await sim.until(() => found(sim).claim !== undefined, 'a claim');
  const made = found(sim).claim;
  assert.equal(made?.metadata.name, 'p-tmp');
  assert.deepEqual(made?.metadata.labels, { a: 'b' });
  assert.deepEqual(made?.metadata.ownerReferences, [
    {
      apiVersion: 'v1',
      kind: 'Pod',
      name: 'p',
      uid: sim.api.all(pods)[0]?.metadata.uid,
      controller: true,
      blockOwnerDeletion: true,
    },
  ]);
  await sim.stop();
});

test('an attributes class stays while a claim wants it, and goes when none does', async () => {
  const sim = simulate({ seed: 11, controllers, runPods: false });
  const finalizers = ['kubernetes.io/vac-protection'];
  for (const name of ['fast', 'idle']) {
    const metadata = { name, finalizers };
    await sim.api.create(volumeAttributesClasses, { metadata, driverName: 'd.example.com' });
  }
  await sim.api.create(persistentVolumeClaims, claim('1Gi', { volumeAttributesClassName: 'fast' }));
  const classes = sim.informers.of(volumeAttributesClasses);
  const left = () => classes.list().map(({ metadata }) => metadata.name);
  await sim.until(() => left().length === 2, 'both are there');
  for (const name of ['fast', 'idle']) await sim.api.delete(volumeAttributesClasses, { name });
  await sim.until(() => left().join() === 'fast', 'only the unused one went');
  await sim.api.delete(persistentVolumeClaims, { namespace: 'd', name: 'c' });
  await sim.until(() => left().length === 0, 'the other went too');
  await sim.stop();
});
