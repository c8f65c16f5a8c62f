import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CSIDriver, Pod } from '#api/types.ts';
import { nodes, csiNodes } from '#client/resources.ts';
import { simulateApi } from '#client/simulated-api.ts';
import type { NodeCapability } from '#node-agent/csi/csi-driver.ts';
import { publishDriver, withdrawDriver } from '#node-agent/csi/csi-node.ts';
import {
  capabilityOf,
  type CsiRequest,
  groupAccess,
  inlineRequest,
  podContext,
} from '#node-agent/csi/csi-request.ts';

const pod: Pod = {
  metadata: { name: 'p', namespace: 'ns', uid: 'u' },
  spec: { containers: [], securityContext: { fsGroup: 7 } },
};
const base: CsiRequest = {
  ...inlineRequest(pod, { name: 'v', csi: { driver: 'd' } }),
  lifecycle: 'Persistent',
};
const driver = (spec: Partial<CSIDriver['spec']>): CSIDriver => ({ metadata: {}, spec });
const able = (...names: NodeCapability[]): ReadonlySet<NodeCapability> => new Set(names);

const groups: { of: Partial<CsiRequest>; policy?: string; can?: NodeCapability; by: string }[] = [
  { of: {}, by: 'nobody' },
  { of: { fsType: 'ext4' }, by: 'agent' },
  { of: { fsType: 'ext4', accessModes: ['ReadWriteMany'] }, by: 'nobody' },
  { of: { accessModes: ['ReadWriteMany'] }, policy: 'File', by: 'agent' },
  { of: { readOnly: true }, policy: 'File', by: 'nobody' },
  { of: { fsType: 'ext4' }, policy: 'None', by: 'nobody' },
  { of: { block: true }, policy: 'File', by: 'nobody' },
  { of: {}, policy: 'File', can: 'VOLUME_MOUNT_GROUP', by: 'driver' },
];
for (const { of, policy, can, by } of groups) {
  test(`group of ${JSON.stringify(of)} under ${policy ?? 'the default'}: ${by}`, () => {
    const object = policy ? driver({ fsGroupPolicy: policy }) : undefined;
    const request = { ...base, ...of };
    assert.equal(groupAccess(request, object, able(...(can ? [can] : []))).by, by);
  });
}

const modes: { modes: string[]; exact: boolean; to: string }[] = [
  { modes: ['ReadWriteOnce'], exact: false, to: 'SINGLE_NODE_WRITER' },
  { modes: ['ReadWriteOnce'], exact: true, to: 'SINGLE_NODE_MULTI_WRITER' },
  { modes: ['ReadWriteOncePod'], exact: true, to: 'SINGLE_NODE_SINGLE_WRITER' },
  { modes: ['ReadOnlyMany'], exact: true, to: 'MULTI_NODE_READER_ONLY' },
  { modes: ['ReadWriteOnce', 'ReadWriteMany'], exact: true, to: 'MULTI_NODE_MULTI_WRITER' },
];
for (const { modes: accessModes, exact, to } of modes) {
  test(`access modes ${accessModes.join('+')} are ${to}`, () => {
    const can = exact ? able('SINGLE_NODE_MULTI_WRITER') : able();
    const { accessMode } = capabilityOf({ ...base, accessModes }, undefined, can);
    assert.equal(accessMode.mode, to);
  });
}

test('the driver is told of the pod only when it asks', () => {
  assert.deepEqual(podContext(base, driver({})), {});
  const told = podContext({ ...base, lifecycle: 'Ephemeral' }, driver({ podInfoOnMount: true }));
  assert.deepEqual(told, {
    'csi.storage.k8s.io/pod.name': 'p',
    'csi.storage.k8s.io/pod.namespace': 'ns',
    'csi.storage.k8s.io/pod.uid': 'u',
    'csi.storage.k8s.io/serviceAccount.name': 'default',
    'csi.storage.k8s.io/ephemeral': 'true',
  });
});

test('CSINode and the labels of the node follow what drivers say', async () => {
  const api = simulateApi();
  await api.create(nodes, { metadata: { name: 'n' } });
  const info = (nodeId: string, zone: string, maxVolumesPerNode = 0) => ({
    nodeId,
    maxVolumesPerNode,
    accessibleTopology: { segments: { 'd/zone': zone } },
  });
  const drivers = () => api.all(csiNodes)[0]?.spec.drivers;
  await publishDriver(api, 'n', 'd', info('one', 'a', 3));
  const topologyKeys = ['d/zone'];
  const first = { name: 'd', nodeID: 'one', topologyKeys, allocatable: { count: 3 } };
  assert.deepEqual(drivers(), [first]);
  assert.equal(api.all(nodes)[0]?.metadata.labels?.['d/zone'], 'a');
  await publishDriver(api, 'n', 'd', info('two', 'a'));
  assert.deepEqual(drivers(), [{ name: 'd', nodeID: 'two', topologyKeys }]);
  await assert.rejects(
    publishDriver(api, 'n', 'd', info('two', 'b')),
    /driver d says topology d\/zone=b, but node n is labelled d\/zone=a/,
  );
  await withdrawDriver(api, 'n', 'd');
  assert.deepEqual(drivers(), []);
});
