import type { Deployment, Node, Pod, Service } from '#api/types.ts';
import { startTestServer } from '#apiserver/testing.ts';
import { figure, printTable } from '#bench/machine.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { createInformers } from '#client/informer-factory.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import {
  deployments,
  endpointSlices,
  leases,
  nodes,
  pods,
  replicaSets,
  services,
} from '#client/resources.ts';
import { silentLog } from '#base/log.ts';
import { systemClock } from '#base/clock.ts';
import { systemRandom } from '#base/random.ts';
import { start as startControllers } from '#controllers/start.ts';
import { start as startScheduler } from '#scheduler/start.ts';

/**
 * The whole control plane in one process, with nodes that run nothing: their pods are Running as
 * soon as they are bound. Shows how many pods a second come and go through controllers, scheduler
 * and API server, and what that takes.
 */

const NODES = Number(process.argv[2] ?? 200);
const DEPLOYMENTS = Number(process.argv[3] ?? 100);
const REPLICAS = Number(process.argv[4] ?? 50);
const AT_ONCE = 32;
const LEASE_SECONDS = 40;
const RENEW_MS = 10_000;

const nodeName = (i: number): string => `node-${String(i).padStart(4, '0')}`;
const isoNow = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z');

async function forAll(count: number, each: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await each(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function addNode(api: Api, i: number): Promise<void> {
  const name = nodeName(i);
  const capacity = { cpu: '64', memory: '256Gi', pods: '250' };
  const node: Node = { metadata: { name, labels: { 'kubernetes.io/hostname': name } } };
  await api.create(nodes, node);
  const conditions = [
    { type: 'Ready', status: 'True', reason: 'Hollow', lastHeartbeatTime: isoNow() },
  ];
  const body = { status: { capacity, allocatable: capacity, conditions } };
  await api.patch(nodes, { name }, { type: 'strategic', body }, { subresource: 'status' });
  await api.create(leases, {
    metadata: { name, namespace: 'kube-node-lease' },
    spec: { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime: nowMicro() },
  });
}

const nowMicro = (): string => new Date().toISOString().replace('Z', '000Z');

async function renewLeases(api: Api, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await systemClock.sleep(RENEW_MS, { signal }).catch(() => {});
    const body = { spec: { renewTime: nowMicro() } };
    await forAll(signal.aborted ? 0 : NODES, (n) =>
      api.patch(
        leases,
        { namespace: 'kube-node-lease', name: nodeName(n) },
        { type: 'merge', body },
      ),
    );
  }
}

/** All hollow nodes at once: what is bound runs, what is to go is gone. */
function runHollowNodes(api: Api, signal: AbortSignal): void {
  const informers = createInformers(api, {
    signal,
    log: silentLog,
    clock: systemClock,
    random: systemRandom,
  });
  let ip = 0;
  const ignoreGone = (): void => {
    // Deleted or changed in between: the next event says what there is.
  };
  informers.of(pods).onChange((change) => {
    const pod = change.object;
    const { name = '', namespace = '', deletionTimestamp } = pod.metadata;
    if (change.type === 'deleted' || !pod.spec.nodeName) return;
    if (deletionTimestamp) {
      api.delete(pods, { name, namespace }, { gracePeriodSeconds: 0 }).catch(ignoreGone);
    } else if (pod.status?.phase === 'Pending') {
      const podIP = `10.${(ip >> 16) & 255}.${(ip >> 8) & 255}.${ip++ & 255}`;
      const body = { status: runningStatus(podIP) };
      const options = { subresource: 'status' };
      api.patch(pods, { name, namespace }, { type: 'strategic', body }, options).catch(ignoreGone);
    }
  });
}

function runningStatus(podIP: string): NonNullable<Pod['status']> {
  const startedAt = isoNow();
  return {
    phase: 'Running',
    podIP,
    podIPs: [{ ip: podIP }],
    startTime: startedAt,
    conditions: ['Initialized', 'Ready', 'ContainersReady'].map((type) => ({
      type,
      status: 'True',
      lastTransitionTime: startedAt,
    })),
    containerStatuses: [
      {
        name: 'main',
        image: 'i',
        imageID: 'i',
        ready: true,
        restartCount: 0,
        state: { running: { startedAt } },
      },
    ],
  };
}

function benchDeployment(i: number): Deployment {
  const labels = { app: `app-${i}` };
  return {
    metadata: { name: `app-${i}`, namespace: 'default' },
    spec: {
      replicas: REPLICAS,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          containers: [
            { name: 'main', image: 'i:1', resources: { requests: { cpu: '10m', memory: '8Mi' } } },
          ],
        },
      },
    },
  };
}

const benchService = (i: number): Service => ({
  metadata: { name: `app-${i}`, namespace: 'default' },
  spec: { selector: { app: `app-${i}` }, ports: [{ port: 80 }] },
});

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 300_000;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within five minutes`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const server = await startTestServer();
const as = (name: string, groups: string[] = []): Api =>
  createApi(
    inProcessTransport(server.handle, { name, groups: [...groups, 'system:authenticated'] }),
    {
      userAgent: 'bench',
    },
  );
const api = as('admin', ['system:masters']);
const stop = new AbortController();
const { signal } = stop;
const running = [
  startControllers({ api: as('system:kube-controller-manager') }, { signal, log: silentLog }),
  startScheduler(
    { api: as('system:kube-scheduler'), profile: 'spread' },
    { signal, log: silentLog },
  ),
];
const rows: string[][] = [];
const total = DEPLOYMENTS * REPLICAS;
async function step(what: string, act: () => Promise<void>, count = total): Promise<void> {
  const begun = performance.now();
  const { user, system } = process.cpuUsage();
  await act();
  const seconds = (performance.now() - begun) / 1_000;
  const now = process.cpuUsage();
  const cpu = (now.user + now.system - user - system) / 1e6;
  const rss = process.memoryUsage.rss() / 2 ** 20;
  rows.push([what, seconds.toFixed(1), figure(count / seconds), cpu.toFixed(1), rss.toFixed(0)]);
}
const allReady = async (): Promise<boolean> => {
  const { items } = await api.list(deployments, { namespace: 'default' });
  return items.every(
    ({ metadata, status }) =>
      status?.readyReplicas === REPLICAS &&
      status.updatedReplicas === REPLICAS &&
      status.replicas === REPLICAS &&
      status.observedGeneration === metadata.generation,
  );
};
try {
  await step('nodes join', () => forAll(NODES, (n) => addNode(api, n)), NODES);
  runHollowNodes(api, signal);
  const renewing = renewLeases(api, signal);
  await step('deployments come up', async () => {
    await forAll(DEPLOYMENTS, async (n) => {
      await api.create(services, benchService(n));
      await api.create(deployments, benchDeployment(n));
    });
    await until('all ready', allReady);
  });
  await step('endpoints follow', () =>
    until('all endpoints', async () => {
      const { items } = await api.list(endpointSlices, { namespace: 'default' });
      const ready = items.flatMap(({ endpoints = [] }) => endpoints).length;
      return ready >= total;
    }),
  );
  await step('rolled to a new version', async () => {
    const body = { spec: { template: { spec: { containers: [{ name: 'main', image: 'i:2' }] } } } };
    await forAll(DEPLOYMENTS, (n) =>
      api.patch(
        deployments,
        { namespace: 'default', name: `app-${n}` },
        { type: 'strategic', body },
      ),
    );
    await until('all rolled', allReady);
  });
  await step('deleted, with all they own', async () => {
    await api.deleteCollection(deployments, { namespace: 'default' });
    await until('all gone', async () => {
      const left = await api.list(pods, { namespace: 'default', limit: 1 });
      const owners = await api.list(replicaSets, { namespace: 'default', limit: 1 });
      return left.items.length + owners.items.length === 0;
    });
  });
  printTable(
    `A control plane in one process, ${NODES} hollow nodes, ${DEPLOYMENTS} deployments × ${REPLICAS} pods`,
    ['what', 'seconds', 'pods/s', 'CPU s', 'RSS MB'],
    rows,
  );
  stop.abort();
  await renewing;
} finally {
  stop.abort();
  await Promise.allSettled(running.map(({ done }) => done));
  await server.close();
}
