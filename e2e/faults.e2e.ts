import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import {
  cannotRun,
  CLUSTER_CIDR,
  layOutCluster,
  machineTraces,
  SERVICE_CIDR,
  type TestCluster,
} from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { end } from '#e2e/processes.ts';
import { BUSYBOX, webManifest } from '#e2e/workloads.ts';
import { startTestDriver, type TestDriver } from '#node-agent/csi/testing.ts';

const skip = cannotRun() ?? false;
const DRIVER = 'dirs.csi.test';

type Identity = { name: string; containerID: string; restartCount: number };

/** Kills parts of a running cluster with SIGKILL and shows that pods do not notice. */
describe('a cluster whose parts are killed', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });

  const identities = async (): Promise<Identity[]> => {
    const { items } = JSON.parse(await kubectl('get pods -o json'));
    return items
      .map((pod: { metadata: { name: string }; status: { containerStatuses?: Identity[] } }) => ({
        name: pod.metadata.name,
        containerID: pod.status.containerStatuses?.[0]?.containerID,
        restartCount: pod.status.containerStatuses?.[0]?.restartCount,
      }))
      .sort((a: Identity, b: Identity) => (a.name < b.name ? -1 : 1));
  };

  before(async () => {
    cluster = await layOutCluster();
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    await kubectl('apply -f -', webManifest({ name: 'web' }));
    await kubectl('rollout status deployment/web --timeout=60s');
  });
  after(async () => {
    await cluster.destroy();
    assert.deepEqual(machineTraces(cluster.dataDir), [], 'nothing stays mounted');
  });

  test('kill -9 of the whole process leaves containers running, and they are found again', async () => {
    const before = await identities();
    assert.equal(before.length, 2);
    await kubectl('create configmap survives --from-literal=a=b');
    process.kill(await cluster.pid(), 'SIGKILL');
    const port = await cluster.up();
    assert.equal(port.code, 0, port.stdout + port.stderr);
    assert.equal(await kubectl("get configmap survives -o jsonpath='{.data.a}'"), 'b');
    await eventually('pods are Ready', async () =>
      /^web\s+2\/2/m.test(await kubectl('get deployment web')),
    );
    assert.deepEqual(await identities(), before);
  });

  test('a second up while one runs changes nothing', async () => {
    const again = await cluster.up();
    assert.equal(again.code, 0);
    assert.match(again.stdout, /Already running/);
  });

  test('down stops everything; up brings the same objects back', async () => {
    const stopped = await cluster.down();
    assert.equal(stopped.code, 0, stopped.stderr);
    assert.deepEqual(machineTraces(cluster.dataDir), []);
    const status = await cluster.gantry(['status']);
    assert.equal(status.code, 3);
    const started = await cluster.up();
    assert.equal(started.code, 0, started.stdout + started.stderr);
    await kubectl('rollout status deployment/web --timeout=90s');
    await kubectl('get configmap survives');
  });
});

/** The components apart, each its own process, joined by HTTPS. */
describe('components in processes of their own', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const parts = new Map<string, ChildProcess>();
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });

  function start(name: string, args: string[]): void {
    const log = openSync(join(cluster.dataDir, `${name}.log`), 'a');
    parts.set(
      name,
      spawn(join(import.meta.dirname, '..', 'gantry'), [name, ...args], {
        stdio: ['ignore', log, log],
      }),
    );
  }
  const startServer = () =>
    start('apiserver', [
      ...['--data-dir', cluster.dataDir, '--secure-port', cluster.server.split(':').at(-1) ?? ''],
      ...['--service-cluster-ip-range', SERVICE_CIDR],
    ]);
  const startAgent = async () => start('node-agent', await cluster.agentFlags());
  const untilServed = () =>
    eventually('the API server answers', async () => (await kubectl('get --raw /readyz')) === 'ok');
  const kill = async (name: string) => {
    const child = parts.get(name);
    assert.ok(child);
    await end(child, 'SIGKILL');
  };

  before(async () => {
    cluster = await layOutCluster();
    await buildDemoImages(join(cluster.dataDir, 'images'));
    startServer();
    await untilServed();
    const kubeconfigs = join(cluster.dataDir, 'kubeconfig');
    start('controller-manager', [
      ...['--kubeconfig', join(kubeconfigs, 'controller-manager.kubeconfig')],
      ...['--cluster-cidr', CLUSTER_CIDR, '--service-cluster-ip-range', SERVICE_CIDR],
    ]);
    start('scheduler', ['--kubeconfig', join(kubeconfigs, 'scheduler.kubeconfig')]);
    await startAgent();
    await kubectl('create -f -', webManifest({ name: 'web' }));
    await kubectl('rollout status deployment/web --timeout=90s');
  });
  after(async () => {
    for (const child of parts.values()) await end(child, 'SIGTERM');
    await driver?.close();
    await cluster.destroy();
  });

  const containers = () =>
    kubectl(
      "get pods -o jsonpath='{range .items[*]}{.status.containerStatuses[0].containerID} {end}'",
    );

  test('a killed node agent finds its pods again', async () => {
    const before = await containers();
    await kill('node-agent');
    await startAgent();
    await kubectl('scale deployment/web --replicas=3');
    await kubectl('rollout status deployment/web --timeout=60s');
    const now = await containers();
    for (const id of before.trim().split(' ')) assert.ok(now.includes(id), `${id} runs on`);
  });

  /** A volume of the driver bound to a claim, and a pod that has it. */
  const podWithVolume = (name: string): string => {
    const items = [
      {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '1Gi' },
          claimRef: { namespace: 'default', name },
          csi: {
            driver: DRIVER,
            volumeHandle: name,
            nodeStageSecretRef: { namespace: 'default', name: 'to-stage' },
            nodePublishSecretRef: { namespace: 'default', name: 'to-publish' },
          },
        },
      },
      {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: '',
          volumeName: name,
          resources: { requests: { storage: '1Gi' } },
        },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name },
        spec: {
          terminationGracePeriodSeconds: 1,
          securityContext: { fsGroup: 4321 },
          volumes: [{ name: 'v', persistentVolumeClaim: { claimName: name, readOnly: true } }],
          containers: [
            {
              name: 'main',
              image: BUSYBOX,
              command: ['sh', '-c', 'touch /data/x && exit 1; while :; do sleep 0.1; done'],
              volumeMounts: [{ name: 'v', mountPath: '/data' }],
            },
          ],
        },
      },
    ];
    return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
  };
  let driver: TestDriver;
  const methods = (): string[] =>
    driver.calls.map(({ method }) => method).filter((m) => /Stage|Publish|Unstage/i.test(m));
  const csiMounts = (): string[] =>
    machineTraces(cluster.dataDir).filter((line) => /kubernetes\.io~csi|globalmount/.test(line));
  const runVolume = async (name: string): Promise<void> => {
    mkdirSync(join(driver.dir, name));
    await kubectl('create -f -', podWithVolume(name));
    await kubectl(`wait pod/${name} --for=condition=Ready --timeout=60s`);
  };

  test('a killed node agent knows what it has of a storage driver, and gives it back', async () => {
    const rootDir = join(cluster.dataDir, 'node', cluster.nodeName);
    const capabilities = ['STAGE_UNSTAGE_VOLUME', 'VOLUME_MOUNT_GROUP'] as const;
    driver = await startTestDriver({ name: DRIVER, rootDir, capabilities });
    const object = { metadata: { name: DRIVER }, spec: { attachRequired: false } };
    const csiDriver = { apiVersion: 'storage.k8s.io/v1', kind: 'CSIDriver', ...object };
    await kubectl('create -f -', JSON.stringify(csiDriver));
    for (const name of ['to-stage', 'to-publish']) {
      await kubectl(`create secret generic ${name} --from-literal=key=${name}`);
    }
    await runVolume('killed');
    const [stage, publish] = driver.calls.filter(({ method }) => /NodeStage|NodePub/.test(method));
    assert.deepEqual(stage?.request.secrets, { key: 'to-stage' });
    assert.deepEqual(publish?.request.secrets, { key: 'to-publish' });
    assert.equal(publish?.request.readonly, true);
    for (const call of [stage, publish]) {
      assert.equal(call?.request.volumeCapability?.mount?.volumeMountGroup, '4321');
    }
    await kill('node-agent');
    await kubectl('delete pod killed --wait=false');
    await startAgent();
    await kubectl('wait pod/killed --for=delete --timeout=60s');
    const before = ['NodeStageVolume', 'NodePublishVolume'];
    assert.deepEqual(methods(), [...before, 'NodeUnpublishVolume', 'NodeUnstageVolume']);
    assert.deepEqual(csiMounts(), []);
  });

  test('a killed API server comes back with everything, and the others go on', async () => {
    const before = await containers();
    await kill('apiserver');
    startServer();
    await untilServed();
    assert.equal(await containers(), before);
    await kubectl('scale deployment/web --replicas=1');
    await eventually(
      'the controllers and the agent work on',
      async () => (await containers()).trim().split(' ').length === 1,
    );
    await kubectl('rollout status deployment/web --timeout=60s');
  });

  test('down gives volumes back to their driver', async () => {
    await runVolume('down');
    for (const child of parts.values()) await end(child, 'SIGTERM');
    const stopped = await cluster.down();
    assert.match(stopped.stdout, /Gave 1 volumes back to their storage drivers/);
    assert.deepEqual(methods().slice(-2), ['NodeUnpublishVolume', 'NodeUnstageVolume']);
    assert.deepEqual(machineTraces(cluster.dataDir), []);
  });
});
