import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findEtcd, startEtcd } from '#apiserver/store/etcd-testing.ts';
import { startTestServer } from '#apiserver/testing.ts';

const SERVICES = '/api/v1/namespaces/default/services';
const skip = findEtcd() === undefined && 'etcd is not installed (package etcd-server)';

test('two API servers on one etcd never give the same address or port', { skip }, async () => {
  const etcd = await startEtcd();
  const options = {
    etcdServers: [etcd.endpoint],
    serviceClusterIpRange: '10.96.0.0/25',
    serviceNodePortRange: '30000-30063',
  };
  const servers = await Promise.all([startTestServer(options), startTestServer(options)]);
  try {
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const spec = { type: 'NodePort', ports: [{ port: 80 }] };
        const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: `s${n}` }, spec };
        return servers[n % 2]?.call('POST', SERVICES, service);
      }),
    );
    for (const answer of answers) assert.equal(answer?.code, 201);
    const specs = answers.map((answer) => answer?.body['spec']);
    assert.equal(new Set(specs.map((spec) => String(spec?.['clusterIP']))).size, 60);
    assert.equal(new Set(specs.map((spec) => String(spec?.['ports']?.[0]?.['nodePort']))).size, 60);
    // Each sees at once what the other has written.
    const [one, other] = servers;
    const created = await one?.call('GET', `${SERVICES}/s1`);
    assert.equal(created?.code, 200);
    assert.equal((await other?.call('DELETE', `${SERVICES}/s1`))?.code, 200);
    assert.equal((await one?.call('GET', `${SERVICES}/s1`))?.code, 404);
  } finally {
    await Promise.all(servers.map((server) => server.close()));
    await etcd.stop();
  }
});
