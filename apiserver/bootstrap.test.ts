import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const MERGE = { 'content-type': 'application/merge-patch+json' };

type Item = { metadata: { name: string; resourceVersion: string } };

async function versions(server: TestServer, path: string): Promise<Record<string, string>> {
  const { body } = await server.call('GET', path);
  const items = body['items'] as unknown as Item[];
  return Object.fromEntries(items.map(({ metadata }) => [metadata.name, metadata.resourceVersion]));
}

test('a start makes what is missing, heals what was taken away and leaves the rest', async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'gantry-bootstrap-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const lists = [
    `${RBAC}/clusterroles`,
    `${RBAC}/clusterrolebindings`,
    '/api/v1/namespaces',
    '/api/v1/services',
    '/apis/scheduling.k8s.io/v1/priorityclasses',
    '/apis/node.k8s.io/v1/runtimeclasses',
  ];
  const readAll = (server: TestServer) => Promise.all(lists.map((path) => versions(server, path)));

  const first = await startTestServer({ dataDir });
  const born = await readAll(first);
  assert.ok(born.every((list) => Object.keys(list).length > 0));
  assert.ok(born[0]?.['system:kube-scheduler']);
  assert.ok(born[3]?.['kubernetes'] && born[3]['kube-dns']);
  assert.deepEqual(Object.keys(born[5] ?? {}), ['container', 'microvm']);
  await first.close();

  const second = await startTestServer({ dataDir });
  assert.deepEqual(await readAll(second), born, 'nothing to do, nothing written');
  const scheduler = `${RBAC}/clusterroles/system:kube-scheduler`;
  const keep = `${RBAC}/clusterroles/system:kube-dns`;
  await second.call('PATCH', scheduler, { rules: [] }, MERGE);
  const annotations = { 'rbac.authorization.kubernetes.io/autoupdate': 'false' };
  await second.call('PATCH', keep, { metadata: { annotations }, rules: [] }, MERGE);
  await second.call('DELETE', `${RBAC}/clusterrolebindings/system:discovery`);
  await second.close();

  const third = await startTestServer({ dataDir });
  const rulesOf = async (path: string): Promise<number> =>
    ((await third.call('GET', path)).body['rules'] as unknown[] | undefined)?.length ?? 0;
  assert.ok((await rulesOf(scheduler)) > 10);
  assert.equal(await rulesOf(keep), 0);
  const discovery = await third.call('GET', `${RBAC}/clusterrolebindings/system:discovery`);
  assert.equal(discovery.code, 200);
  await third.close();
});

test('the range of Services has an object, which no deletion takes away', async (t) => {
  const server = await startTestServer();
  t.after(() => server.close());
  const path = '/apis/networking.k8s.io/v1/servicecidrs/kubernetes';
  const { body } = await server.call('GET', path);
  assert.deepEqual(body['spec'], { cidrs: ['10.96.0.0/16'] });
  assert.equal(body['status']?.['conditions']?.[0]?.['type'], 'Ready');
  await server.call('DELETE', path);
  assert.equal((await server.call('GET', path)).code, 200);
});
