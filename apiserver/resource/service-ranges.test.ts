import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTestServer } from '#apiserver/testing.ts';

const SERVICES = '/api/v1/namespaces/default/services';
const RANGES = '/apis/networking.k8s.io/v1/servicecidrs';

test('a ServiceCIDR gives addresses when it is ready and the first range is full', async () => {
  const server = await startTestServer({ serviceClusterIpRange: '10.96.0.0/28' });
  const create = async (name: string, spec: object = {}) => {
    const object = { metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } };
    return server.call('POST', SERVICES, object);
  };
  const ipOf = ({ body }: { body: object }): string =>
    (body as { spec: { clusterIP: string } }).spec.clusterIP;
  try {
    let full = await create('s0');
    for (let n = 1; full.code === 201 && n < 20; n++) full = await create(`s${n}`);
    assert.match(full.text, /range is full/);
    const more = { metadata: { name: 'more' }, spec: { cidrs: ['10.97.0.0/28'] } };
    assert.equal((await server.call('POST', RANGES, more)).code, 201);
    assert.match((await create('early')).text, /range is full/, 'nobody says that it is ready');
    const lastTransitionTime = '2026-01-01T00:00:00Z';
    const ready = { type: 'Ready', status: 'True', reason: '', message: '', lastTransitionTime };
    const merge = { 'content-type': 'application/merge-patch+json' };
    const status = { status: { conditions: [ready] } };
    assert.equal((await server.call('PATCH', `${RANGES}/more/status`, status, merge)).code, 200);
    const given = await create('later');
    assert.equal(given.code, 201, given.text);
    assert.match(ipOf(given), /^10\.97\.0\.\d+$/);
    const address = `/apis/networking.k8s.io/v1/ipaddresses/${ipOf(given)}`;
    assert.equal((await server.call('GET', address)).code, 200);
    const wanted = await create('wanted', { clusterIP: '10.97.0.9' });
    assert.equal(ipOf(wanted), '10.97.0.9');
    const finalizers = { metadata: { finalizers: ['test.example/keep'] } };
    await server.call('PATCH', `${RANGES}/more`, finalizers, merge);
    await server.call('DELETE', `${RANGES}/more`);
    assert.match((await create('none')).text, /range is full/, 'not while the range goes');
  } finally {
    await server.close();
  }
});
