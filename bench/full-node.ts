/**
 * A node with as many pods as it takes, its agent a process of its own: how soon pods run and go, how
 * long until all run, what the agent costs when nothing happens, and how soon the API shows that a
 * container has ended. With `--kubelet PATH` the same is done with Kubernetes' own kubelet, in the
 * same run. Needs root and the packages of `make setup`; leaves nothing behind.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startTestServer } from '#apiserver/testing.ts';
import type { Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { nodes, pods, serviceAccounts } from '#client/resources.ts';
import { missingForTestRuntime, TEST_IMAGE } from '#node-agent/testing.ts';
import { cpuPercent, figure, median, printTable, quantile, residentMib } from '#bench/machine.ts';
import { type NodeProcess, startAgent, startKubelet } from '#bench/node-processes.ts';
import { measurePodTimes } from '#bench/pod-times.ts';

const { values: FLAGS, positionals } = parseArgs({
  options: { kubelet: { type: 'string' } },
  allowPositionals: true,
});
const PODS = Number(positionals[0] ?? 110);
/** Pods one after another, and then so many at once, before the node is filled. */
const ROUNDS = 10;
const AT_ONCE = 8;
const IDLE_SECONDS = 20;
const SETTLE_MS = 10_000;
const ENDS = 12;

const markOf = (index: number): string => `bench-pod-${index}-mark`;

const podOf = (nodeName: string, index: number): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: `${nodeName}-full-${index}`, namespace: 'default' },
  spec: {
    nodeName,
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: 'main',
        image: TEST_IMAGE,
        command: ['sh', '-c', 'while :; do sleep 60; done', markOf(index)],
      },
    ],
  },
});

/** Resolves when `ok` pods have been seen; tells of every change meanwhile. */
async function untilSeen(
  api: Api,
  signal: AbortSignal,
  each: (pod: Pod) => boolean,
): Promise<void> {
  for await (const batch of api.watch(pods, { namespace: 'default', signal }))
    for (const event of batch) if (event.type !== 'BOOKMARK' && each(event.object)) return;
}

/** The first process of a container, by the mark on its command line. */
function pidOf(mark: string): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').endsWith(`${mark}\0`)) return Number(pid);
    } catch {
      // it has ended meanwhile
    }
  }
  throw new Error(`no process is marked ${mark}`);
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function untilReady(api: Api, name: string): Promise<void> {
  for (;;) {
    const node = await api.get(nodes, { name }).catch(() => undefined);
    if (node?.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True')) return;
    await wait(100);
  }
}

/** Milliseconds from SIGKILL of a container's process until the API shows its end. */
async function endTimes(api: Api, nodeName: string): Promise<number[]> {
  const stop = new AbortController();
  const waiting = new Map<string, () => void>();
  const following = untilSeen(api, stop.signal, (pod) => {
    if (pod.status?.containerStatuses?.[0]?.state?.terminated)
      waiting.get(pod.metadata.name ?? '')?.();
    return false;
  }).catch(() => undefined); // ends with the signal
  const times: number[] = [];
  for (let i = 0; i < Math.min(ENDS, PODS); i++) {
    const pid = pidOf(markOf(i));
    const seen = new Promise<void>((resolve) => waiting.set(`${nodeName}-full-${i}`, resolve));
    const begun = performance.now();
    process.kill(pid, 'SIGKILL');
    await seen;
    times.push(performance.now() - begun);
    await wait(200);
  }
  stop.abort();
  await following;
  return times;
}

/** What one agent did, row by row. */
type Measured = Readonly<Record<(typeof ROWS)[number][0], string>>;

/** What is measured, and what our own agent is asked to reach. */
const ROWS = [
  ['resident memory without a pod', ''],
  ['pod created → Running, one at a time, p50', ''],
  [`pod created → Running, ${AT_ONCE} at once, p50`, ''],
  [`pod created → Running, ${AT_ONCE} at once, p90`, '1,000 ms'],
  ['pod deleted (grace 1 s, ignores SIGTERM) → gone, p50', '1,350 ms'],
  ['all created at once → all Running', ''],
  ['resident memory with all of them', '120 MB'],
  ['CPU when nothing happens', '3 %'],
  ['a container ends → the API shows it, p50', '100 ms'],
  ['the same, worst', ''],
] as const;

async function measure(api: Api, { nodeName, pid }: NodeProcess): Promise<Measured> {
  await untilReady(api, nodeName);
  await wait(SETTLE_MS);
  const emptyRss = residentMib(pid);
  // The first pod of a node pulls the image and warms up what starts containers.
  await measurePodTimes({ api, nodeName, rounds: 1, atOnce: 0 });
  const times = await measurePodTimes({ api, nodeName, rounds: ROUNDS, atOnce: AT_ONCE });
  const running = new Set<string>();
  const begun = performance.now();
  const all = untilSeen(api, AbortSignal.timeout(300_000), ({ metadata, status }) => {
    const { name = '' } = metadata;
    if (status?.phase === 'Running' && name.startsWith(`${nodeName}-full-`)) running.add(name);
    return running.size === PODS;
  });
  await Promise.all(Array.from({ length: PODS }, (_, i) => api.create(pods, podOf(nodeName, i))));
  await all;
  const allMs = performance.now() - begun;
  await wait(SETTLE_MS);
  const cpu = await cpuPercent(pid, IDLE_SECONDS);
  const rss = residentMib(pid);
  const ends = await endTimes(api, nodeName);
  return {
    'resident memory without a pod': `${figure(emptyRss)} MB`,
    'pod created → Running, one at a time, p50': `${figure(median(times.up))} ms`,
    [`pod created → Running, ${AT_ONCE} at once, p50`]: `${figure(median(times.manyUp))} ms`,
    [`pod created → Running, ${AT_ONCE} at once, p90`]: `${figure(quantile(times.manyUp, 0.9))} ms`,
    'pod deleted (grace 1 s, ignores SIGTERM) → gone, p50': `${figure(median(times.down))} ms`,
    'all created at once → all Running': `${figure(allMs)} ms`,
    'resident memory with all of them': `${figure(rss)} MB`,
    'CPU when nothing happens': `${cpu.toFixed(2)} %`,
    'a container ends → the API shows it, p50': `${figure(median(ends))} ms`,
    'the same, worst': `${figure(Math.max(...ends))} ms`,
  };
}

/** Starts, measures and stops each agent in turn: two at work at once would measure each other. */
async function measureAll(api: Api, agents: readonly (() => Promise<NodeProcess>)[]) {
  const columns: Measured[] = [];
  for (const start of agents) {
    const node = await start();
    try {
      columns.push(await measure(api, node));
    } finally {
      await node.stop();
    }
    for (const { metadata } of (await api.list(pods, { namespace: 'default' })).items)
      await api.delete(
        pods,
        { namespace: 'default', name: metadata.name ?? '' },
        { gracePeriodSeconds: 0 },
      );
  }
  return columns;
}

const missing = missingForTestRuntime();
if (missing !== undefined) {
  console.error(`cannot measure: ${missing}`);
  process.exitCode = 1;
} else {
  const server = await startTestServer();
  const user = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
  const api = createApi(inProcessTransport(server.handle, user), { userAgent: 'bench' });
  const { kubelet: binary } = FLAGS;
  if (!binary) console.log('no --kubelet PATH: our own agent only');
  try {
    await api.create(serviceAccounts, { metadata: { name: 'default', namespace: 'default' } });
    const columns = await measureAll(api, [
      () => startAgent(server, 'ours'),
      ...(binary
        ? [() => startKubelet(server, 'kubelet', { binary, maxPods: Math.max(PODS, AT_ONCE) })]
        : []),
    ]);
    printTable(
      `A node with ${PODS} pods`,
      ['what', 'ours', ...(binary ? ['kubelet'] : []), 'asked'],
      ROWS.map(([what, asked]) => [what, ...columns.map((column) => column[what]), asked]),
    );
  } finally {
    await server.close();
  }
}
