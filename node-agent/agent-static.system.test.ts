import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';

/** Pods of manifests on the node's disk, as users of the API see them. */
const skip = missingForTestRuntime() ?? false;
const manifests = mkdtempSync('/tmp/G-manifests-');
const file = join(manifests, 'web.yaml');
let server: TestServer;
let node: TestNode;

before(async () => {
  if (skip) return;
  server = await startTestServer();
  const accounts = '/api/v1/namespaces/default/serviceaccounts';
  await server.call('POST', accounts, { metadata: { name: 'default' } });
  const groups = ['system:nodes', 'system:authenticated'];
  const transport = inProcessTransport(server.handle, { name: 'system:node:n1', groups });
  write('first');
  const api = createApi(transport, { userAgent: 'kubelet' });
  node = await startTestNode({ api, podManifestPath: manifests, maxPods: 2 });
});

after(async () => {
  if (!skip) {
    await node.close();
    await server.close();
  }
  rmSync(manifests, { recursive: true, force: true });
});

const PODS = '/api/v1/namespaces/default/pods';
const POD = `${PODS}/web-n1`;

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

async function until(ok: (pod: Pod | undefined) => boolean, path = POD): Promise<Pod> {
  for (;;) {
    const answer = await server.call('GET', path);
    const pod = answer.code === 404 ? undefined : (answer.body as unknown as Pod);
    if (ok(pod)) return pod as Pod;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const isReady = (pod: Pod | undefined): boolean =>
  pod?.status?.conditions?.find((c) => c.type === 'Ready')?.status === 'True';
const failed = (pod: Pod | undefined): boolean => pod?.status?.phase === 'Failed';
const idOf = (pod: Pod): string => pod.status?.containerStatuses?.[0]?.containerID ?? '';

test('a static pod runs, is mirrored, comes back, changes and goes with its file', {
  skip,
  timeout: 90_000,
}, async () => {
  const first = await until(isReady);
  assert.equal(first.metadata.labels?.['version'], 'first');
  assert.equal(first.metadata.ownerReferences?.[0]?.kind, 'Node');

  await server.call('DELETE', POD);
  const again = await until((pod) => isReady(pod) && pod?.metadata.uid !== first.metadata.uid);
  assert.equal(idOf(again), idOf(first), 'only its mirror was deleted');

  await node.restart();
  assert.equal(idOf(await until(isReady)), idOf(first));

  write('second-one');
  const second = await until(
    (pod) => isReady(pod) && pod?.metadata.labels?.['version'] !== 'first',
  );
  assert.notEqual(idOf(second), idOf(first));

  rmSync(file);
  await until((pod) => pod === undefined);
});

test('a static pod takes the place of the least important one when the node is full', {
  skip,
  timeout: 60_000,
}, async () => {
  const bound = async (name: string, more: object): Promise<void> => {
    const answer = await server.call('POST', PODS, {
      metadata: { name },
      spec: {
        nodeName: 'n1',
        automountServiceAccountToken: false,
        terminationGracePeriodSeconds: 1,
        containers: [{ name: 'main', image: TEST_IMAGE, command: ['sleep', '1000'], ...more }],
      },
    });
    assert.equal(answer.code, 201, answer.text);
    const { status } = await until((p) => isReady(p) || failed(p), `${PODS}/${name}`);
    assert.equal(status?.message, undefined);
  };
  rmSync(file, { force: true });
  const onNode = (): string[] => readdirSync(join(node.rootDir, 'pods'));
  while (onNode().length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  await bound('dear', { resources: { requests: { cpu: '10m' } } });
  await bound('cheap', {});
  write('critical');
  await until((pod) => isReady(pod) || failed(pod));
  const { status } = await until(failed, `${PODS}/cheap`);
  const { reason, message } = status ?? {};
  assert.deepEqual([reason, message], ['Preempting', 'Preempted in order to admit critical pod']);
  const target = status?.conditions?.find((c) => c.type === 'DisruptionTarget');
  assert.equal(target?.reason, 'TerminationByKubelet');
  assert.ok(isReady(await until(() => true, `${PODS}/dear`)));
  const { body } = await server.call('GET', '/api/v1/namespaces/default/events');
  const events = (body as unknown as { items: { reason: string; involvedObject: object }[] }).items;
  assert.equal(events.filter((event) => event.reason === 'Preempting').length, 1);
});
