import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import type { Pod } from '#api/types.ts';
import { FOREVER, inPhase, isReady, PODS, sh, testCluster } from '#node-agent/testing-cluster.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';

/** Pods of manifests on the node's disk, as users of the API see them. */
const manifests = mkdtempSync('/tmp/G-manifests-');
const file = join(manifests, 'web.yaml');
const POD = 'web-n1';
const cluster = testCluster({
  podManifestPath: manifests,
  maxPods: 2,
  timeoutMs: 90_000,
  prepare: async () => write('first'),
});
const { run, request, create, until, gone } = cluster;

after(() => rmSync(manifests, { recursive: true, force: true }));

function write(version: string): void {
  writeFileSync(
    file,
    `apiVersion: v1
kind: Pod
metadata: { name: web, labels: { version: ${version} } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: ${TEST_IMAGE}
      imagePullPolicy: IfNotPresent
      command: [sh, -c, 'while :; do sleep 0.2; done']
`,
  );
}

const failed = inPhase('Failed');
const onNode = (): string[] => readdirSync(join(cluster.node.rootDir, 'pods'));
const idOf = (pod: Pod): string => pod.status?.containerStatuses?.[0]?.containerID ?? '';

run('a static pod runs, is mirrored, comes back, changes and goes with its file', async () => {
  const first = await until(POD, isReady);
  assert.equal(first.metadata.labels?.['version'], 'first');
  assert.equal(first.metadata.ownerReferences?.[0]?.kind, 'Node');

  await request('DELETE', `${PODS}/${POD}`);
  const again = await until(POD, (pod) => isReady(pod) && pod.metadata.uid !== first.metadata.uid);
  assert.equal(idOf(again), idOf(first), 'only its mirror was deleted');

  await cluster.node.restart();
  assert.equal(idOf(await until(POD, isReady)), idOf(first));

  write('second-one');
  const second = await until(
    POD,
    (pod) => isReady(pod) && pod.metadata.labels?.['version'] !== 'first',
  );
  assert.notEqual(idOf(second), idOf(first));

  rmSync(file);
  await gone(POD);
});

run('a static pod takes the place of the least important one when the node is full', async () => {
  const bound = async (name: string, more: object): Promise<void> => {
    await create(name, { containers: [sh(FOREVER, more)] });
    const { status } = await until(name, (p) => isReady(p) || failed(p));
    assert.equal(status?.message, undefined);
  };
  rmSync(file, { force: true });
  while (onNode().length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  await bound('dear', { resources: { requests: { cpu: '10m' } } });
  await bound('cheap', {});
  write('critical');
  await until(POD, (pod) => isReady(pod) || failed(pod));
  const { status } = await until('cheap', failed);
  const { reason, message } = status ?? {};
  assert.deepEqual([reason, message], ['Preempting', 'Preempted in order to admit critical pod']);
  const target = status?.conditions?.find((c) => c.type === 'DisruptionTarget');
  assert.equal(target?.reason, 'TerminationByKubelet');
  assert.ok(isReady(await until('dear', () => true)));
  const { body } = await request('GET', '/api/v1/namespaces/default/events');
  const events = (body as unknown as { items: { reason: string; involvedObject: object }[] }).items;
  assert.equal(events.filter((event) => event.reason === 'Preempting').length, 1);
});

run('a preemption that has begun goes on when the agent is started anew', async () => {
  rmSync(file, { force: true });
  await gone(POD);
  await cluster.remove('cheap');
  // What is gone from the API may take its place on the node for a moment more.
  for (let tries = 1; ; tries++) {
    await create('late', { terminationGracePeriodSeconds: 8, containers: [sh(FOREVER)] });
    const { status } = await until('late', (pod) => isReady(pod) || failed(pod));
    if (status?.phase === 'Running') break;
    assert.ok(tries < 100, status?.message ?? '');
    await cluster.remove('late');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  write('critical');
  type Events = { items: { reason: string; involvedObject: { name: string } }[] };
  await cluster.get<Events>('/api/v1/namespaces/default/events', ({ items }) =>
    items.some(
      ({ reason, involvedObject }) => reason === 'Preempting' && involvedObject.name === 'late',
    ),
  );
  // Nobody needs the room any more: what has been decided and said is done all the same.
  await cluster.node.restart(async () => rmSync(file));
  const { status } = await until('late', failed);
  assert.equal(status?.reason, 'Preempting');
  assert.ok(isReady(await until('dear', () => true)));
});
