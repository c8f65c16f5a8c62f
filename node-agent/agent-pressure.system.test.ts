import assert from 'node:assert/strict';
import type { Node, Pod } from '#api/types.ts';
import { meminfo } from '#node-agent/node/node-facts.ts';
import { missingForTestRuntime } from '#node-agent/testing.ts';
import { FOREVER, inPhase, sh, testCluster } from '#node-agent/testing-cluster.ts';

/** A node that runs short, and pods that take more than they may. */
const GIB = 1024 ** 3;
/** Taken by the test; far more than other tests on the machine come and go with. */
const EATEN_BYTES = 2.5 * GIB;
const freeBytes = meminfo().availableBytes;
const skip =
  missingForTestRuntime() ??
  (freeBytes < 2 * EATEN_BYTES ? 'needs 5 GiB of free memory to run short of' : false);
const cluster = testCluster({
  skip,
  eviction: { evictionHard: `memory.available<${Math.floor(freeBytes - 0.6 * EATEN_BYTES)}` },
});
const { run, request, until } = cluster;

type Container = Pod['spec']['containers'][number];
const create = (
  name: string,
  script: string,
  { volumes = [], ...container }: Partial<Container> & Pick<Pod['spec'], 'volumes'> = {},
) => cluster.create(name, { containers: [sh(script, container)], volumes });

const evicted = (pod: Pod): boolean => pod.status?.reason === 'Evicted';
const runs = inPhase('Running');
const write = (path: string, mebibytes: number): string =>
  `dd if=/dev/zero of=${path} bs=1M count=${mebibytes}; ${FOREVER}`;

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
  await create('modest', FOREVER, { resources: { requests: { memory: '64Mi' } } });
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
  const { body } = await request('GET', '/api/v1/nodes/n1');
  const { status } = body as unknown as Node;
  assert.equal(status?.conditions?.find((c) => c.type === 'MemoryPressure')?.status, 'True');
  assert.ok(runs(await until('modest', () => true)));
  await create('unlucky', FOREVER);
  const unlucky = await until('unlucky', evicted);
  assert.equal(
    unlucky.status?.message,
    'Pod was rejected: The node had condition: [MemoryPressure]. ',
  );
  await create('asking', FOREVER, { resources: { requests: { memory: '16Mi' } } });
  await until('asking', runs);
});
