import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Node, Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { meminfo } from '#node-agent/node/node-facts.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';

/** A node that runs short, and pods that take more than they may. */
const GIB = 1024 ** 3;
/** Taken by the test; far more than other tests on the machine come and go with. */
const EATEN_BYTES = 2.5 * GIB;
const freeBytes = meminfo().availableBytes;
const skip =
  missingForTestRuntime() ??
  (freeBytes < 2 * EATEN_BYTES ? 'needs 5 GiB of free memory to run short of' : false);
let server: TestServer;
let node: TestNode;

before(async () => {
  if (skip) return;
  server = await startTestServer();
  const groups = ['system:nodes', 'system:authenticated'];
  const transport = inProcessTransport(server.handle, { name: 'system:node:n1', groups });
  node = await startTestNode({
    api: createApi(transport, { userAgent: 'kubelet' }),
    eviction: { evictionHard: `memory.available<${Math.floor(freeBytes - 0.6 * EATEN_BYTES)}` },
  });
  await server.call('POST', '/api/v1/namespaces/default/serviceaccounts', {
    metadata: { name: 'default' },
  });
});

after(async () => {
  if (skip) return;
  await node.close();
  await server.close();
});

const PODS = '/api/v1/namespaces/default/pods';
const run = (name: string, body: () => Promise<void>): void =>
  void test(name, { skip, timeout: 60_000 }, body);

async function create(
  name: string,
  script: string,
  {
    volumes = [],
    ...container
  }: Partial<Pod['spec']['containers'][number]> & {
    volumes?: Pod['spec']['volumes'];
  } = {},
): Promise<void> {
  const main = { name: 'main', image: TEST_IMAGE, command: ['sh', '-c', script], ...container };
  const answer = await server.call('POST', PODS, {
    metadata: { name },
    spec: {
      nodeName: 'n1',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      containers: [main],
      volumes,
    },
  });
  assert.equal(answer.code, 201, answer.text);
}

async function until(name: string, ok: (pod: Pod) => boolean): Promise<Pod> {
  for (;;) {
    const { body } = await server.call('GET', `${PODS}/${name}`);
    const pod = body as unknown as Pod;
    if (ok(pod)) return pod;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const evicted = (pod: Pod): boolean => pod.status?.reason === 'Evicted';
const runs = (pod: Pod): boolean => pod.status?.phase === 'Running';
const forever = 'while :; do sleep 0.5; done';
const write = (path: string, mebibytes: number): string =>
  `dd if=/dev/zero of=${path} bs=1M count=${mebibytes}; ${forever}`;

run('pods that outgrow a volume or their storage limit are evicted', async () => {
  const tmp = (sizeLimit: string) => ({
    volumeMounts: [{ name: 'tmp', mountPath: '/scratch' }],
    volumes: [{ name: 'tmp', emptyDir: { sizeLimit } }],
  });
  await create('dir', write('/scratch/f', 4), tmp('1Mi'));
  await create('fits', write('/scratch/f', 4), tmp('100Mi'));
  const limits = { 'ephemeral-storage': '2Mi' };
  await create('layer', write('/f', 8), { resources: { limits } });
  const dir = await until('dir', evicted);
  assert.equal(dir.status?.phase, 'Failed');
  assert.equal(dir.status?.message, 'Usage of EmptyDir volume "tmp" exceeds the limit "1Mi". ');
  const target = dir.status?.conditions?.find((c) => c.type === 'DisruptionTarget');
  assert.equal(target?.reason, 'TerminationByKubelet');
  const layer = await until('layer', evicted);
  assert.match(layer.status?.message ?? '', /local ephemeral storage|local storage usage/);
  assert.ok(runs(await until('fits', () => true)));
});

run('when memory runs short the greediest pod goes, and the node says so', async () => {
  await create('modest', forever, { resources: { requests: { memory: '64Mi' } } });
  await until('modest', runs);
  await create('greedy', write('/m/f', EATEN_BYTES / 1024 ** 2), {
    volumeMounts: [{ name: 'm', mountPath: '/m' }],
    volumes: [{ name: 'm', emptyDir: { medium: 'Memory' } }],
  });
  const greedy = await until('greedy', evicted);
  assert.match(
    greedy.status?.message ?? '',
    /^The node was low on resource: memory\. Threshold quantity: \S+, available: \S+\. Container main was using \S+, request is 0, has larger consumption of memory\. $/,
  );
  const { body } = await server.call('GET', '/api/v1/nodes/n1');
  const { status } = body as unknown as Node;
  assert.equal(status?.conditions?.find((c) => c.type === 'MemoryPressure')?.status, 'True');
  assert.ok(runs(await until('modest', () => true)));
  await create('unlucky', forever);
  const unlucky = await until('unlucky', evicted);
  assert.equal(
    unlucky.status?.message,
    'Pod was rejected: The node had condition: [MemoryPressure]. ',
  );
  await create('asking', forever, { resources: { requests: { memory: '16Mi' } } });
  await until('asking', runs);
});
