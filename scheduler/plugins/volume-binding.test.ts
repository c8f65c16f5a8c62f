import assert from 'node:assert/strict';
import { test } from 'node:test';
import type {
  CSIStorageCapacity,
  PersistentVolume,
  PersistentVolumeClaim,
  StorageClass,
} from '#api/types.ts';
import { type CycleContext, SKIP } from '#scheduler/plugin.ts';
import { volumeBinding } from '#scheduler/plugins/volume-binding.ts';
import { ClusterCache, podView, type StorageView } from '#scheduler/snapshot.ts';
import { testNode, testPod } from '#scheduler/testing.ts';

function claim(parts: Partial<PersistentVolumeClaim> = {}): PersistentVolumeClaim {
  return {
    metadata: { namespace: 'default', name: 'c', uid: 'u' },
    spec: { storageClassName: 'wait', accessModes: ['ReadWriteOnce'] },
    ...parts,
  };
}

function volumeOn(host: string, spec: PersistentVolume['spec'] = {}): PersistentVolume {
  const matchExpressions = [{ key: 'kubernetes.io/hostname', operator: 'In', values: [host] }];
  const nodeAffinity = { required: { nodeSelectorTerms: [{ matchExpressions }] } };
  const capacity = { storage: '1Gi' };
  const accessModes = ['ReadWriteOnce'];
  return {
    metadata: { name: 'v' },
    spec: { capacity, accessModes, storageClassName: 'wait', nodeAffinity, ...spec },
  };
}

const classNamed = (provisioner: string, volumeBindingMode: string): StorageClass => ({
  metadata: { name: 'wait' },
  provisioner,
  volumeBindingMode,
});
const BY_HAND = 'kubernetes.io/no-provisioner';

type World = {
  claim?: PersistentVolumeClaim;
  volumes?: PersistentVolume[];
  storageClass?: StorageClass;
  room?: CSIStorageCapacity;
};

/** The reason of the refusal before, or of node n1; '' when it takes the pod. */
function verdict({ claim: one, volumes = [], storageClass, room }: World): string {
  const storage: StorageView = {
    claim: () => one,
    volume: (name) => volumes.find(({ metadata }) => metadata.name === name),
    volumes: () => volumes,
    storageClass: () => storageClass,
    csiNode: () => undefined,
    csiDriver: (name) =>
      room === undefined ? undefined : { metadata: { name }, spec: { storageCapacity: true } },
    attachments: () => [],
    capacities: () => (room === undefined ? [] : [room]),
  };
  const cluster = new ClusterCache({ storage });
  cluster.setNode(testNode('n1'));
  const pod = testPod('p', {
    volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'c' } }],
  });
  const context: CycleContext = { pod: podView(pod), cluster, state: new Map() };
  const before = volumeBinding.preFilter?.(context);
  if (before) return before === SKIP ? '' : before.reason;
  const node = cluster.node('n1');
  assert.ok(node);
  return volumeBinding.filter?.(context, node)?.reason ?? '';
}

const bound = claim({ spec: { volumeName: 'v' }, status: { phase: 'Bound' } });
const going = claim();
going.metadata = { ...going.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' };
const waits = classNamed(BY_HAND, 'WaitForFirstConsumer');
const provisions = classNamed('gantry.dev/local', 'WaitForFirstConsumer');
const chosen = claim();
chosen.metadata = {
  ...chosen.metadata,
  annotations: { 'volume.kubernetes.io/selected-node': 'n2' },
};

const large = claim({
  spec: {
    storageClassName: 'wait',
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '10Gi' } },
  },
});
const roomFor = (capacity: string, host: string): CSIStorageCapacity => ({
  metadata: { name: 'room' },
  storageClassName: 'wait',
  capacity,
  nodeTopology: { matchLabels: { 'kubernetes.io/hostname': host } },
});

const cases: { name: string; of: World; reason: string }[] = [
  { name: 'no such claim', of: {}, reason: 'persistentvolumeclaim "c" not found' },
  {
    name: 'a claim that goes',
    of: { claim: going },
    reason: 'persistentvolumeclaim "c" is being deleted',
  },
  { name: 'a volume of this node', of: { claim: bound, volumes: [volumeOn('n1')] }, reason: '' },
  {
    name: 'a volume of another node',
    of: { claim: bound, volumes: [volumeOn('n2')] },
    reason: "node(s) didn't match PersistentVolume's node affinity",
  },
  {
    name: 'an unbound claim that should be bound at once',
    of: { claim: claim(), storageClass: classNamed('x', 'Immediate') },
    reason: 'pod has unbound immediate PersistentVolumeClaims',
  },
  {
    name: 'a waiting claim and a volume here',
    of: { claim: claim(), storageClass: waits, volumes: [volumeOn('n1')] },
    reason: '',
  },
  {
    name: 'a waiting claim and a volume elsewhere',
    of: { claim: claim(), storageClass: waits, volumes: [volumeOn('n2')] },
    reason: "node(s) didn't find available persistent volumes to bind",
  },
  {
    name: 'a waiting claim that can be provisioned',
    of: { claim: claim(), storageClass: provisions },
    reason: '',
  },
  {
    name: 'a claim that is being provisioned elsewhere',
    of: { claim: chosen, storageClass: provisions },
    reason: "node(s) didn't find available persistent volumes to bind",
  },
  {
    name: 'a driver that has enough left here',
    of: { claim: large, storageClass: provisions, room: roomFor('20Gi', 'n1') },
    reason: '',
  },
  {
    name: 'a driver that has too little left here',
    of: { claim: large, storageClass: provisions, room: roomFor('9Gi', 'n1') },
    reason: 'node(s) did not have enough free storage',
  },
  {
    name: 'a driver that has something left elsewhere',
    of: { claim: large, storageClass: provisions, room: roomFor('20Gi', 'n2') },
    reason: 'node(s) did not have enough free storage',
  },
  {
    name: 'a class that is not for this part of the cluster',
    of: {
      claim: claim(),
      storageClass: {
        ...provisions,
        allowedTopologies: [
          { matchLabelExpressions: [{ key: 'kubernetes.io/hostname', values: ['n2'] }] },
        ],
      },
    },
    reason: "node(s) didn't find available persistent volumes to bind",
  },
];
for (const { name, of, reason } of cases) {
  test(`volumes: ${name}`, () => assert.equal(verdict(of), reason));
}
