/**
 * Pods as containers and as microVMs in a whole cluster on this machine: from the POST until a watch
 * shows them Running, and HTTP through a Service. Needs root and the packages of `make setup`.
 */
import { join } from 'node:path';
import type { Pod, Service } from '#api/types.ts';
import { eventually } from '#base/testing.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { pods, services } from '#client/resources.ts';
import { missingForMicrovms } from '#node-agent/runtime/microvm/host.ts';
import { cannotRun, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { figure, median, printTable, quantile } from '#bench/machine.ts';
import { podTime } from '#bench/pod-time.ts';
import { buildDemoImages } from '#manifests/demo/build-images.ts';

const IMAGE = 'gantry.internal/busybox:1';
const CLASSES = ['container', 'microvm'] as const;
const ROUNDS = Number(process.argv[2] ?? 8);
/** Between rounds: so long a pool of waiting VMs takes to be full again on an idle machine. */
const SPACED_MS = 10_000;
const SPACED_ROUNDS = 4;
const HTTP_MS = 5_000;
const CLIENTS = 4;
const FILE_MB = 16;
const SERVE = [
  'mkdir /www; echo hello > /www/small',
  `dd if=/dev/zero of=/www/large bs=1M count=${FILE_MB} 2>/dev/null`,
  'exec httpd -f -p 8080 -h /www',
].join('; ');

const podOf = (name: string, runtimeClassName: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', labels: { app: name } },
  spec: {
    runtimeClassName,
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: IMAGE, command: ['sh', '-c', SERVE] }],
  },
});

const serviceOf = (name: string): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { selector: { app: name }, ports: [{ port: 80, targetPort: 8080 }] },
});

type Figures = { close: number[]; spaced: number[]; perSecond: number; mbPerSecond: number };

async function startTimes(api: Api, runtimeClass: string, gapMs: number): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < (gapMs > 0 ? SPACED_ROUNDS : ROUNDS); round++) {
    const name = `start-${runtimeClass}-${gapMs}-${round}`;
    await new Promise((resolve) => setTimeout(resolve, gapMs));
    times.push(await podTime(api, podOf(name, runtimeClass)));
    if (gapMs > 0) await api.delete(pods, { namespace: 'default', name });
  }
  await api.deleteCollection(pods, { namespace: 'default' });
  await eventually('the pods are gone', async () => {
    const { items } = await api.list(pods, { namespace: 'default' });
    return items.length === 0;
  });
  return times;
}

async function http(api: Api, runtimeClass: string): Promise<[number, number]> {
  const name = `web-${runtimeClass}`;
  const { spec } = await api.create(services, serviceOf(name));
  await podTime(api, podOf(name, runtimeClass));
  const get = async (path: string): Promise<number> => {
    const response = await fetch(`http://${spec?.clusterIP}/${path}`);
    return (await response.arrayBuffer()).byteLength;
  };
  const size = FILE_MB * 1024 * 1024;
  await eventually('the Service serves the whole file', async () => (await get('large')) === size);
  const end = performance.now() + HTTP_MS;
  let answers = 0;
  const client = async (): Promise<void> => {
    for (; performance.now() < end; answers++) await get('small');
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  const begun = performance.now();
  await get('large');
  const seconds = (performance.now() - begun) / 1000;
  await api.delete(pods, { namespace: 'default', name });
  return [answers / (HTTP_MS / 1000), FILE_MB / seconds];
}

async function measure(cluster: TestCluster): Promise<void> {
  await buildDemoImages(join(cluster.dataDir, 'images'));
  const up = await cluster.up();
  if (up.code !== 0) throw new Error(up.stdout + up.stderr);
  await cluster.kubectl('wait --for=condition=MicroVMReady node --all --timeout=60s');
  const status = (await cluster.gantry(['status'])).stdout;
  const transport = httpsTransport(loadKubeconfig(cluster.kubeconfig));
  const api = createApi(transport, { userAgent: 'gantry-bench' });
  const all: Figures[] = [];
  try {
    for (const runtimeClass of CLASSES) {
      await podTime(api, podOf(`first-${runtimeClass}`, runtimeClass));
      const close = await startTimes(api, runtimeClass, 0);
      const spaced = await startTimes(api, runtimeClass, SPACED_MS);
      const [perSecond, mbPerSecond] = await http(api, runtimeClass);
      all.push({ close, spaced, perSecond, mbPerSecond });
    }
  } finally {
    await transport.close();
  }
  const row = (what: string, pick: (figures: Figures) => number): string[] => [
    what,
    ...all.map((figures) => figure(pick(figures))),
  ];
  printTable(
    `Pods in a cluster: ${/microVMs run under .*/.exec(status)?.[0] ?? ''}`,
    ['what', ...CLASSES],
    [
      row('pod created → Running, one after another: p50, ms', ({ close }) => median(close)),
      row('pod created → Running: p90, ms', ({ close }) => quantile(close, 0.9)),
      row(`the same, ${SPACED_MS / 1000} s apart: p50, ms`, ({ spaced }) => median(spaced)),
      row(`HTTP through the Service, ${CLIENTS} clients, answers/s`, (f) => f.perSecond),
      row('HTTP through the Service, one file, MB/s', (f) => f.mbPerSecond),
    ],
  );
}

const missing = missingForMicrovms();
const obstacle = cannotRun() ?? (missing.length > 0 ? missing.join('; ') : undefined);
if (obstacle) {
  console.log(`bench/microvm-cluster: skipped, ${obstacle}`);
} else {
  const cluster = await layOutCluster({ microvms: 'auto' });
  try {
    await measure(cluster);
  } finally {
    await cluster.destroy();
  }
}
