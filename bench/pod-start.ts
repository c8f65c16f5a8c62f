import { join } from 'node:path';
import { startTestServer } from '#apiserver/testing.ts';
import type { Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { pods, serviceAccounts } from '#client/resources.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import { missingForTestRuntime, startTestNode, TEST_IMAGE } from '#node-agent/testing.ts';
import { type BarePod, startBarePod } from '#bench/bare-pod.ts';
import { figure, median, printTable, quantile } from '#bench/machine.ts';

/**
 * How long a pod takes from its creation to Running as a watcher sees it, beside the bare calls to
 * the same runtime in the same run; and how long from deletion to gone.
 */
const ROUNDS = Number(process.argv[2] ?? 15);
const AT_ONCE = 8;

type Seen = Pod | 'gone';

/** Follows all pods and tells who waits for one of them. */
function followPods(api: Api, signal: AbortSignal) {
  const waiting = new Map<string, (seen: Seen) => void>();
  const following = (async () => {
    for await (const batch of api.watch(pods, { namespace: 'default', signal })) {
      for (const event of batch) {
        if (event.type === 'BOOKMARK') continue;
        const tell = waiting.get(event.object.metadata.name ?? '');
        tell?.(event.type === 'DELETED' ? 'gone' : event.object);
      }
    }
  })().catch(() => undefined); // ends with the signal
  const until = (name: string, ok: (seen: Seen) => boolean): Promise<void> =>
    new Promise((resolve) =>
      waiting.set(name, (seen) => {
        if (ok(seen)) resolve();
      }),
    );
  return { until, following };
}

const running = (seen: Seen): boolean => seen !== 'gone' && seen.status?.phase === 'Running';
const gone = (seen: Seen): boolean => seen === 'gone';
const script = 'trap "" TERM; while :; do sleep 0.2; done';

const pod = (name: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: {
    nodeName: 'n1',
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image: TEST_IMAGE, command: ['sh', '-c', script] }],
  },
});

const bareOf = (dir: string, name: string): BarePod => ({
  name,
  image: TEST_IMAGE,
  command: ['sh', '-c', script],
  logDir: join(dir, 'bare'),
});

async function measure(api: Api, dir: string, runtime: RuntimeClient): Promise<void> {
  const stop = new AbortController();
  const { until, following } = followPods(api, stop.signal);
  await runtime.pullImage(TEST_IMAGE, undefined);
  const bare: number[] = [];
  const up: number[] = [];
  const down: number[] = [];
  const timed = async (seen: Promise<void>, act: () => Promise<unknown>): Promise<number> => {
    const begun = performance.now();
    await act();
    await seen;
    return performance.now() - begun;
  };
  for (let round = 0; round < ROUNDS; round++) {
    const name = `one-${round}`;
    bare.push(await startBarePod(runtime, bareOf(dir, name)));
    up.push(await timed(until(name, running), () => api.create(pods, pod(name))));
    const key = { namespace: 'default', name };
    down.push(await timed(until(name, gone), () => api.delete(pods, key)));
  }
  const many = await Promise.all(
    Array.from({ length: AT_ONCE }, (_, i) =>
      timed(until(`many-${i}`, running), () => api.create(pods, pod(`many-${i}`))),
    ),
  );
  stop.abort();
  await following;
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
      row(`pod created → Running, ${AT_ONCE} at once`, many),
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
