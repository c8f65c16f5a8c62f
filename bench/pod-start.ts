import { join } from 'node:path';
import { startTestServer } from '#apiserver/testing.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { serviceAccounts } from '#client/resources.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import { missingForTestRuntime, startTestNode, TEST_IMAGE } from '#node-agent/testing.ts';
import { type BarePod, startBarePod } from '#bench/bare-pod.ts';
import { measurePodTimes, STUBBORN } from '#bench/pod-times.ts';
import { figure, median, printTable, quantile } from '#bench/machine.ts';

/**
 * How long a pod takes from its creation to Running as a watcher sees it, beside the bare calls to
 * the same runtime in the same run; and how long from deletion to gone.
 */
const ROUNDS = Number(process.argv[2] ?? 15);
const AT_ONCE = 8;

const bareOf = (dir: string, name: string): BarePod => ({
  name,
  image: TEST_IMAGE,
  command: ['sh', '-c', STUBBORN],
  logDir: join(dir, 'bare'),
});

async function measure(api: Api, dir: string, runtime: RuntimeClient): Promise<void> {
  await runtime.pullImage(TEST_IMAGE, undefined);
  const bare: number[] = [];
  const { up, down, manyUp } = await measurePodTimes({
    api,
    nodeName: 'n1',
    rounds: ROUNDS,
    atOnce: AT_ONCE,
    async eachRound(round) {
      bare.push(await startBarePod(runtime, bareOf(dir, `one-${round}`)));
    },
  });
  const row = (what: string, values: readonly number[]): string[] => [
    what,
    `${figure(median(values))} ms`,
    `${figure(quantile(values, 0.9))} ms`,
    (median(values) / median(bare)).toFixed(2),
  ];
  printTable(
    'A pod on one node',
    ['what', 'p50', 'p90', 'of bare'],
    [
      row('bare CRI calls: sandbox, create, start', bare),
      row('pod created → Running, one at a time', up),
      row(`pod created → Running, ${AT_ONCE} at once`, manyUp),
      row('pod deleted (grace 1 s, ignores SIGTERM) → gone', down),
    ],
  );
}

const missing = missingForTestRuntime();
if (missing !== undefined) {
  console.error(`cannot measure: ${missing}`);
  process.exitCode = 1;
} else {
  const server = await startTestServer();
  const as = (name: string, group: string): Api =>
    createApi(
      inProcessTransport(server.handle, { name, groups: [group, 'system:authenticated'] }),
      { userAgent: 'bench' },
    );
  const admin = as('admin', 'system:masters');
  const node = await startTestNode({ api: as('system:node:n1', 'system:nodes') });
  const { socket } = containerdPaths(join(node.rootDir, 'containerd'));
  const runtime = connectContainerd({ endpoint: socket });
  try {
    const account = { metadata: { name: 'default', namespace: 'default' } };
    await admin.create(serviceAccounts, account);
    await measure(admin, node.dir, runtime);
  } finally {
    runtime.close();
    await node.close();
    await server.close();
  }
}
