import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { issueNodeCredentials } from '#apiserver/kubeconfig.ts';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

/** Who may do what, and what subresources do, against a whole server. */
let server: TestServer;

before(async () => {
  server = await startTestServer();
  for (const name of ['default', 'robot']) {
    await created('/api/v1/namespaces/default/serviceaccounts', { metadata: { name } });
  }
});
after(() => server.close());

async function created(path: string, object: unknown): Promise<Record<string, unknown>> {
  const { code, body, text } = await server.call('POST', path, object);
  assert.equal(code, 201, text);
  return body as unknown as Record<string, unknown>;
}

type Answer = { code: number; body: { [field: string]: unknown; message?: string } };

/** A request over TLS, with the client certificate or the headers given. */
function ask(
  path: string,
  options: { headers?: Record<string, string>; cert?: string; key?: string; body?: unknown } = {},
): Promise<Answer> {
  const { headers = {}, cert, key, body } = options;
  return new Promise((resolve, reject) => {
    const request = https.request({
      host: '127.0.0.1',
      port: server.port,
      path,
      method: body === undefined ? 'GET' : 'POST',
      ca: server.caPem,
      headers: { 'content-type': 'application/json', ...headers },
      agent: false,
      ...(cert && key ? { cert, key } : {}),
    });
    request.once('error', reject);
    request.once('response', (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.once('end', () => {
        resolve({ code: response.statusCode ?? 0, body: JSON.parse(text) as Answer['body'] });
      });
    });
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const pkiFile = (name: string): string => readFileSync(join(server.dataDir, 'pki', name), 'utf8');
const REVIEW = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
const namespaces = '/api/v1/namespaces';

async function whoAmI(options: Parameters<typeof ask>[1]): Promise<unknown> {
  const { body } = await ask(REVIEW, { ...options, body: {} });
  return (body['status'] as { userInfo?: { username?: string } } | undefined)?.userInfo?.username;
}

test('client certificates say who; their groups what they may', async () => {
  const admin = { cert: pkiFile('admin.crt'), key: pkiFile('admin.key') };
  assert.equal(await whoAmI(admin), 'kubernetes-admin');
  assert.equal((await ask(namespaces, admin)).code, 200);
  const scheduler = { cert: pkiFile('scheduler.crt'), key: pkiFile('scheduler.key') };
  assert.equal(await whoAmI(scheduler), 'system:kube-scheduler');
  assert.equal((await ask('/api/v1/nodes', scheduler)).code, 200);
  assert.equal((await ask('/api/v1/secrets', scheduler)).code, 403);
});

test('a front proxy vouches for its users, and for nothing without a name', async () => {
  const proxy = { cert: pkiFile('front-proxy-client.crt'), key: pkiFile('front-proxy-client.key') };
  const headers = { 'x-remote-user': 'jane' };
  assert.equal(await whoAmI({ ...proxy, headers }), 'jane');
  assert.equal((await ask(namespaces, proxy)).code, 403);
  assert.equal((await ask(namespaces, { headers })).code, 403);
});

test('nobody, a wrong token, and who may read what', async () => {
  const anonymous = await ask(namespaces);
  assert.equal(anonymous.code, 403);
  assert.equal(
    anonymous.body.message,
    'namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope',
  );
  assert.equal((await ask('/version')).code, 200);
  const wrong = await ask('/version', { headers: { authorization: 'Bearer nonsense' } });
  assert.deepEqual([wrong.code, wrong.body.message], [401, 'Unauthorized']);
});

test('an agent reads the secrets of its own pods only', async () => {
  await created('/api/v1/namespaces/default/secrets', { metadata: { name: 'mine' } });
  await created('/api/v1/namespaces/default/secrets', { metadata: { name: 'other' } });
  await created('/api/v1/namespaces/default/pods', {
    metadata: { name: 'user' },
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'c', image: 'i' }],
      volumes: [{ name: 's', secret: { secretName: 'mine' } }],
    },
  });
  const files = await issueNodeCredentials(server.dataDir, {
    nodeName: 'n1',
    ips: ['127.0.0.1'],
    server: server.url,
    clock: systemClock,
  });
  assert.match(readFileSync(files.kubeconfig, 'utf8'), /system:node:n1/);
  const node = { cert: pkiFile('node-n1-client.crt'), key: pkiFile('node-n1-client.key') };
  assert.equal(await whoAmI(node), 'system:node:n1');
  const secret = (name: string) => ask(`/api/v1/namespaces/default/secrets/${name}`, node);
  assert.equal((await secret('mine')).code, 200);
  const refused = await secret('other');
  assert.equal(refused.code, 403);
  assert.match(
    refused.body.message ?? '',
    /no relationship found between node 'n1' and this object$/,
  );
});

test('a service account: token, rights, reviews', async () => {
  const base = '/apis/rbac.authorization.k8s.io/v1/namespaces/default';
  await created(`${base}/roles`, {
    metadata: { name: 'maps' },
    rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list'] }],
  });
  await created(`${base}/rolebindings`, {
    metadata: { name: 'maps' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'maps' },
    subjects: [{ kind: 'ServiceAccount', name: 'robot', namespace: 'default' }],
  });
  const answer = await created('/api/v1/namespaces/default/serviceaccounts/robot/token', {
    spec: { expirationSeconds: 600 },
  });
  const { token } = answer['status'] as { token: string };
  const headers = { authorization: `Bearer ${token}` };
  const name = 'system:serviceaccount:default:robot';
  assert.equal(await whoAmI({ headers }), name);
  assert.equal((await ask('/api/v1/namespaces/default/configmaps', { headers })).code, 200);
  assert.equal((await ask('/api/v1/namespaces/default/secrets', { headers })).code, 403);

  const resourceAttributes = { namespace: 'default', verb: 'list', resource: 'configmaps' };
  const review = await created('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    spec: { user: name, resourceAttributes },
  });
  assert.deepEqual(review['status'], {
    allowed: true,
    reason:
      'RBAC: allowed by RoleBinding "maps/default" of Role "maps" to ServiceAccount "robot/default"',
  });
  const tokens = '/apis/authentication.k8s.io/v1/tokenreviews';
  const known = (await created(tokens, { spec: { token } }))['status'] as {
    authenticated?: boolean;
    user: { username?: string };
  };
  assert.deepEqual([known.authenticated, known.user.username], [true, name]);
  const unknown = (await created(tokens, { spec: { token: 'x' } }))['status'];
  assert.deepEqual(unknown, { user: {}, error: 'invalid bearer token' });

  await server.call('DELETE', '/api/v1/namespaces/default/serviceaccounts/robot');
  assert.equal((await ask('/version', { headers })).code, 401);
});

test('the issuer’s documents are for who may see them', async () => {
  const keys = await server.call('GET', '/openid/v1/jwks');
  assert.equal(keys.body['keys']?.[0]?.['kty'], 'EC');
  const { body } = await server.call('GET', '/.well-known/openid-configuration');
  assert.equal(body['jwks_uri'], `${server.url}/openid/v1/jwks`);
  assert.equal((await ask('/openid/v1/jwks')).code, 403);
});

test('a binding puts a pod on a node, once', async () => {
  const labels = { 'topology.kubernetes.io/zone': 'z1', other: 'x' };
  await created('/api/v1/nodes', { metadata: { name: 'n2', labels } });
  const pods = '/api/v1/namespaces/default/pods';
  await created(pods, {
    metadata: { name: 'free' },
    spec: { containers: [{ name: 'c', image: 'i' }] },
  });
  const bind = (target: object) =>
    server.call('POST', `${pods}/free/binding`, { metadata: { name: 'free' }, target });
  assert.equal((await bind({ kind: 'Shelf', name: 'n2' })).code, 500);
  const bound = await bind({ kind: 'Node', name: 'n2' });
  assert.deepEqual([bound.code, bound.body['status']], [201, 'Success']);
  const { body: pod } = await server.call('GET', `${pods}/free`);
  assert.equal(pod['spec']?.['nodeName'], 'n2');
  assert.deepEqual(pod['metadata']?.['labels'], { 'topology.kubernetes.io/zone': 'z1' });
  const [condition] = (pod['status']?.['conditions'] ?? []) as { type: string; status: string }[];
  assert.deepEqual([condition?.type, condition?.status], ['PodScheduled', 'True']);
  const again = await bind({ kind: 'Node', name: 'n1' });
  assert.deepEqual(
    [again.code, again.body['message']],
    [
      409,
      'Operation cannot be fulfilled on pods/binding "free": pod free is already assigned to node "n2"',
    ],
  );
});

test('an eviction deletes a pod, gracefully where it runs', async () => {
  const pods = '/api/v1/namespaces/default/pods';
  const evict = (pod: string, name: string) =>
    server.call('POST', `${pods}/${pod}/eviction`, { metadata: { name } });
  assert.equal((await evict('none', 'none')).code, 404);
  assert.equal((await evict('free', 'other')).code, 400);
  assert.equal((await evict('free', 'free')).code, 201);
  const { body: pod } = await server.call('GET', `${pods}/free`);
  assert.ok(pod['metadata']?.['deletionTimestamp']);
  const conditions = (pod['status']?.['conditions'] ?? []) as { type: string; reason?: string }[];
  const target = conditions.find(({ type }) => type === 'DisruptionTarget');
  assert.equal(target?.reason, 'EvictionByEvictionAPI');
});
