import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import type { CSINode, Node } from '#api/types.ts';
import { startTestDriver, type TestDriver } from '#node-agent/csi/testing.ts';
import { FOREVER, inPhase, sh, testCluster } from '#node-agent/testing-cluster.ts';

/** The node's side of CSI with a real driver on real sockets; controllers are played by hand. */
const DRIVER = 'dirs.csi.test';
const NAMESPACE = '/api/v1/namespaces/default';
let driver: TestDriver;
const cluster = testCluster({
  async started() {
    await call('POST', '/apis/storage.k8s.io/v1/csidrivers', {
      metadata: { name: DRIVER },
      spec: {
        attachRequired: false,
        podInfoOnMount: true,
        fsGroupPolicy: 'File',
        volumeLifecycleModes: ['Persistent', 'Ephemeral'],
        tokenRequests: [{ audience: 'vault', expirationSeconds: 600 }],
      },
    });
    driver = await startTestDriver({
      name: DRIVER,
      rootDir: cluster.node.rootDir,
      maxVolumes: 7,
      topology: { 'topology.csi.test/rack': 'r1' },
    });
  },
  ending: () => driver.close(),
});
const { run, request: ask, call, get, until, remove } = cluster;

const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

const create = (name: string, script: string, volume: object, spec: object = {}) =>
  cluster.create(name, {
    restartPolicy: 'Never',
    volumes: [{ name: 'v', ...volume }],
    containers: [sh(script, { volumeMounts: [{ name: 'v', mountPath: '/data' }] })],
    ...spec,
  });

/** A volume as a provisioner would have made it, bound to a claim as the binder would. */
async function volume(name: string, csi: object = {}): Promise<object> {
  const claim = await call('POST', `${NAMESPACE}/persistentvolumeclaims`, {
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      volumeName: name,
      resources: { requests: { storage: '1Gi' } },
    },
  });
  const { uid } = claim['metadata'] as { uid: string };
  driver.volumes.set(name, 2 ** 30);
  mkdirSync(`${driver.dir}/${name}`);
  await call('POST', '/api/v1/persistentvolumes', {
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '1Gi' },
      claimRef: { kind: 'PersistentVolumeClaim', namespace: 'default', name, uid },
      mountOptions: ['noatime'],
      csi: { driver: DRIVER, volumeHandle: name, volumeAttributes: { a: 'b' }, ...csi },
    },
  });
  await merge(`${NAMESPACE}/persistentvolumeclaims/${name}/status`, {
    status: { phase: 'Bound', capacity: { storage: '1Gi' } },
  });
  return { persistentVolumeClaim: { claimName: name } };
}

const merge = (path: string, body: object) =>
  call('PATCH', path, body, { 'content-type': 'application/merge-patch+json' });
const methods = (id: string): string[] =>
  driver.calls.filter(({ request }) => request.volumeId === id).map(({ method }) => method);
const last = (method: string) => driver.calls.findLast((c) => c.method === method)?.request;

run('a driver that comes is on CSINode, with its node id, topology and limit', async () => {
  const csiNode = await get<CSINode>('/apis/storage.k8s.io/v1/csinodes/n1', (object) =>
    Boolean(object.spec.drivers?.length),
  );
  assert.deepEqual(csiNode.spec.drivers, [
    {
      name: DRIVER,
      nodeID: 'the-node',
      topologyKeys: ['topology.csi.test/rack'],
      allocatable: { count: 7 },
    },
  ]);
  const object = await get<Node>('/api/v1/nodes/n1', () => true);
  assert.equal(object.metadata.labels?.['topology.csi.test/rack'], 'r1');
  assert.equal(
    object.metadata.annotations?.['csi.volume.kubernetes.io/nodeid'],
    JSON.stringify({ [DRIVER]: 'the-node' }),
  );
});

run('a volume is staged once, published for each pod, and all of it undone', async () => {
  const source = await volume('one');
  const script = `echo kept >> /data/file; ${FOREVER}`;
  await create('a', script, source, { securityContext: { fsGroup: 4321 } });
  await until('a', inPhase('Running'));
  await create('b', 'stat -c %g /data; test "$(cat /data/file)" = kept', source);
  await until('b', inPhase('Succeeded'));
  const stage = last('NodeStageVolume');
  assert.equal(
    stage?.stagingTargetPath.startsWith(`${cluster.node.rootDir}/plugins/kubernetes.io/csi/`),
    true,
  );
  assert.deepEqual(stage?.volumeCapability?.mount?.mountFlags, ['noatime']);
  const context = last('NodePublishVolume')?.volumeContext ?? {};
  assert.equal(context['a'], 'b');
  assert.equal(context['csi.storage.k8s.io/pod.name'], 'b');
  const tokens = JSON.parse(context['csi.storage.k8s.io/serviceAccount.tokens'] ?? '{}');
  assert.match(tokens.vault.expirationTimestamp, /^20\d\d-.*Z$/);
  assert.equal(statSync(`${driver.dir}/one`).gid, 4321);
  await remove('b');
  assert.equal(methods('one').includes('NodeUnstageVolume'), false, 'the other pod has it still');
  await remove('a');
  const done = methods('one').filter((name) => name !== 'NodeGetVolumeStats');
  assert.deepEqual(done, [
    'NodeStageVolume',
    'NodePublishVolume',
    'NodePublishVolume',
    'NodeUnpublishVolume',
    'NodeUnpublishVolume',
    'NodeUnstageVolume',
  ]);
  assert.equal(readFileSync(`${driver.dir}/one/file`, 'utf8'), 'kept\n');
});

run('an inline volume lives with its pod', async () => {
  const csi = { driver: DRIVER, volumeAttributes: { size: 'small' } };
  await create('inline', 'cat /data/context > /dev/termination-log', { csi });
  const pod = await until('inline', inPhase('Succeeded'));
  const said = pod.status?.containerStatuses?.[0]?.state?.terminated?.message ?? '';
  const request = JSON.parse(said);
  assert.equal(request.volumeContext['csi.storage.k8s.io/ephemeral'], 'true');
  assert.equal(request.volumeContext.size, 'small');
  await remove('inline');
  while (!methods(request.volumeId).includes('NodeUnpublishVolume')) await pause();
  assert.deepEqual(methods(request.volumeId), ['NodePublishVolume', 'NodeUnpublishVolume']);
});

run('the agent is killed at any point, and the next one undoes what there is', async () => {
  const source = await volume('crash');
  await create('c', FOREVER, source);
  await until('c', inPhase('Running'));
  await cluster.node.restart(async () => {
    await ask('DELETE', `${NAMESPACE}/pods/c?gracePeriodSeconds=0`);
  });
  while (!methods('crash').includes('NodeUnstageVolume')) await pause();
  assert.equal(methods('crash').filter((m) => m === 'NodePublishVolume').length, 1);
  const mounted = () => readFileSync('/proc/self/mountinfo', 'utf8');
  while (/kubernetes.io~csi|globalmount/.test(mounted())) await pause();
});

run('a driver that is away is told of, and all goes on when it is back', async () => {
  const source = await volume('away');
  await driver.leave();
  await get<CSINode>('/apis/storage.k8s.io/v1/csinodes/n1', ({ spec }) => !spec.drivers?.length);
  await create('waits', FOREVER, source);
  type Events = { items: { reason: string; message: string }[] };
  await get<Events>(`${NAMESPACE}/events`, ({ items }) =>
    items.some(
      ({ reason, message }) =>
        reason === 'FailedMount' && /driver name dirs.csi.test not found/.test(message),
    ),
  );
  await driver.come();
  await until('waits', inPhase('Running'));
  driver.failing.set('NodeUnpublishVolume', 'no way out');
  await ask('DELETE', `${NAMESPACE}/pods/waits`);
  await get<Events>(`${NAMESPACE}/events`, ({ items }) =>
    items.some(({ reason, message }) => reason === 'FailedUnmount' && /no way out/.test(message)),
  );
  driver.failing.clear();
  await remove('waits');
  assert.equal(methods('away').at(-1), 'NodeUnstageVolume');
});

run('a volume that has grown is grown on the node, and the claim says so', async () => {
  const source = await volume('grow');
  await create('g', FOREVER, source);
  await until('g', inPhase('Running'));
  await merge('/api/v1/persistentvolumes/grow', { spec: { capacity: { storage: '2Gi' } } });
  await merge(`${NAMESPACE}/persistentvolumeclaims/grow/status`, {
    status: {
      conditions: [{ type: 'FileSystemResizePending', status: 'True' }],
      allocatedResourceStatuses: { storage: 'NodeResizePending' },
    },
  });
  type Claim = { status: { capacity: { storage: string }; conditions?: object[] } };
  const claim = await get<Claim>(
    `${NAMESPACE}/persistentvolumeclaims/grow`,
    ({ status }) => status.capacity.storage === '2Gi',
  );
  assert.equal(claim.status.conditions, undefined);
  assert.equal(last('NodeExpandVolume')?.capacityRange?.requiredBytes, 2 ** 31);
  await remove('g');
});
