import assert from 'node:assert/strict';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { KubeObject } from '#api/types.ts';
import { createCa, issueCertificate } from '#base/x509.ts';
import { ADMIN, startTestServer } from '#apiserver/testing.ts';

const GROUP = 'shapes.example.com';
const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/** `size` of v1 is `length` of v2, ten times as large. */
function convert(object: KubeObject, version: string): KubeObject {
  const { size, length } = (object['spec'] ?? {}) as { size?: number; length?: number };
  const spec =
    version === `${GROUP}/v1`
      ? { size: size ?? (length ?? 0) / 10 }
      : { length: length ?? (size ?? 0) * 10 };
  return { ...object, apiVersion: version, spec };
}

const now = Date.now();
const validity = { notBeforeMs: now - 60_000, notAfterMs: now + 3_600_000 };
const ca = await createCa({ commonName: 'shapes-ca', validity });
const pair = await issueCertificate(ca, {
  commonName: 'shapes',
  hosts: ['127.0.0.1'],
  usages: ['server'],
  validity,
});
let asked = 0;
const webhook = https.createServer(
  { key: pair.keyPem, cert: pair.certPem },
  (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      asked++;
      const review = JSON.parse(Buffer.concat(chunks).toString()) as {
        request: { uid: string; desiredAPIVersion: string; objects: KubeObject[] };
      };
      const { uid, desiredAPIVersion, objects } = review.request;
      const convertedObjects = objects.map((object) => convert(object, desiredAPIVersion));
      const answer = { response: { uid, result: { status: 'Success' }, convertedObjects } };
      response.end(JSON.stringify({ ...review, ...answer }));
    });
  },
);
await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));
const server = await startTestServer();
after(async () => {
  await server.close();
  webhook.closeAllConnections();
  await new Promise((resolve) => webhook.close(resolve));
});

const version = (name: string, field: string) => ({
  name,
  served: true,
  storage: name === 'v1',
  schema: {
    openAPIV3Schema: {
      type: 'object',
      properties: { spec: { type: 'object', properties: { [field]: { type: 'number' } } } },
    },
  },
});

test('a webhook turns versions into each other for reads, writes, lists and watches', async () => {
  const { port } = webhook.address() as AddressInfo;
  const clientConfig = {
    url: `https://127.0.0.1:${port}/convert`,
    caBundle: Buffer.from(ca.certPem).toString('base64'),
  };
  const made = await server.call('POST', DEFINITIONS, {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `boxes.${GROUP}` },
    spec: {
      group: GROUP,
      scope: 'Cluster',
      names: { plural: 'boxes', kind: 'Box' },
      versions: [version('v1', 'size'), version('v2', 'length')],
      conversion: {
        strategy: 'Webhook',
        webhook: { conversionReviewVersions: ['v1'], clientConfig },
      },
    },
  });
  assert.equal(made.code, 201, made.text);
  const v1 = `/apis/${GROUP}/v1/boxes`;
  const v2 = `/apis/${GROUP}/v2/boxes`;
  const box = {
    apiVersion: `${GROUP}/v2`,
    kind: 'Box',
    metadata: { name: 'a' },
    spec: { length: 30 },
  };
  for (let code = 404; code === 404; ) {
    // The definition is served some turns of the event loop later.
    await nextTurn();
    const created = await server.call('POST', v2, box);
    code = created.code;
    if (code !== 404) assert.deepEqual([code, created.body['spec']], [201, { length: 30 }]);
  }
  assert.deepEqual((await server.call('GET', `${v1}/a`)).body['spec'], { size: 3 });
  assert.deepEqual((await server.call('GET', `${v2}/a`)).body['spec'], { length: 30 });
  const before = asked;
  const listed = await server.call('GET', v2);
  assert.deepEqual(listed.body['items']?.[0]?.['spec'], { length: 30 });
  assert.equal(asked, before, 'what was converted is not asked about again');
  const merge = { 'content-type': 'application/merge-patch+json' };
  const patched = await server.call('PATCH', `${v2}/a`, { spec: { length: 50 } }, merge);
  assert.deepEqual([patched.code, patched.body['spec']], [200, { length: 50 }]);
  assert.deepEqual((await server.call('GET', `${v1}/a`)).body['spec'], { size: 5 });

  const stop = new AbortController();
  const from = listed.body['metadata']?.['resourceVersion'];
  const watching = await server.handle({
    method: 'GET',
    url: `${v2}?watch=1&resourceVersion=${from}`,
    headers: {},
    body: null,
    signal: stop.signal,
    user: ADMIN,
  });
  const seen: unknown[] = [];
  for await (const chunk of watching.body as AsyncIterable<Uint8Array>) {
    for (const line of Buffer.from(chunk).toString().trim().split('\n')) {
      const event = JSON.parse(line) as { type: string; object: KubeObject };
      seen.push([event.type, event.object['spec']]);
    }
    if (seen.length === 1) await server.call('DELETE', `${v1}/a`);
    if (seen.length === 2) break;
  }
  stop.abort();
  assert.deepEqual(seen, [
    ['MODIFIED', { length: 50 }],
    ['DELETED', { length: 50 }],
  ]);
});
