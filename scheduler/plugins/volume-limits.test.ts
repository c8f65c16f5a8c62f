import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VolumeAttachment } from '#api/types.ts';
import { type Plugin, SKIP } from '#scheduler/plugin.ts';
import { nodeVolumeLimits } from '#scheduler/plugins/node-volume-limits.ts';
import { volumeRestrictions } from '#scheduler/plugins/volume-restrictions.ts';
import { ClusterCache, podView, type StorageView } from '#scheduler/snapshot.ts';
import { testNode, testPod } from '#scheduler/testing.ts';

let attached: VolumeAttachment[] = [];

/** Claims are named like their volumes; those that begin with `one-pod` are for one pod alone. */
const storage: StorageView = {
  claim: (namespace, name) => ({
    metadata: { namespace, name },
    spec: {
      accessModes: [name.startsWith('one-pod') ? 'ReadWriteOncePod' : 'ReadWriteOnce'],
      ...(name.startsWith('unbound') ? { storageClassName: 'c' } : { volumeName: name }),
    },
    status: { phase: 'Bound' },
  }),
  volume: (name) =>
    name === ''
      ? undefined
      : { metadata: { name }, spec: { csi: { driver: 'd', volumeHandle: name } } },
  volumes: () => [],
  storageClass: (name) => ({ metadata: { name }, provisioner: 'd' }),
  csiNode: (name) => ({
    metadata: { name },
    spec: { drivers: [{ name: 'd', nodeID: 'x', allocatable: { count: 2 } }] },
  }),
  csiDriver: () => undefined,
  capacities: () => [],
  attachments: (node) => attached.filter(({ spec }) => spec.nodeName === node),
};

const user = (name: string, ...claims: string[]) =>
  podView(
    testPod(name, {
      volumes: claims.map((claimName) => ({
        name: claimName,
        persistentVolumeClaim: { claimName },
      })),
    }),
  );

function verdict(plugin: Plugin, there: string[], wanted: string[], on = 'n1'): string {
  const cluster = new ClusterCache({ storage });
  for (const name of ['n1', 'n2']) cluster.setNode(testNode(name));
  cluster.assume(user('there', ...there), 'n1');
  const context = { pod: user('new', ...wanted), cluster, state: new Map() };
  if (plugin.preFilter?.(context) === SKIP) return '';
  const node = cluster.node(on);
  assert.ok(node);
  return plugin.filter?.(context, node)?.reason ?? '';
}

const FULL = 'node(s) exceed max volume count';
const limits: { there: string[]; wanted: string[]; on?: string; reason: string }[] = [
  { there: ['a'], wanted: ['b'], reason: '' },
  { there: ['a', 'b'], wanted: ['c'], reason: FULL },
  { there: ['a', 'b'], wanted: ['c'], on: 'n2', reason: '' },
  { there: ['a', 'b'], wanted: ['a'], reason: '' },
  { there: ['a', 'b'], wanted: ['unbound'], reason: FULL },
  { there: [], wanted: ['a', 'b', 'unbound'], reason: FULL },
  { there: ['a', 'b'], wanted: [], reason: '' },
];
for (const { there, wanted, on, reason } of limits) {
  const name = `a node of two volumes with [${there.join()}] and a pod with [${wanted.join()}] on ${on ?? 'n1'}`;
  test(name, () => assert.equal(verdict(nodeVolumeLimits, there, wanted, on), reason));
}

test('a claim for one pod alone has one pod, wherever it is', () => {
  assert.match(verdict(volumeRestrictions, ['one-pod'], ['one-pod']), /ReadWriteOncePod/);
  assert.match(verdict(volumeRestrictions, ['one-pod'], ['one-pod'], 'n2'), /ReadWriteOncePod/);
  assert.equal(verdict(volumeRestrictions, ['one-pod'], ['one-pod-other']), '');
  assert.equal(verdict(volumeRestrictions, ['shared'], ['shared']), '');
});

test('what is still attached to a node counts, once', () => {
  const attachment = (persistentVolumeName: string, attacher = 'd'): VolumeAttachment => ({
    metadata: { name: `csi-${persistentVolumeName}` },
    spec: { attacher, nodeName: 'n1', source: { persistentVolumeName } },
  });
  const cases: { attached: VolumeAttachment[]; wanted: string; on?: string; reason: string }[] = [
    { attached: [attachment('old')], wanted: 'b', reason: FULL },
    { attached: [attachment('old')], wanted: 'old', reason: '' },
    { attached: [attachment('a')], wanted: 'b', reason: '' },
    { attached: [attachment('old', 'other')], wanted: 'b', reason: '' },
    { attached: [attachment('old')], wanted: 'b', on: 'n2', reason: '' },
  ];
  for (const { wanted, on, reason, ...world } of cases) {
    attached = world.attached;
    assert.equal(verdict(nodeVolumeLimits, ['a'], [wanted], on), reason, JSON.stringify(world));
  }
  attached = [];
});
