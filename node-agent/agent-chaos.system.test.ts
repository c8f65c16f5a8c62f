import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import { createLog } from '#base/log.ts';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';

/** Deaths at random points under a stream of changes: every pod ends as specified, nothing is left. */
const skip = missingForTestRuntime() ?? false;
const SEED = Number(process.env['GANTRY_TEST_SEED'] ?? 7);
const STEPS = Number(process.env['GANTRY_TEST_STEPS'] ?? 40);
const PODS = '/api/v1/namespaces/default/pods';
let server: TestServer;
let node: TestNode;
let runtime: RuntimeClient;
let socket = '';

before(async () => {
  if (skip) return;
  server = await startTestServer();
  const groups = ['system:nodes', 'system:authenticated'];
  const transport = inProcessTransport(server.handle, { name: 'system:node:n1', groups });
  const log = process.env['GANTRY_TEST_LOG'] ? createLog({ level: 'debug' }) : undefined;
  node = await startTestNode({
    api: createApi(transport, { userAgent: 'kubelet' }),
    ...(log ? { log } : {}),
  });
  await server.call('POST', '/api/v1/namespaces/default/serviceaccounts', {
    metadata: { name: 'default' },
  });
  ({ socket } = containerdPaths(join(node.rootDir, 'containerd')));
  runtime = connectContainerd({ endpoint: socket });
});

after(async () => {
  if (skip) return;
  runtime.close();
  await node.close();
  await server.close();
});

type Sort = { script: string; restartPolicy: string; ends: (pod: Pod) => boolean };
const running = (pod: Pod): boolean =>
  pod.status?.conditions?.find((c) => c.type === 'Ready')?.status === 'True';
/** What each sort of pod comes to, whatever happened on the way. */
const SORTS: Record<string, Sort> = {
  server: { script: 'while :; do sleep 0.1; done', restartPolicy: 'Always', ends: running },
  polite: {
    script: 'trap "exit 0" TERM; while :; do sleep 0.1; done',
    restartPolicy: 'Always',
    ends: running,
  },
  done: {
    script: 'sleep 0.3',
    restartPolicy: 'OnFailure',
    ends: (p) => p.status?.phase === 'Succeeded',
  },
  broken: { script: 'exit 3', restartPolicy: 'Never', ends: (p) => p.status?.phase === 'Failed' },
};

const sortOf = (pod: Pod): Sort => SORTS[pod.metadata.name?.split('-')[0] ?? ''] as Sort;

async function create(name: string, sort: Sort, withInit: boolean): Promise<void> {
  const container = (n: string, script: string) => ({
    name: n,
    image: TEST_IMAGE,
    command: ['/bin/sh', '-c', script],
    volumeMounts: [{ name: 'memory', mountPath: '/memory' }],
  });
  const answer = await server.call('POST', PODS, {
    metadata: { name },
    spec: {
      nodeName: 'n1',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      restartPolicy: sort.restartPolicy,
      ...(withInit ? { initContainers: [container('init', 'true')] } : {}),
      containers: [container('main', sort.script)],
      volumes: [{ name: 'memory', emptyDir: { medium: 'Memory' } }],
    },
  });
  assert.equal(answer.code, 201, answer.text);
}

async function list(): Promise<Pod[]> {
  const { body } = await server.call('GET', PODS);
  return body['items'] as unknown as Pod[];
}

async function until(what: string, ok: () => Promise<boolean>): Promise<void> {
  // A container killed five times waits 80 s for its sixth start, and a call to a runtime that hangs
  // is given up after two minutes.
  const deadline = Date.now() + 160_000;
  while (!(await ok())) {
    if (Date.now() > deadline) {
      const pods = (await list()).map((p) => [
        p.metadata.name,
        p.metadata.deletionTimestamp,
        p.status,
      ]);
      throw new Error(`never ${what}: ${JSON.stringify(pods)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
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

test(`pods end as specified through deaths of agent, containerd and tasks (seed ${SEED})`, {
  skip,
  timeout: 280_000,
}, async () => {
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
      await server.call('DELETE', `${PODS}/${victim}`, { gracePeriodSeconds });
    } else if (dice < 0.8) await node.restart();
    else if (dice < 0.88) killDaemon();
    else killSomeTask(random);
    await new Promise((resolve) => setTimeout(resolve, randomInt(random, 250)));
  }
  await until('as specified', async () =>
    (await list()).every((p) => (p.metadata.deletionTimestamp ? false : sortOf(p).ends(p))),
  );
  for (const pod of await list()) await server.call('DELETE', `${PODS}/${pod.metadata.name}`);
  await until('gone', async () => (await list()).length === 0);
  // Traces of pods that were deleted while the agent was dead go with the next sweep.
  await node.restart();
  const left = async (): Promise<unknown[]> => [
    ...(await runtime.listPodSandboxes()),
    ...(await runtime.listContainers()),
    ...readdirSync(join(node.rootDir, 'pods')),
    ...readdirSync(join(node.rootDir, 'log/pods')),
    ...readdirSync(join(node.rootDir, 'memory')),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(join(node.rootDir, 'pods/'))),
    ...cgroupsLeft(),
  ];
  await until('clean', async () => (await left().catch(() => [1])).length === 0);
  assert.deepEqual(await left(), []);
});

function cgroupsLeft(): string[] {
  const root = `/sys/fs/cgroup/{.,*}/${node.cgroupPrefix}/kubepods`;
  const script = `ls -d ${root}/pod* ${root}/*/pod* 2>/dev/null || true`;
  return execFileSync('bash', ['-c', script]).toString().split('\n').filter(Boolean);
}
