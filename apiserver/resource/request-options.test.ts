import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const MAPS = '/api/v1/namespaces/default/configmaps';
const MERGE = { 'content-type': 'application/merge-patch+json' };

test('a field manager has a name that can be read', async () => {
  for (const [name, why] of [
    ['x'.repeat(129), /Too long: may not be more than 128 bytes/],
    ['a%01b', /fieldManager: Invalid value: \\"a\\\\x01b\\": should only contain printable/],
  ] as const) {
    const path = `${MAPS}?fieldManager=${name}`;
    const { code, text } = await server.call('POST', path, { metadata: { name: 'a' } });
    assert.equal(code, 422, text);
    assert.match(text, why);
  }
  const odd = `${MAPS}?fieldManager=${encodeURIComponent('é ü-1')}`;
  assert.equal((await server.call('POST', odd, { metadata: { name: 'a' } })).code, 201);
});

test('only an apply can be forced', async () => {
  const { code, text } = await server.call('PATCH', `${MAPS}/a?force=true`, {}, MERGE);
  assert.equal(code, 422);
  assert.match(text, /force: Forbidden: may not be specified for non-apply patch/);
});

test('nothing is created at the address of an object', async () => {
  const { code } = await server.call('POST', `${MAPS}/b`, { metadata: { name: 'b' } });
  assert.equal(code, 405);
});
