import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { until } from '#base/testing.ts';
import { createCa, issueCertificate } from '#base/x509.ts';
import { defaultAddress } from '#apiserver/addresses.ts';
import { startTestServer, type TestAnswer, type TestServer } from '#apiserver/testing.ts';

/** Webhooks against a true HTTPS server, which answers as each test says. */

type Review = {
  request: {
    uid: string;
    operation: string;
    name?: string;
    dryRun: boolean;
    object: { metadata: { labels?: Record<string, string> } } | null;
    oldObject: object | null;
    userInfo: { username: string };
    resource: { resource: string };
    subResource?: string;
  };
};
type Reply = Record<string, unknown>;

let server: TestServer;
/** Of the audit log. */
let directory: string;
let hooks: https.Server;
let caBundle: string;
let port: number;
let seen: { path: string; review: Review }[] = [];
let replies: Record<string, (review: Review) => Reply | number | null> = {};

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-webhooks-'));
  const auditPolicyFile = join(directory, 'policy.yaml');
  writeFileSync(
    auditPolicyFile,
    'apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request, resources: [{group: "", resources: [configmaps]}]}, {level: None}]\n',
  );
  server = await startTestServer({
    auditPolicyFile,
    auditLog: { path: join(directory, 'audit.log') },
  });
  const now = Date.now();
  const validity = { notBeforeMs: now - 60_000, notAfterMs: now + 3_600_000 };
  const ca = await createCa({ commonName: 'hooks-ca', validity });
  const pair = await issueCertificate(ca, {
    commonName: 'hooks',
    hosts: ['127.0.0.1', 'hooks.default.svc'],
    usages: ['server'],
    validity,
  });
  caBundle = Buffer.from(ca.certPem).toString('base64');
  hooks = https.createServer({ key: pair.keyPem, cert: pair.certPem }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = (request.url ?? '').split('?')[0] ?? '';
      const review = JSON.parse(Buffer.concat(chunks).toString()) as Review;
      seen.push({ path, review });
      const reply = replies[path]?.(review) ?? { allowed: true };
      // A number is a status without an answer, zero none at all.
      if (reply === 0) return;
      if (typeof reply === 'number') {
        response.writeHead(reply).end('broken');
        return;
      }
      const answer = { uid: review.request.uid, ...reply };
      const body = { kind: 'AdmissionReview', apiVersion: 'admission.k8s.io/v1', response: answer };
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => hooks.listen(0, '0.0.0.0', resolve));
  port = (hooks.address() as AddressInfo).port;
});

after(async () => {
  hooks.closeAllConnections();
  hooks.close();
  await server.close();
  rmSync(directory, { recursive: true });
});

const GROUP = '/apis/admissionregistration.k8s.io/v1';

beforeEach(async () => {
  for (const family of ['validating', 'mutating']) {
    await server.call('DELETE', `${GROUP}/${family}webhookconfigurations`);
  }
  await server.call('DELETE', '/api/v1/namespaces/default/configmaps');
  seen = [];
  replies = {};
});

async function register(
  family: 'validating' | 'mutating',
  path: string,
  more: object = {},
  client: object = { url: `https://127.0.0.1:${port}${path}` },
): Promise<void> {
  const kind = `${family === 'validating' ? 'Validating' : 'Mutating'}WebhookConfiguration`;
  const name = `w-${path.slice(1)}`;
  const answer = await server.call('POST', `${GROUP}/${family}webhookconfigurations`, {
    kind,
    metadata: { name },
    webhooks: [
      {
        name: `${path.slice(1)}.example.com`,
        admissionReviewVersions: ['v1'],
        sideEffects: 'None',
        timeoutSeconds: 1,
        rules: [
          { apiGroups: [''], apiVersions: ['v1'], operations: ['*'], resources: ['configmaps'] },
        ],
        clientConfig: { caBundle, ...client },
        ...more,
      },
    ],
  });
  assert.equal(answer.code, 201, answer.text);
}

const create = (name: string, more: object = {}, query = ''): Promise<TestAnswer> =>
  server.call('POST', `/api/v1/namespaces/default/configmaps${query}`, {
    metadata: { name, ...more },
  });

const patch = (...operations: object[]): Reply => ({
  allowed: true,
  patchType: 'JSONPatch',
  patch: Buffer.from(JSON.stringify(operations)).toString('base64'),
});

test('a refusal is the webhook own Status, and says who refused', async () => {
  await register('validating', '/deny');
  replies['/deny'] = () => ({ allowed: false, status: { message: 'not today', code: 409 } });
  const answer = await create('a');
  assert.equal(answer.code, 409);
  const text = 'admission webhook "deny.example.com" denied the request: not today';
  assert.equal(answer.body['message'], text);
  replies['/deny'] = () => ({ allowed: false });
  const bare = await create('a');
  assert.equal(bare.code, 400);
  assert.equal(
    bare.body['message'],
    'admission webhook "deny.example.com" denied the request without explanation',
  );
});

test('a review says who does what, with both objects on updates and none on deletes', async () => {
  await register('validating', '/see');
  await create('a', { labels: { l: '1' } });
  const path = '/api/v1/namespaces/default/configmaps/a';
  await server.call(
    'PATCH',
    path,
    { data: { x: 'y' } },
    { 'content-type': 'application/merge-patch+json' },
  );
  await server.call('DELETE', path);
  const requests = seen.map(({ review }) => review.request);
  assert.deepEqual(
    requests.map(({ operation, object, oldObject }) => [
      operation,
      object !== null,
      oldObject !== null,
    ]),
    [
      ['CREATE', true, false],
      ['UPDATE', true, true],
      ['DELETE', false, true],
    ],
  );
  const [first] = requests;
  assert.equal(first?.userInfo.username, 'admin');
  assert.equal(first.resource.resource, 'configmaps');
  assert.equal(first.dryRun, false);
});

test('patches are applied one after the other, and warnings reach the client', async () => {
  await register('mutating', '/one');
  await register('mutating', '/two');
  replies['/one'] = () => patch({ op: 'add', path: '/data', value: { one: '1' } });
  replies['/two'] = () => ({
    ...patch({ op: 'add', path: '/data/two', value: '2' }),
    warnings: ['mind the gap'],
  });
  const answer = await create('a');
  assert.deepEqual(answer.body['data'], { one: '1', two: '2' });
  assert.match(answer.headers['warning'] ?? '', /mind the gap/);
});

test('a webhook is asked again when a later one changed the object', async () => {
  await register('mutating', '/a-first', { reinvocationPolicy: 'IfNeeded' });
  await register('mutating', '/b-never');
  await register('mutating', '/c-last');
  replies['/c-last'] = () => patch({ op: 'add', path: '/data', value: { late: '1' } });
  await create('a');
  assert.deepEqual(
    seen.map(({ path }) => path),
    ['/a-first', '/b-never', '/c-last', '/a-first'],
  );
});

test('who cannot be asked fails the request, or is passed over', async () => {
  await register('validating', '/gone', {}, { url: 'https://127.0.0.1:1/x' });
  const answer = await create('a');
  assert.equal(answer.code, 500);
  const text =
    'failed calling webhook "gone.example.com": failed to call webhook: Post "https://127.0.0.1:1/x?timeout=1s": dial tcp 127.0.0.1:1: connect: connection refused';
  assert.equal(answer.body['message'], `Internal error occurred: ${text}`);
  const path = `${GROUP}/validatingwebhookconfigurations/w-gone`;
  const ignore = [{ op: 'replace', path: '/webhooks/0/failurePolicy', value: 'Ignore' }];
  await server.call('PATCH', path, ignore, { 'content-type': 'application/json-patch+json' });
  assert.equal((await create('a')).code, 201);
});

test('slow, broken, untrusted and confused webhooks are told apart', async () => {
  await register('validating', '/odd');
  const messages: string[] = [];
  for (const reply of [
    0,
    503,
    { allowed: true, uid: 'x' },
    { patch: 'W10=', patchType: 'JSONPatch' },
  ]) {
    replies['/odd'] = () => reply as Reply;
    messages.push(String((await create('a')).body['message']));
  }
  const [slow, broken, other, patching] = messages;
  assert.match(slow ?? '', /context deadline exceeded$/);
  assert.match(broken ?? '', /the server is currently unable to handle the request$/);
  assert.match(
    other ?? '',
    /received invalid webhook response: expected response.uid=".*", got "x"$/,
  );
  assert.match(patching ?? '', /validating webhook may not return response.patch$/);
  await server.call('DELETE', `${GROUP}/validatingwebhookconfigurations/w-odd`);
  await register(
    'validating',
    '/alien',
    {},
    { caBundle: undefined, url: `https://127.0.0.1:${port}/alien` },
  );
  assert.match(
    String((await create('a')).body['message']),
    /certificate signed by unknown authority$/,
  );
});

test('dry run asks only webhooks without side effects', async () => {
  await register('validating', '/dry', { sideEffects: 'NoneOnDryRun' });
  assert.equal((await create('a', {}, '?dryRun=All')).code, 201);
  assert.equal(seen[0]?.review.request.dryRun, true);
});

test('selectors and conditions decide who is asked', async () => {
  await register('validating', '/labelled', { objectSelector: { matchLabels: { check: 'yes' } } });
  await register('validating', '/conditional', {
    matchConditions: [{ name: 'c', expression: "object.metadata.name == 'b'" }],
  });
  await register('validating', '/elsewhere', {
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'other' } },
  });
  await create('a', { labels: { check: 'yes' } });
  await create('b');
  assert.deepEqual(
    seen.map(({ path }) => path),
    ['/labelled', '/conditional'],
  );
});

test('a service is found by its endpoints and trusted by its name', async () => {
  const client = { service: { namespace: 'default', name: 'hooks', path: '/svc' } };
  await register('validating', '/svc', {}, client);
  const missing = String((await create('a')).body['message']);
  assert.match(
    missing,
    /Post "https:\/\/hooks\.default\.svc:443\/svc\?timeout=1s": service "hooks" not found$/,
  );
  await server.call('POST', '/api/v1/namespaces/default/services', {
    metadata: { name: 'hooks' },
    spec: { ports: [{ port: 443, targetPort: port }] },
  });
  await server.call('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
    metadata: { name: 'hooks-1', labels: { 'kubernetes.io/service-name': 'hooks' } },
    addressType: 'IPv4',
    ports: [{ name: '', port }],
    endpoints: [{ addresses: [defaultAddress()] }],
  });
  const answer = await create('a');
  assert.equal(answer.code, 201, answer.text);
  assert.equal(seen.at(-1)?.path, '/svc');
});

test('configurations of webhooks are never sent to webhooks', async () => {
  const everything = { apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'] };
  await register('validating', '/all', { rules: [everything] });
  replies['/all'] = () => ({ allowed: false });
  const refused = await server.call('POST', '/api/v1/namespaces', { metadata: { name: 'n' } });
  assert.equal(refused.code, 400);
  const path = `${GROUP}/validatingwebhookconfigurations/w-all`;
  assert.equal((await server.call('DELETE', path)).code, 200);
});

test('the audit log says which webhook changed what', async () => {
  const patch = [{ op: 'add', path: '/data', value: { by: 'hook' } }];
  replies['/audited'] = () => ({
    allowed: true,
    patchType: 'JSONPatch',
    patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
    auditAnnotations: { why: 'because' },
  });
  await register('mutating', '/audited');
  const maps = '/api/v1/namespaces/default/configmaps';
  await server.call('POST', maps, { metadata: { name: 'audited' } });
  const annotations: Record<string, string> = {};
  await until('the record', () => {
    const lines = readFileSync(join(directory, 'audit.log'), 'utf8').trim().split('\n');
    for (const line of lines) Object.assign(annotations, JSON.parse(line || '{}').annotations);
    return 'audited.example.com/why' in annotations;
  });
  const who = { configuration: 'w-audited', webhook: 'audited.example.com' };
  const place = 'webhook.admission.k8s.io/round_0_index_0';
  assert.equal(annotations[`mutation.${place}`], JSON.stringify({ ...who, mutated: true }));
  assert.deepEqual(JSON.parse(annotations[`patch.${place}`] ?? ''), {
    ...who,
    patch,
    patchType: 'JSONPatch',
  });
  assert.equal(annotations['audited.example.com/why'], 'because');
});
