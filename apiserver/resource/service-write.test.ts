import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

const SERVICES = '/api/v1/namespaces/default/services';

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const service = (name: string, spec: object) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});

const create = (name: string, spec: object, query = '') =>
  server.call('POST', SERVICES + query, service(name, spec));

/** A node port is free when a service can have it. */
async function isFree(nodePort: number): Promise<boolean> {
  const spec = { type: 'NodePort', ports: [{ port: 80, nodePort }] };
  const { code } = await create(`probe-${nodePort}`, spec);
  if (code === 201) await server.call('DELETE', `${SERVICES}/probe-${nodePort}`);
  return code === 201;
}

test('a service gets address, families and node port before it is answered', async () => {
  const { code, body } = await create('a', { type: 'NodePort' });
  assert.equal(code, 201);
  const { clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy, ports } = body['spec'] ?? {};
  assert.match(String(clusterIP), /^10\.96\./);
  assert.deepEqual(
    [clusterIPs, ipFamilies, ipFamilyPolicy],
    [[clusterIP], ['IPv4'], 'SingleStack'],
  );
  assert.ok(Number(ports?.[0]?.['nodePort']) >= 30_000);
});

test('what a service held is free after a change of type, and after its deletion', async () => {
  await create('b', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_001 }] });
  assert.equal(await isFree(30_001), false);
  const patch = { spec: { type: 'ClusterIP' } };
  const headers = { 'content-type': 'application/merge-patch+json' };
  const changed = await server.call('PATCH', `${SERVICES}/b`, patch, headers);
  assert.equal(changed.code, 200, changed.text);
  assert.equal(changed.body['spec']?.['ports']?.[0]?.['nodePort'], undefined);
  assert.equal(await isFree(30_001), true);
  const ip = changed.body['spec']?.['clusterIP'];
  assert.equal((await create('c', { clusterIP: ip })).code, 422);
  assert.equal((await server.call('DELETE', `${SERVICES}/b`)).code, 200);
  assert.equal((await create('c', { clusterIP: ip })).code, 201);
});

test('a refused write holds nothing', async () => {
  const ports = [{ port: 80, nodePort: 30_002 }];
  const bad = await create('d', { type: 'NodePort', ports, sessionAffinity: 'Magic' });
  assert.equal(bad.code, 422);
  const twice = await create('a', { type: 'NodePort', ports });
  assert.equal(twice.code, 409);
  const dry = await create('d', { type: 'NodePort', ports }, '?dryRun=All');
  assert.equal(dry.code, 201, dry.text);
  assert.equal(await isFree(30_002), true);
});

test('a status write leaves ports alone', async () => {
  const { body } = await create('lb', { type: 'LoadBalancer' });
  body['status'] = { loadBalancer: { ingress: [{ ip: '192.0.2.1', ipMode: 'VIP' }] } } as never;
  const written = await server.call('PUT', `${SERVICES}/lb/status`, body);
  assert.equal(written.code, 200, written.text);
  assert.deepEqual(written.body['spec'], body['spec']);
});
