import { seededRandom } from '#base/random.ts';
import type { Node, Pod } from '#api/types.ts';
import { startTestServer } from '#apiserver/testing.ts';
import { figure, printTable } from '#bench/machine.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { nodes, pods, serviceAccounts } from '#client/resources.ts';
import { decide } from '#scheduler/cycle.ts';
import { pluginsFor } from '#scheduler/plugins.ts';
import { planPreemption } from '#scheduler/preemption.ts';
import { ClusterCache, podView } from '#scheduler/snapshot.ts';
import { start } from '#scheduler/start.ts';

/**
 * The scheduler on many nodes that exist in the API only: how many decisions a second it makes for
 * pods of several shapes, and how fast pods are bound through the API server, beside what the API
 * server binds when nobody has to decide.
 */

const NODES = Number(process.argv[2] ?? 1_000);
const PODS = Number(process.argv[3] ?? 3_000);
const PODS_PER_NODE = 30;
const ZONES = 3;
const DECISION_MS = 1_500;
const AT_ONCE = 64;

function benchNode(i: number): Node {
  const name = `node-${String(i).padStart(4, '0')}`;
  const capacity = { cpu: '8', memory: '32Gi', pods: '110' };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: {
        'kubernetes.io/hostname': name,
        'topology.kubernetes.io/zone': `zone-${i % ZONES}`,
      },
    },
    status: {
      allocatable: capacity,
      capacity,
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

function benchPod(name: string, app: string, extra: Partial<Pod['spec']> = {}): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', uid: name, labels: { app } },
    spec: {
      schedulerName: 'default-scheduler',
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'main',
          image: 'registry.example/bench:1',
          resources: { requests: { cpu: '100m', memory: '64Mi' } },
        },
      ],
      ...extra,
    },
  };
}

const labelSelector = { matchLabels: { app: 'web' } };
const perHost = { labelSelector, topologyKey: 'kubernetes.io/hostname' };
const perZone = { labelSelector, topologyKey: 'topology.kubernetes.io/zone' };
/** Wants more than any node has left, so that somebody has to go. */
const large = [{ name: 'main', image: 'b', resources: { requests: { cpu: '7' } } }];

const SHAPES: readonly (readonly [string, Partial<Pod['spec']>])[] = [
  ['plain', {}],
  [
    'spread over hosts and zones',
    {
      topologySpreadConstraints: [
        { ...perHost, maxSkew: 5, whenUnsatisfiable: 'DoNotSchedule' },
        { ...perZone, maxSkew: 5, whenUnsatisfiable: 'DoNotSchedule' },
      ],
    },
  ],
  [
    'apart from its like',
    {
      affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [perHost] } },
    },
  ],
  [
    'near its like, rather',
    {
      affinity: {
        podAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            { weight: 10, podAffinityTerm: perZone },
          ],
        },
      },
    },
  ],
];

/** `PODS_PER_NODE` pods on each node, every third of them labelled like the pods to come. */
function filledCluster(): ClusterCache {
  const cluster = new ClusterCache();
  for (let i = 0; i < NODES; i++) {
    const node = benchNode(i);
    cluster.setNode(node);
    for (let n = 0; n < PODS_PER_NODE; n++) {
      const pod = benchPod(`pod-${i}-${n}`, n % 3 === 0 && i % 2 === 0 ? 'web' : 'other');
      cluster.setPod({ ...pod, spec: { ...pod.spec, nodeName: node.metadata.name ?? '' } });
    }
  }
  return cluster;
}

/** Runs per second, over about `DECISION_MS`. */
function rate(run: (n: number) => void): number {
  const begun = performance.now();
  let runs = 0;
  for (; performance.now() - begun < DECISION_MS; runs++) run(runs);
  return (runs * 1_000) / (performance.now() - begun);
}

function decisionRows(): string[][] {
  const cluster = filledCluster();
  const plugins = pluginsFor('pack');
  const random = seededRandom(1);
  const rows = SHAPES.map(([what, spec]) => {
    const search = { index: 0 };
    const perSecond = rate((n) => {
      const pod = podView(benchPod(`next-${n}`, 'web', spec));
      decide(pod, cluster, plugins, { random, start: search });
    });
    return [`decisions, ${what}`, figure(perSecond), '1/s', ''];
  });
  const important = podView(benchPod('important', 'web', { priority: 10, containers: large }));
  const options = { random, start: { index: 0 } };
  const decision = decide(important, cluster, plugins, options);
  if (decision.type === 'bind') throw new Error('the large pod was meant to find no room');
  const { refusals } = decision;
  const preemptions = rate(() =>
    planPreemption({ pod: important, cluster, plugins, refusals, random }),
  );
  return [...rows, ['preemptions planned', figure(preemptions), '1/s', '']];
}

async function forAll(count: number, each: (n: number) => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < count) await each(next++);
    }),
  );
  return (count * 1_000) / (performance.now() - begun);
}

async function boundRate(api: Api, count: number): Promise<number> {
  const begun = performance.now();
  for (;;) {
    const left = await api.list(pods, { fieldSelector: 'spec.nodeName=', limit: 1 });
    if (left.items.length === 0) return (count * 1_000) / (performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function bindingRows(): Promise<string[][]> {
  const server = await startTestServer();
  const api = createApi(
    inProcessTransport(server.handle, { name: 'admin', groups: ['system:masters'] }),
    { userAgent: 'bench' },
  );
  try {
    const account = { metadata: { name: 'default', namespace: 'default' } };
    await api.create(serviceAccounts, account);
    await forAll(NODES, async (n) => {
      const node = benchNode(n);
      const made = await api.create(nodes, node);
      await api.update(nodes, { ...made, status: node.status ?? {} }, { subresource: 'status' });
      const noTaints = { type: 'merge', body: { spec: { taints: null } } } as const;
      await api.patch(nodes, { name: node.metadata.name ?? '' }, noTaints);
    });
    const fill = (kind: string): Promise<number> =>
      forAll(PODS, (n) => api.create(pods, benchPod(`${kind}-${n}`, 'web')));
    await fill('raw');
    const raw = await forAll(PODS, (n) => {
      const key = { namespace: 'default', name: `raw-${n}` };
      const target = { kind: 'Node', name: `node-${String(n % NODES).padStart(4, '0')}` };
      return api.post(pods, key, 'binding', { metadata: { name: key.name }, target });
    });
    await fill('ours');
    const stop = new AbortController();
    const running = start({ api, profile: 'pack' }, { signal: stop.signal });
    const ours = await boundRate(api, PODS);
    stop.abort();
    await running.done;
    return [
      ['bindings, nobody decides', figure(raw), '1/s', '1.00'],
      [`bindings of ${PODS} waiting pods`, figure(ours), '1/s', (ours / raw).toFixed(2)],
    ];
  } finally {
    await server.close();
  }
}

const title = `The scheduler, ${NODES} nodes with ${PODS_PER_NODE} pods each`;
printTable(
  title,
  ['what', 'ours', 'unit', 'of raw'],
  [...decisionRows(), ...(await bindingRows())],
);
