/**
 * A node with as many pods as it takes, its agent a process of its own: how long until all run, what
 * the agent costs when nothing happens, and how soon the API shows that a container has ended. Needs
 * root and the packages of `make setup`; leaves nothing behind.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { nodes, pods, serviceAccounts } from '#client/resources.ts';
import { clearNode } from '#node-agent/start.ts';
import { addTestImage, missingForTestRuntime, TEST_IMAGE } from '#node-agent/testing.ts';
import { run } from '#e2e/processes.ts';
import { figure, median, printTable } from '#bench/machine.ts';

const PODS = Number(process.argv[2] ?? 110);
const IDLE_SECONDS = 20;
const SETTLE_MS = 10_000;
const ENDS = 12;
const TICKS_PER_SECOND = 100;
const GANTRY = join(import.meta.dirname, '../gantry');
const NETWORK = 'gbench';

const markOf = (index: number): string => `bench-pod-${index}-mark`;

const podOf = (index: number): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: `full-${index}`, namespace: 'default' },
  spec: {
    nodeName: 'n1',
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

function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

const rssMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function startAgent(server: TestServer, dir: string) {
  const where = ['--node-ip', '127.0.0.1', '--server', server.url, '--data-dir', server.dataDir];
  const issued = await run(GANTRY, ['node-credentials', 'n1', ...where]);
  if (issued.code !== 0) throw new Error(issued.stderr);
  // Compiled once, as on every machine after the first start: that compiler takes 25 MB with it.
  await run(GANTRY, ['node-agent', '--help']);
  const flags = issued.stdout.trim().split(' ');
  const network = ['--network-name', NETWORK, '--pod-cidr', '10.229.0.0/24'];
  const ranges = ['--cluster-cidr', '10.229.0.0/16', '--service-cidr', '10.228.0.0/16'];
  const own = ['--data-dir', dir, '--port', '10259', '--cluster-dns', '10.228.0.10'];
  const args = ['node-agent', ...flags, ...own, ...network, ...ranges];
  const child = spawn(GANTRY, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    pid: child.pid ?? 0,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function untilReady(api: Api): Promise<void> {
  for (;;) {
    const node = await api.get(nodes, { name: 'n1' }).catch(() => undefined);
    if (node?.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True')) return;
    await wait(100);
  }
}

/** Milliseconds from SIGKILL of a container's process until the API shows its end. */
async function endTimes(api: Api): Promise<number[]> {
  const stop = new AbortController();
  const waiting = new Map<string, () => void>();
  const following = untilSeen(api, stop.signal, (pod) => {
    if (pod.status?.containerStatuses?.[0]?.state?.terminated)
      waiting.get(pod.metadata.name ?? '')?.();
    return false;
  }).catch(() => undefined); // ends with the signal
  const times: number[] = [];
  for (let i = 0; i < ENDS; i++) {
    const pid = pidOf(markOf(i));
    const seen = new Promise<void>((resolve) => waiting.set(`full-${i}`, resolve));
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

async function measure(api: Api, pid: number): Promise<void> {
  const running = new Set<string>();
  const begun = performance.now();
  const all = untilSeen(api, AbortSignal.timeout(300_000), (pod) => {
    if (pod.status?.phase === 'Running') running.add(pod.metadata.name ?? '');
    return running.size === PODS;
  });
  await Promise.all(Array.from({ length: PODS }, (_, i) => api.create(pods, podOf(i))));
  await all;
  const allMs = performance.now() - begun;
  await wait(SETTLE_MS);
  const before = cpuTicks(pid);
  await wait(IDLE_SECONDS * 1000);
  const cpu = ((cpuTicks(pid) - before) / TICKS_PER_SECOND / IDLE_SECONDS) * 100;
  const rss = rssMb(pid);
  const ends = await endTimes(api);
  printTable(
    `A node with ${PODS} pods`,
    ['what', 'got', 'asked'],
    [
      ['all created at once → all Running', `${figure(allMs)} ms`, ''],
      ["the agent's resident memory", `${figure(rss)} MB`, '120 MB'],
      ['its CPU when nothing happens', `${cpu.toFixed(2)} %`, '3 %'],
      ['a container ends → the API shows it, p50', `${figure(median(ends))} ms`, '100 ms'],
      ['the same, worst', `${figure(Math.max(...ends))} ms`, ''],
    ],
  );
}

const missing = missingForTestRuntime();
if (missing !== undefined) {
  console.error(`cannot measure: ${missing}`);
  process.exitCode = 1;
} else {
  const dir = mkdtempSync('/tmp/G-full-');
  const server = await startTestServer();
  const user = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
  const api = createApi(inProcessTransport(server.handle, user), { userAgent: 'bench' });
  let agent: Awaited<ReturnType<typeof startAgent>> | undefined;
  try {
    await addTestImage(join(dir, 'images'));
    await api.create(serviceAccounts, { metadata: { name: 'default', namespace: 'default' } });
    agent = await startAgent(server, dir);
    await untilReady(api);
    await measure(api, agent.pid);
  } finally {
    await agent?.stop();
    await clearNode(dir, { networkName: NETWORK });
    rmSync(dir, { recursive: true, force: true });
    await server.close();
  }
}
