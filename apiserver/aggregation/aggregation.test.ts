import assert from 'node:assert/strict';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { createCa, issueCertificate } from '#base/x509.ts';
import { defaultAddress } from '#apiserver/addresses.ts';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

const GROUP = 'toys.example.com';
const SERVICES = '/apis/apiregistration.k8s.io/v1/apiservices';

const OPENAPI_2 = {
  swagger: '2.0',
  paths: {
    [`/apis/${GROUP}/v1/bears`]: {
      get: { responses: { 200: { schema: { $ref: '#/definitions/com.example.Bear' } } } },
    },
    '/api/v1/pods': {},
  },
  definitions: { 'com.example.Bear': { type: 'object' } },
};
const RESOURCES = {
  kind: 'APIResourceList',
  apiVersion: 'v1',
  groupVersion: `${GROUP}/v1`,
  resources: [
    { name: 'bears', singularName: 'bear', namespaced: true, kind: 'Bear', verbs: ['get', 'list'] },
    { name: 'bears/status', singularName: '', namespaced: true, kind: 'Bear', verbs: ['get'] },
  ],
};

type Seen = {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  client: string;
  body: string;
};

/** A small extension API server: one resource, a stream, an echo behind an upgrade. */
async function startExtension(frontProxyCaPem: string) {
  const now = Date.now();
  const validity = { notBeforeMs: now - 60_000, notAfterMs: now + 3_600_000 };
  const ca = await createCa({ commonName: 'toys-ca', validity });
  const pair = await issueCertificate(ca, {
    commonName: 'toys',
    hosts: ['toys.default.svc'],
    usages: ['server'],
    validity,
  });
  const seen: Seen[] = [];
  let broken = false;
  const server = https.createServer({
    key: pair.keyPem,
    cert: pair.certPem,
    ca: frontProxyCaPem,
    requestCert: true,
    rejectUnauthorized: true,
  });
  server.on('request', (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => answer(request, response, Buffer.concat(chunks).toString()));
  });
  const answer = (request: IncomingMessage, response: ServerResponse, body: string): void => {
    const { url = '', method = '', headers } = request;
    const client = (request.socket as TLSSocket).getPeerCertificate().subject.CN as string;
    seen.push({ url, method, headers, client, body });
    const json = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (broken) return json(500, {});
    if (url === `/apis/${GROUP}/v1`) return json(200, RESOURCES);
    if (url.startsWith('/openapi/v3/')) return json(200, { openapi: '3.0.0' });
    if (url === '/openapi/v2') return json(200, OPENAPI_2);
    if (url.includes('watch=true')) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.write('{"type":"ADDED"}\n');
      setImmediate(() => response.end('{"type":"DELETED"}\n'));
      return;
    }
    json(method === 'POST' ? 201 : 200, { kind: 'BearList', items: [] });
  };
  server.on('upgrade', (request, socket) => {
    seen.push({
      url: request.url ?? '',
      method: '',
      headers: request.headers,
      client: '',
      body: '',
    });
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
    );
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    caPem: ca.certPem,
    seen,
    lastOf: (part: string) => seen.findLast(({ url }) => url.includes(part)),
    break: (yes: boolean) => (broken = yes),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

let server: TestServer;
let extension: Awaited<ReturnType<typeof startExtension>>;

before(async () => {
  server = await startTestServer();
  const config = await server.call(
    'GET',
    '/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication',
  );
  extension = await startExtension(
    JSON.parse(config.text).data['requestheader-client-ca-file'] as string,
  );
});
after(async () => {
  extension?.close();
  await server.close();
});

const registration = (spec: object = {}) => ({
  metadata: { name: `v1.${GROUP}` },
  spec: {
    group: GROUP,
    version: 'v1',
    groupPriorityMinimum: 17_650,
    versionPriority: 10,
    caBundle: Buffer.from(extension.caPem).toString('base64'),
    service: { namespace: 'default', name: 'toys', port: 443 },
    ...spec,
  },
});

/** Waits on a watch until the registration's condition has this reason. */
async function reason(name: string, wanted: string): Promise<string> {
  const { body } = await server.handle({
    method: 'GET',
    url: `${SERVICES}?watch=true&resourceVersion=0&timeoutSeconds=20&fieldSelector=metadata.name%3D${name}`,
    headers: {},
    body: null,
    signal: AbortSignal.timeout(20_000),
    user: { name: 'admin', groups: ['system:masters'] },
  });
  let text = '';
  let last = '';
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString();
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const condition = JSON.parse(line).object.status?.conditions?.[0];
      last = JSON.stringify(condition);
      if (condition?.reason === wanted) return condition.message;
    }
  }
  throw new Error(`the condition stayed ${last}`);
}

async function endpoints(address: string): Promise<void> {
  await server.call('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
    metadata: { name: 'toys-1', labels: { 'kubernetes.io/service-name': 'toys' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
    ports: [{ name: '', port: extension.port, protocol: 'TCP' }],
  });
}

test('own groups are registered, and available', async () => {
  const { text } = await server.call('GET', `${SERVICES}/v1.apps`);
  const { metadata, spec, status } = JSON.parse(text);
  assert.deepEqual(metadata.labels, { 'kube-aggregator.kubernetes.io/automanaged': 'onstart' });
  assert.deepEqual(spec, {
    group: 'apps',
    version: 'v1',
    groupPriorityMinimum: 17_800,
    versionPriority: 15,
  });
  assert.equal(status.conditions[0].reason, 'Local');
  assert.equal(status.conditions[0].message, 'Local APIServices are always available');
  assert.equal((await server.call('GET', `${SERVICES}/v1.`)).code, 200);
});

test('conditions say step by step what a registration lacks', async () => {
  assert.equal((await server.call('POST', SERVICES, registration())).code, 201);
  assert.equal(
    await reason(`v1.${GROUP}`, 'ServiceNotFound'),
    'service/toys in "default" is not present',
  );
  const { code, text } = await server.call('GET', `/apis/${GROUP}/v1/namespaces/a/bears`);
  assert.deepEqual([code, text], [503, 'service unavailable\n']);
  const services = '/api/v1/namespaces/default/services';
  await server.call('POST', services, {
    metadata: { name: 'toys' },
    spec: { ports: [{ port: 8443, protocol: 'TCP' }] },
  });
  assert.equal(
    await reason(`v1.${GROUP}`, 'ServicePortError'),
    'service/toys in "default" is not listening on port 443',
  );
  await server.call(
    'PATCH',
    `${services}/toys`,
    { spec: { ports: [{ port: 443, protocol: 'TCP' }] } },
    { 'content-type': 'application/merge-patch+json' },
  );
  assert.equal(
    await reason(`v1.${GROUP}`, 'EndpointsNotFound'),
    'cannot find endpointslices for service/toys in "default"',
  );
  await endpoints(defaultAddress());
  assert.equal(await reason(`v1.${GROUP}`, 'Passed'), 'all checks passed');
  const check = extension.lastOf(`/apis/${GROUP}/v1`);
  assert.equal(check?.headers['x-remote-user'], 'system:kube-aggregator');
  assert.equal(check?.client, 'front-proxy-client');
});

test('requests go on with the user in headers, and without credentials', async () => {
  const { status, body, headers } = await server.handle({
    method: 'POST',
    url: `/apis/${GROUP}/v1/namespaces/a/bears?dryRun=All`,
    headers: {
      authorization: 'Bearer admin-token',
      'content-type': 'application/json',
      'x-remote-user': 'forged',
      'x-remote-extra-forged': 'yes',
    },
    body: Buffer.from('{"kind":"Bear"}'),
    signal: new AbortController().signal,
    user: {
      name: 'jané',
      uid: 'u1',
      groups: ['system:masters', 'dev'],
      extra: { 'example.com/team': ['a', 'b'] },
    },
  });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body as AsyncIterable<Uint8Array>) chunks.push(chunk);
  assert.equal(status, 201);
  assert.equal(headers['content-type'], 'application/json');
  assert.match(Buffer.concat(chunks).toString(), /BearList/);
  const { url, headers: sent, body: sentBody } = extension.lastOf('dryRun') as Seen;
  assert.equal(url, `/apis/${GROUP}/v1/namespaces/a/bears?dryRun=All`);
  assert.equal(sentBody, '{"kind":"Bear"}');
  assert.equal(sent.authorization, undefined);
  assert.equal(Buffer.from(String(sent['x-remote-user']), 'latin1').toString(), 'jané');
  assert.equal(sent['x-remote-uid'], 'u1');
  assert.equal(sent['x-remote-group'], 'system:masters, dev');
  assert.equal(sent['x-remote-extra-example.com%2fteam'], 'a, b');
  assert.equal(sent['x-remote-extra-forged'], undefined);
});

test('a deletion keeps its options', async () => {
  const { body } = await server.handle({
    method: 'DELETE',
    url: `/apis/${GROUP}/v1/namespaces/a/bears/deleted`,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from('{"propagationPolicy":"Orphan"}'),
    signal: new AbortController().signal,
    user: { name: 'admin', groups: ['system:masters'] },
  });
  for await (const _ of body as AsyncIterable<Uint8Array>);
  const { headers: sent, body: sentBody } = extension.lastOf('deleted') as Seen;
  assert.equal(sentBody, '{"propagationPolicy":"Orphan"}');
  assert.equal(sent['content-length'], '30');
});

test('who may not ask here is not passed on', async () => {
  const { status } = await server.handle({
    method: 'GET',
    url: `/apis/${GROUP}/v1/namespaces/a/bears?forbidden`,
    headers: {},
    body: null,
    signal: new AbortController().signal,
    user: { name: 'eve', groups: ['system:authenticated'] },
  });
  assert.equal(status, 403);
  assert.equal(extension.lastOf('forbidden'), undefined);
});

test('streams arrive as they are sent', async () => {
  const { text } = await server.call('GET', `/apis/${GROUP}/v1/bears?watch=true`);
  assert.equal(text, '{"type":"ADDED"}\n{"type":"DELETED"}\n');
});

test('upgraded connections are handed over, both ways', async () => {
  const socket = connect({ port: server.port, host: '127.0.0.1', ca: server.caPem });
  socket.write(
    `GET /apis/${GROUP}/v1/namespaces/a/bears/b/exec HTTP/1.1\r\nHost: x\r\n` +
      `Authorization: Bearer ${server.token}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`,
  );
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    if (text.endsWith('\r\n\r\n')) socket.write('hello');
    if (text.endsWith('hello')) break;
  }
  socket.destroy();
  assert.match(text, /^HTTP\/1\.1 101 [^]*hello$/);
  const sent = extension.lastOf('/exec')?.headers;
  assert.equal(sent?.['x-remote-user'], 'admin');
  assert.equal(sent?.authorization, undefined);
});

const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

test('discovery has the group at its rank', async () => {
  const names = (groups: { name?: string; metadata?: { name: string } }[]): string[] =>
    groups.map((group) => group.name ?? group.metadata?.name ?? '');
  const plain = JSON.parse((await server.call('GET', '/apis')).text).groups;
  // Between authentication (17,700) and authorization (17,600).
  const at = names(plain).indexOf(GROUP);
  assert.deepEqual(names(plain).slice(at - 1, at + 2), [
    'authentication.k8s.io',
    GROUP,
    'authorization.k8s.io',
  ]);
  const version = { groupVersion: `${GROUP}/v1`, version: 'v1' };
  assert.deepEqual(plain[at], { name: GROUP, versions: [version], preferredVersion: version });
  const own = JSON.parse((await server.call('GET', `/apis/${GROUP}`)).text);
  assert.deepEqual(own, { kind: 'APIGroup', apiVersion: 'v1', ...plain[at] });
  assert.deepEqual(JSON.parse((await server.call('GET', `/apis/${GROUP}/v1`)).text), RESOURCES);
  const first = await server.call('GET', '/apis', undefined, { accept: AGGREGATED });
  const group = JSON.parse(first.text).items[at];
  assert.equal(group.metadata.name, GROUP);
  assert.equal(group.versions[0].freshness, 'Current');
  const kind = { group: GROUP, version: 'v1', kind: 'Bear' };
  assert.deepEqual(group.versions[0].resources, [
    {
      resource: 'bears',
      responseKind: kind,
      scope: 'Namespaced',
      singularResource: 'bear',
      verbs: ['get', 'list'],
      subresources: [{ subresource: 'status', responseKind: kind, verbs: ['get'] }],
    },
  ]);
  const again = await server.call('GET', '/apis', undefined, {
    accept: AGGREGATED,
    'if-none-match': first.headers['etag'] ?? '',
  });
  assert.equal(again.code, 304);
});

test('OpenAPI v2 has the paths and types of the group', async () => {
  const get = async (accept: string) => server.call('GET', '/openapi/v2', undefined, { accept });
  const merged = await get('application/json');
  const { paths, definitions } = JSON.parse(merged.text);
  assert.ok(paths[`/apis/${GROUP}/v1/bears`] && paths['/api/v1/pods']);
  assert.ok(definitions['com.example.Bear'] && definitions['io.k8s.api.core.v1.Pod']);
  const binary = await get('application/com.github.proto-openapi.spec.v2@v1.0+protobuf');
  assert.match(binary.headers['content-type'] ?? '', /protobuf/);
  assert.ok(binary.text.includes('com.example.Bear'));
});

test('OpenAPI v3 names the group’s document, which comes from its server', async () => {
  const root = JSON.parse((await server.call('GET', '/openapi/v3')).text);
  const path = root.paths[`apis/${GROUP}/v1`].serverRelativeURL;
  assert.equal(path, `/openapi/v3/apis/${GROUP}/v1`);
  assert.ok(root.paths['api/v1']);
  assert.deepEqual(JSON.parse((await server.call('GET', path)).text), { openapi: '3.0.0' });
});

test('a certificate of somebody else is not taken, unless the registration says so', async () => {
  const path = `${SERVICES}/v1.${GROUP}`;
  const patch = (spec: object) =>
    server.call('PATCH', path, { spec }, { 'content-type': 'application/merge-patch+json' });
  const bears = () => server.call('GET', `/apis/${GROUP}/v1/bears`);
  assert.equal((await bears()).code, 200);
  assert.equal((await patch({ caBundle: null })).code, 200);
  const refused = await bears();
  assert.equal(refused.code, 503);
  assert.match(JSON.parse(refused.text).message, /^error trying to reach service: /);
  await patch({ insecureSkipTLSVerify: true });
  assert.equal((await bears()).code, 200);
});

test('a server that fails is said to, its group stays known as stale', async () => {
  extension.break(true);
  await server.call(
    'PATCH',
    `${SERVICES}/v1.${GROUP}`,
    { metadata: { annotations: { look: 'again' } } },
    { 'content-type': 'application/merge-patch+json' },
  );
  const message = await reason(`v1.${GROUP}`, 'FailedDiscoveryCheck');
  assert.match(
    message,
    /^failing or missing response from https:.*: bad status from https:.*: 500$/,
  );
  const { text } = await server.call('GET', '/apis', undefined, { accept: AGGREGATED });
  const group = JSON.parse(text).items.find(
    (one: { metadata: { name: string } }) => one.metadata.name === GROUP,
  );
  assert.equal(group.versions[0].freshness, 'Stale');
  assert.equal(group.versions[0].resources.length, 1);
  assert.equal((await server.call('GET', `/apis/${GROUP}/v1/bears`)).code, 503);
  await server.call('DELETE', `${SERVICES}/v1.${GROUP}`);
  assert.equal((await server.call('GET', `/apis/${GROUP}/v1/bears`)).code, 404);
});
