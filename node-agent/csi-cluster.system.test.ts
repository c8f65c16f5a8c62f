import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import { silentLog } from '#base/log.ts';
import { until } from '#base/testing.ts';
import type { Node, PersistentVolumeClaim, Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { start as startControllers } from '#controllers/start.ts';
import { startSidecars } from '#node-agent/csi/testing-sidecars.ts';
import { startTestDriver, type TestDriver } from '#node-agent/csi/testing.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';
import { start as startScheduler } from '#scheduler/start.ts';

/** The whole way of a CSI volume: API server, controllers, scheduler, sidecars, agent and driver. */
const skip = missingForTestRuntime() ?? loopProblem() ?? false;
const DRIVER = 'disks.csi.test';
const NAMESPACE = '/api/v1/namespaces/default';
const stop = new AbortController();
let server: TestServer;
let node: TestNode;
let driver: TestDriver;
let device: string;
let image: string;
let running: Promise<unknown>[] = [];
let sidecars: ReturnType<typeof startSidecars>;

function loopProblem(): string | undefined {
  return existsSync('/dev/loop-control') ? undefined : 'no loop devices here';
}

before(async () => {
  if (skip) return;
  const dir = mkdtempSync('/tmp/G-disk-');
  image = join(dir, 'image');
  writeFileSync(image, '');
  truncateSync(image, 1024 * 1024);
  device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
  server = await startTestServer();
  const user = (name: string, group: string) =>
    createApi(
      inProcessTransport(server.handle, { name, groups: [group, 'system:authenticated'] }),
      { userAgent: 'test' },
    );
  const admin = user('admin', 'system:masters');
  const { signal } = stop;
  running = [
    startControllers({ api: admin }, { signal, log: silentLog }).done,
    startScheduler({ api: admin, profile: 'pack' }, { signal, log: silentLog }).done,
  ];
  node = await startTestNode({ api: user('system:node:n1', 'system:nodes') });
  driver = await startTestDriver({ name: DRIVER, rootDir: node.rootDir, nodeId: 'id-1', device });
  sidecars = startSidecars({ api: admin, driver, nodeId: 'id-1' }, signal);
  running.push(sidecars.done);
  await call('POST', '/apis/storage.k8s.io/v1/csidrivers', {
    metadata: { name: DRIVER },
    spec: { attachRequired: true },
  });
  await call('POST', '/apis/storage.k8s.io/v1/storageclasses', {
    metadata: { name: 'disks' },
    provisioner: DRIVER,
    allowVolumeExpansion: true,
    volumeBindingMode: 'WaitForFirstConsumer',
  });
});

after(async () => {
  if (skip) return;
  stop.abort(new Error('the test is over'));
  await Promise.allSettled(running);
  await node.close();
  await driver.close();
  await server.close();
  execFileSync('losetup', ['--detach', device]);
  rmSync(join(image, '..'), { recursive: true, force: true });
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(node.dir), false);
});

const run = (name: string, body: () => Promise<void>): void =>
  void test(name, { skip, timeout: 90_000 }, body);

async function call(verb: string, path: string, body?: object, headers = {}) {
  const answer = await server.call(verb, path, body, headers);
  assert.ok(answer.code < 300, answer.text);
  return answer.body as Record<string, unknown>;
}
/** Longer than anything here takes on a busy machine. */
const LIMIT_MS = 30_000;
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
async function get<T>(path: string, ok: (object: T) => boolean): Promise<T> {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const { code, body, text } = await server.call('GET', path);
    if (code < 300 && ok(body as unknown as T)) return body as unknown as T;
    if (Date.now() > end) throw new Error(`${path} did not become as wanted: ${text}`);
    await pause();
  }
}
async function gone(path: string): Promise<void> {
  const { code } = await server.call('DELETE', path);
  assert.ok(code < 300 || code === 404);
  await away(path);
}
async function away(path: string): Promise<void> {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const { code, text } = await server.call('GET', path);
    if (code === 404) return;
    if (Date.now() > end) throw new Error(`${path} did not go: ${text}`);
    await pause();
  }
}
const podAt = (name: string): string => `${NAMESPACE}/pods/${name}`;
const claimAt = (name: string): string => `${NAMESPACE}/persistentvolumeclaims/${name}`;
const isIn = (phase: string) => (pod: Pod) => pod.status?.phase === phase;

const claim = (name: string, spec: object = {}) =>
  call('POST', `${NAMESPACE}/persistentvolumeclaims`, {
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'disks',
      resources: { requests: { storage: '1Gi' } },
      ...spec,
    },
  });

const pod = (name: string, script: string, own: object) =>
  call('POST', `${NAMESPACE}/pods`, {
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      volumes: [{ name: 'v', persistentVolumeClaim: { claimName: name } }],
      containers: [{ name: 'main', image: TEST_IMAGE, command: ['sh', '-c', script], ...own }],
    },
  });
const MOUNT = { volumeMounts: [{ name: 'v', mountPath: '/data' }] };
const LOOP = 'while :; do sleep 0.1; done';

run('provisioned, attached, staged, published, used, grown, and all of it undone', async () => {
  await claim('data');
  await pod('data', `echo kept > /data/file; ${LOOP}`, MOUNT);
  await get(podAt('data'), isIn('Running'));
  const bound = await get<PersistentVolumeClaim>(claimAt('data'), () => true);
  const name = bound.spec?.volumeName ?? '';
  assert.deepEqual([...driver.attached], [`${name} id-1`]);
  const stage = driver.calls.find(({ method }) => method === 'NodeStageVolume')?.request;
  assert.deepEqual(stage?.publishContext, { device: `/dev/of/${name}` });
  const unique = `kubernetes.io/csi/${DRIVER}^${name}`;
  const { status } = await get<Node>('/api/v1/nodes/n1', () => true);
  assert.deepEqual(status?.volumesInUse, [unique]);
  assert.deepEqual(status?.volumesAttached, [{ name: unique, devicePath: '' }]);
  await call(
    'PATCH',
    claimAt('data'),
    { spec: { resources: { requests: { storage: '2Gi' } } } },
    { 'content-type': 'application/merge-patch+json' },
  );
  const grown = await get<PersistentVolumeClaim>(
    claimAt('data'),
    (object) => object.status?.capacity?.['storage'] === '2Gi',
  );
  assert.equal(grown.status?.conditions, undefined);
  await gone(podAt('data'));
  await until('detached', () => driver.attached.size === 0, LIMIT_MS);
  await get<Node>('/api/v1/nodes/n1', (object) => !object.status?.volumesAttached?.length);
  await pod('data', 'test "$(cat /data/file)" = kept', MOUNT);
  await get(podAt('data'), isIn('Succeeded'));
  await gone(podAt('data'));
  await gone(claimAt('data'));
  await away(`/api/v1/persistentvolumes/${name}`);
  assert.equal(driver.volumes.size, 0);
  assert.deepEqual(sidecars.failures, []);
});

run('a block volume is a device of the container', async () => {
  await claim('raw', { volumeMode: 'Block' });
  const script =
    'test -b /dev/xvda && dd if=/dev/zero of=/dev/xvda bs=512 count=1 && echo ok > /dev/termination-log';
  const own = { volumeDevices: [{ name: 'v', devicePath: '/dev/xvda' }] };
  await pod('raw', `printf gantry | dd of=/dev/xvda; ${script.replace('zero', 'null')}`, own);
  const done = await get<Pod>(podAt('raw'), ({ status }) =>
    /Succeeded|Failed/.test(status?.phase ?? ''),
  );
  assert.equal(done.status?.phase, 'Succeeded', JSON.stringify(done.status));
  execFileSync('sync');
  assert.equal(readFileSync(image).subarray(0, 6).toString(), 'gantry');
  await gone(podAt('raw'));
  await until('detached', () => driver.attached.size === 0, LIMIT_MS);
  await gone(claimAt('raw'));
});

run('an agent that is killed while a volume is being made goes on where it was', async () => {
  await claim('cut');
  driver.failing.set('NodePublishVolume', 'not now');
  await pod('cut', LOOP, MOUNT);
  const isPublished = (): boolean =>
    driver.calls.some(
      ({ method, request }) => method === 'NodePublishVolume' && request.volumeContext['made'],
    );
  await until('published', isPublished, LIMIT_MS);
  await node.restart(async () => {
    driver.failing.clear();
  });
  await get(podAt('cut'), isIn('Running'));
  await gone(podAt('cut'));
  await until('detached', () => driver.attached.size === 0, LIMIT_MS);
  assert.equal(
    /kubernetes.io~csi|globalmount/.test(readFileSync('/proc/self/mountinfo', 'utf8')),
    false,
  );
});
