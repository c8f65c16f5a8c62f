import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { eventually } from '#base/testing.ts';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Pod } from '#api/types.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import { FOREVER, inPhase, isReady, PODS, sh, testCluster } from '#node-agent/testing-cluster.ts';

/** Deaths at random points under a stream of changes: every pod ends as specified, nothing is left. */
const SEED = Number(process.env['GANTRY_TEST_SEED'] ?? 7);
const STEPS = Number(process.env['GANTRY_TEST_STEPS'] ?? 40);
/**
 * A container killed five times waits 80 s for its sixth start, and a call to a runtime that hangs is
 * given up after two minutes.
 */
const LIMIT_MS = 160_000;
let runtime: RuntimeClient;
let socket = '';
const cluster = testCluster({
  timeoutMs: 280_000,
  started() {
    ({ socket } = containerdPaths(join(cluster.node.rootDir, 'containerd')));
    runtime = connectContainerd({ endpoint: socket });
  },
  ending: () => runtime.close(),
});
const { run, request } = cluster;

type Sort = { script: string; restartPolicy: string; ends: (pod: Pod) => boolean };
/** What each sort of pod comes to, whatever happened on the way. */
const SORTS: Record<string, Sort> = {
  server: { script: FOREVER, restartPolicy: 'Always', ends: isReady },
  polite: {
    script: `trap "exit 0" TERM; ${FOREVER}`,
    restartPolicy: 'Always',
    ends: isReady,
  },
  done: {
    script: 'sleep 0.3',
    restartPolicy: 'OnFailure',
    ends: inPhase('Succeeded'),
  },
  broken: { script: 'exit 3', restartPolicy: 'Never', ends: inPhase('Failed') },
};

const sortOf = (pod: Pod): Sort => SORTS[pod.metadata.name?.split('-')[0] ?? ''] as Sort;

const create = (name: string, sort: Sort, withInit: boolean): Promise<void> => {
  const volumeMounts = [{ name: 'memory', mountPath: '/memory' }];
  return cluster.create(name, {
    restartPolicy: sort.restartPolicy,
    ...(withInit ? { initContainers: [sh('true', { name: 'init', volumeMounts })] } : {}),
    containers: [sh(sort.script, { volumeMounts })],
    volumes: [{ name: 'memory', emptyDir: { medium: 'Memory' } }],
  });
};

async function list(): Promise<Pod[]> {
  const { body } = await request('GET', PODS);
  return body['items'] as unknown as Pod[];
}

async function settled(what: string, ok: (pods: Pod[]) => boolean): Promise<void> {
  let pods: Pod[] = [];
  const told = () =>
    `pods ${what}; they are ${JSON.stringify(pods.map((p) => [p.metadata, p.status]))}`;
  await eventually(told, async () => ok((pods = await list())), LIMIT_MS);
}

function killDaemon(): void {
  try {
    process.kill(Number(readFileSync(join(dirname(socket), 'containerd.pid'), 'utf8')), 'SIGKILL');
  } catch {
    // It is being started again right now.
  }
}

/** Kills a container's or a sandbox's process, as the kernel might. */
function killSomeTask(random: () => number): void {
  try {
    const text = execFileSync('ctr', ['-a', socket, '-n', 'k8s.io', 'task', 'ls', '-q'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    }).toString();
    const ids = text.trim().split('\n').filter(Boolean);
    const id = ids[randomInt(random, ids.length)];
    if (id)
      execFileSync('ctr', ['-a', socket, '-n', 'k8s.io', 'task', 'kill', '-s', 'KILL', id], {
        stdio: 'ignore',
      });
  } catch {
    // The daemon is dead, or the task is gone by itself.
  }
}

run(
  `pods end as specified through deaths of agent, containerd and tasks (seed ${SEED})`,
  async () => {
    const random = seededRandom(SEED);
    const kinds = Object.keys(SORTS);
    let serial = 0;
    for (let step = 0; step < STEPS; step++) {
      const pods = (await list()).filter((p) => !p.metadata.deletionTimestamp);
      const dice = random();
      if (dice < 0.5 && pods.length < 12) {
        const kind = kinds[randomInt(random, kinds.length)] ?? 'server';
        await create(`${kind}-${serial++}`, SORTS[kind] as Sort, random() < 0.3);
      } else if (dice < 0.7 && pods.length > 0) {
        const victim = pods[randomInt(random, pods.length)]?.metadata.name;
        const gracePeriodSeconds = randomInt(random, 3);
        await request('DELETE', `${PODS}/${victim}`, { gracePeriodSeconds });
      } else if (dice < 0.8) await cluster.node.restart();
      else if (dice < 0.88) killDaemon();
      else killSomeTask(random);
      await new Promise((resolve) => setTimeout(resolve, randomInt(random, 250)));
    }
    await settled('as specified', (pods) =>
      pods.every((p) => !p.metadata.deletionTimestamp && sortOf(p).ends(p)),
    );
    for (const pod of await list()) await request('DELETE', `${PODS}/${pod.metadata.name}`);
    await settled('gone', (pods) => pods.length === 0);
    // Traces of pods that were deleted while the agent was dead go with the next sweep.
    await cluster.node.restart();
    const left = async (): Promise<unknown[]> => [
      ...(await runtime.listPodSandboxes()),
      ...(await runtime.listContainers()),
      ...readdirSync(join(cluster.node.rootDir, 'pods')),
      ...readdirSync(join(cluster.node.rootDir, 'log/pods')),
      ...readdirSync(join(cluster.node.rootDir, 'memory')),
      ...readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(join(cluster.node.rootDir, 'pods/'))),
      ...cgroupsLeft(),
    ];
    let traces: unknown[] = [];
    const clean = async (): Promise<boolean> => (traces = await left()).length === 0;
    await eventually(() => `nothing left; there is ${JSON.stringify(traces)}`, clean, LIMIT_MS);
  },
);

function cgroupsLeft(): string[] {
  const root = `/sys/fs/cgroup/{.,*}/${cluster.node.cgroupPrefix}/kubepods`;
  const script = `ls -d ${root}/pod* ${root}/*/pod* 2>/dev/null || true`;
  return execFileSync('bash', ['-c', script]).toString().split('\n').filter(Boolean);
}
