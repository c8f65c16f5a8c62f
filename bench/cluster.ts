/**
 * A whole cluster on this machine: how long it takes to come up, how long a pod takes beside the
 * raw CRI calls on the same containerd, and what the process costs when nothing happens. Needs root
 * and the packages of `make setup`; keeps apart from a running cluster and leaves nothing behind.
 */
import { join } from 'node:path';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { pods } from '#client/resources.ts';
import type { Pod } from '#api/types.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import { connectContainerd } from '#node-agent/runtime/containerd.ts';
import { startBarePod } from '#bench/bare-pod.ts';
import { cannotRun, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { podTime } from '#bench/pod-time.ts';
import { cpuPercent, figure, median, printTable, quantile, residentMib } from '#bench/machine.ts';
import { buildDemoImages } from '#manifests/demo/build-images.ts';

const IMAGE = 'gantry.internal/busybox:1';
const ROUNDS = 12;
const AT_ONCE = 8;
const IDLE_SECONDS = 20;
const COMMAND = ['sh', '-c', 'trap "exit 0" TERM; while true; do sleep 1; done'];

const podOf = (name: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: IMAGE, command: COMMAND }],
  },
});

/** The same calls that a pod needs, straight to this cluster's containerd. */
async function rawTimes(cluster: TestCluster): Promise<number[]> {
  const dir = join(cluster.dataDir, 'node', cluster.nodeName, 'containerd');
  const runtime = connectContainerd({ endpoint: containerdPaths(dir).socket });
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const logDir = join(cluster.dataDir, 'bare');
    times.push(
      await startBarePod(runtime, { name: `raw-${i}`, image: IMAGE, command: COMMAND, logDir }),
    );
  }
  runtime.close();
  return times;
}

/** CPU of the process over a quiet while, percent of one core, and its resident memory in MB. */
const idleCost = async (pid: number): Promise<{ cpuPercent: number; rssMb: number }> => ({
  cpuPercent: await cpuPercent(pid, IDLE_SECONDS),
  rssMb: residentMib(pid),
});

async function measure(cluster: TestCluster): Promise<string[][]> {
  await buildDemoImages(join(cluster.dataDir, 'images'));
  const begun = performance.now();
  const up = await cluster.up();
  const upMs = performance.now() - begun;
  if (up.code !== 0) throw new Error(up.stdout + up.stderr);
  const transport = httpsTransport(loadKubeconfig(cluster.kubeconfig));
  const api = createApi(transport, { userAgent: 'gantry-bench' });
  try {
    await podTime(api, podOf('first'));
    const firstMs = performance.now() - begun;
    const single: number[] = [];
    for (let i = 0; i < ROUNDS; i++) single.push(await podTime(api, podOf(`one-${i}`)));
    const raw = await rawTimes(cluster);
    const many = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) => podTime(api, podOf(`many-${i}`))),
    );
    await api.deleteCollection(pods, { namespace: 'default' });
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const idle = await idleCost(await cluster.pid());
    const ratio = median(single) / median(raw);
    return [
      ['gantry up to node Ready', `${figure(upMs)} ms`, '5,000 ms', ''],
      ['gantry up to first pod Running', `${figure(firstMs)} ms`, '6,000 ms', ''],
      ['raw CRI: sandbox + create + start, p50', `${figure(median(raw))} ms`, '', '1.00'],
      [
        'pod create to Running, p50',
        `${figure(median(single))} ms`,
        '1.5 of raw',
        ratio.toFixed(2),
      ],
      ['pod create to Running, p90', `${figure(quantile(single, 0.9))} ms`, '', ''],
      [`${AT_ONCE} pods at once, p50`, `${figure(median(many))} ms`, '', ''],
      [`${AT_ONCE} pods at once, p90`, `${figure(quantile(many, 0.9))} ms`, '', ''],
      ['idle CPU, percent of one core', idle.cpuPercent.toFixed(2), '2', ''],
      ['resident memory, whole process', `${figure(idle.rssMb)} MB`, '250 MB', ''],
    ];
  } finally {
    await transport.close();
  }
}

const obstacle = cannotRun();
if (obstacle) {
  console.log(`bench/cluster: skipped, ${obstacle}`);
} else {
  const cluster = await layOutCluster();
  try {
    const rows = await measure(cluster);
    printTable('A cluster on one machine', ['what', 'measured', 'aim', 'of raw'], rows);
  } finally {
    await cluster.destroy();
  }
}
