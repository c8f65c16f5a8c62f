import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, test } from 'node:test';
import { readCertificate } from '#base/x509.ts';
import { createRequest, readRequest } from '#base/x509-request.ts';
import { isOld } from '#apiserver/certificates/keeper.ts';
import { SIGNERS } from '#apiserver/certificates/signers.ts';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

const REQUESTS = '/apis/certificates.k8s.io/v1/certificatesigningrequests';
const CLIENT = ['digital signature', 'key encipherment', 'client auth'];
const SERVING = ['digital signature', 'server auth'];

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

type Parsed = {
  status: {
    certificate?: string;
    conditions?: { type: string; reason: string; message: string; lastUpdateTime?: string }[];
  };
};

async function ask(
  name: string,
  signerName: string,
  facts: Parameters<typeof createRequest>[0],
  options: { usages?: string[]; as?: string; groups?: string; seconds?: number } = {},
): Promise<number> {
  const { requestPem } = await createRequest(facts);
  const { usages = CLIENT, as, groups, seconds } = options;
  const body = {
    metadata: { name },
    spec: {
      signerName,
      usages,
      request: Buffer.from(requestPem).toString('base64'),
      ...(seconds ? { expirationSeconds: seconds } : {}),
    },
  };
  const headers = {
    ...(as ? { 'impersonate-user': as } : {}),
    ...(groups ? { 'impersonate-group': groups } : {}),
  };
  return (await server.call('POST', REQUESTS, body, headers)).code;
}

const decide = (name: string, type: 'Approved' | 'Denied') =>
  server.call(
    'PATCH',
    `${REQUESTS}/${name}/approval`,
    { status: { conditions: [{ type, status: 'True', reason: 'Test', message: 'by a test' }] } },
    { 'content-type': 'application/merge-patch+json' },
  );

/** Waits on a watch until `done` says so. */
async function until(name: string, done: (one: Parsed) => unknown): Promise<Parsed> {
  const { body } = await server.handle({
    method: 'GET',
    url: `${REQUESTS}?watch=true&resourceVersion=0&timeoutSeconds=10&fieldSelector=metadata.name%3D${name}`,
    headers: {},
    body: null,
    signal: AbortSignal.timeout(10_000),
    user: { name: 'admin', groups: ['system:masters'] },
  });
  let text = '';
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString();
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const object = JSON.parse(line).object as Parsed;
      if (done(object)) return object;
    }
  }
  throw new Error(`${name}: the watch ended`);
}

const issued = async (name: string): Promise<string> => {
  const { status } = await until(name, (one) => one.status.certificate);
  return Buffer.from(status.certificate ?? '', 'base64').toString();
};

test('an approved request is signed by the cluster’s authority, as it was asked for', async () => {
  const facts = { commonName: 'jane', organizations: ['dev', 'ops'] };
  const signer = 'kubernetes.io/kube-apiserver-client';
  assert.equal(await ask('jane', signer, facts, { seconds: 7_200 }), 201);
  const approved = await decide('jane', 'Approved');
  assert.equal(approved.code, 200);
  assert.match(approved.text, /"lastUpdateTime":"20/);
  const pem = await issued('jane');
  const certificate = new X509Certificate(pem);
  assert.ok(certificate.verify(new X509Certificate(server.caPem).publicKey));
  assert.equal(certificate.ca, false);
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  const { commonName, organizations, notAfterMs } = readCertificate(pem);
  assert.deepEqual({ commonName, organizations }, facts);
  assert.ok(Math.abs(notAfterMs - Date.now() - 7_200_000) < 60_000);
});

test('what a signer does not sign becomes Failed, what is denied stays as it is', async () => {
  const facts = { commonName: 'x' };
  await ask('wrong', 'kubernetes.io/kube-apiserver-client', facts, { usages: SERVING });
  await decide('wrong', 'Approved');
  const { status } = await until('wrong', (one) => one.status.conditions?.length === 2);
  assert.equal(status.conditions?.[1]?.reason, 'SignerValidationFailed');
  assert.equal(
    status.conditions?.[1]?.message,
    'invalid usage for client certificate: server auth',
  );
  await ask('denied', 'kubernetes.io/kube-apiserver-client', facts);
  await decide('denied', 'Denied');
  await ask('others', 'example.com/signer', facts);
  await decide('others', 'Approved');
  // Requests are handled in order: when this one is signed, those before it were looked at.
  await ask('last', 'kubernetes.io/kube-apiserver-client', facts);
  await decide('last', 'Approved');
  await issued('last');
  for (const name of ['denied', 'others']) {
    const { text } = await server.call('GET', `${REQUESTS}/${name}`);
    assert.equal((JSON.parse(text) as Parsed).status.certificate, undefined);
  }
});

test('a bootstrapping node gets its credentials without a person, nobody else does', async () => {
  const signer = 'kubernetes.io/kube-apiserver-client-kubelet';
  const facts = { commonName: 'system:node:n1', organizations: ['system:nodes'] };
  const bind = (name: string, role: string, group: string) =>
    server.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: group }],
    });
  await bind('bootstrap', 'system:node-bootstrapper', 'system:bootstrappers');
  const approver = 'system:certificates.k8s.io:certificatesigningrequests:nodeclient';
  await bind('approve', approver, 'system:bootstrappers');
  await bind('ask', 'system:node-bootstrapper', 'guests');
  const guest = { as: 'eve', groups: 'guests' };
  assert.equal(await ask('node-guest', signer, facts, guest), 201);
  const bootstrapper = { as: 'system:bootstrap:abcdef', groups: 'system:bootstrappers' };
  assert.equal(await ask('node-n1', signer, facts, bootstrapper), 201);
  const { status } = await until('node-n1', (one) => one.status.certificate);
  assert.equal(status.conditions?.[0]?.reason, 'AutoApproved');
  assert.equal(
    status.conditions?.[0]?.message,
    'Auto approving kubelet client certificate after SubjectAccessReview.',
  );
  const left = JSON.parse((await server.call('GET', `${REQUESTS}/node-guest`)).text) as Parsed;
  assert.equal(left.status.conditions, undefined);
});

test('a node gets a serving certificate for its own name and addresses only', async () => {
  const signer = 'kubernetes.io/kubelet-serving';
  const addresses = [
    { type: 'InternalIP', address: '10.0.0.7' },
    { type: 'InternalIP', address: 'fd00::7' },
    { type: 'Hostname', address: 'n7' },
  ];
  await server.call('POST', '/api/v1/nodes', { metadata: { name: 'n7' }, status: { addresses } });
  const merge = { 'content-type': 'application/merge-patch+json' };
  await server.call('PATCH', '/api/v1/nodes/n7/status', { status: { addresses } }, merge);
  const facts = { commonName: 'system:node:n7', organizations: ['system:nodes'] };
  const own = { ...facts, dnsNames: ['n7'], ipAddresses: ['10.0.0.7', 'fd00:0::7'] };
  const asNode = { as: 'system:node:n7', groups: 'system:nodes', usages: SERVING };
  const asked: [string, Parameters<typeof createRequest>[0], typeof asNode][] = [
    ['address-of-another', { ...own, ipAddresses: ['10.0.0.8'] }, asNode],
    ['name-of-another', { ...own, dnsNames: ['kubernetes'] }, asNode],
    ['another-node', { ...own, commonName: 'system:node:n8' }, asNode],
    ['no-node', own, { ...asNode, as: 'eve', groups: 'system:masters' }],
    ['own', own, asNode],
  ];
  for (const [name, wanted, options] of asked)
    assert.equal(await ask(name, signer, wanted, options), 201, name);
  const pem = await issued('own');
  const { hosts, notAfterMs, notBeforeMs } = readCertificate(pem);
  assert.deepEqual(hosts, ['n7', '10.0.0.7', 'FD00:0:0:0:0:0:0:7']);
  assert.ok(notAfterMs - notBeforeMs > 364 * 86_400_000);
  for (const [name] of asked.slice(0, -1)) {
    const { text } = await server.call('GET', `${REQUESTS}/${name}`);
    assert.equal((JSON.parse(text) as Parsed).status.conditions, undefined, name);
  }
});

test('nobody becomes an administrator by a certificate', async () => {
  const facts = { commonName: 'eve', organizations: ['system:masters'] };
  assert.equal(await ask('root', 'kubernetes.io/kube-apiserver-client', facts), 403);
});

test('each signer has its rules', async () => {
  const check = async (
    signer: string,
    facts: Parameters<typeof createRequest>[0],
    usages: string[],
  ) => {
    const { requestPem } = await createRequest(facts);
    return SIGNERS[`kubernetes.io/${signer}`]?.(await readRequest(requestPem), usages);
  };
  const node = { commonName: 'system:node:a', organizations: ['system:nodes'] };
  const named = { ...node, dnsNames: ['a'] };
  assert.equal(await check('kubelet-serving', named, SERVING), '');
  assert.equal(
    await check('kubelet-serving', node, SERVING),
    'DNS or IP subjectAltName is required',
  );
  assert.equal(
    await check('kubelet-serving', { ...named, commonName: 'a' }, SERVING),
    'subject common name does not begin with system:node:',
  );
  assert.equal(
    await check('kubelet-serving', named, CLIENT),
    'usages did not match [digital signature key encipherment server auth]',
  );
  assert.equal(
    await check('kube-apiserver-client-kubelet', named, CLIENT),
    'DNS subjectAltNames are not allowed',
  );
  assert.equal(
    await check('kube-apiserver-client-kubelet', { commonName: 'system:node:a' }, CLIENT),
    'subject organization is not system:nodes',
  );
});

test('requests go an hour after they are done, or a day after nobody cared', () => {
  const hour = 3_600_000;
  const at = (hours: number): string => new Date(hours * hour).toISOString();
  const request = (type?: string, certificate?: string) => ({
    metadata: { name: 'x', creationTimestamp: at(0) },
    spec: { request: '', signerName: 's', usages: [] },
    status: {
      ...(certificate ? { certificate } : {}),
      conditions: type ? [{ type, status: 'True', lastUpdateTime: at(2) }] : [],
    },
  });
  assert.equal(isOld(request(), 23 * hour), false);
  assert.equal(isOld(request(), 25 * hour), true);
  assert.equal(isOld(request('Denied'), 2.5 * hour), false);
  assert.equal(isOld(request('Denied'), 3.5 * hour), true);
  assert.equal(isOld(request('Approved', 'AA=='), 2.5 * hour), false);
  assert.equal(isOld(request('Approved', 'AA=='), 3.5 * hour), true);
  assert.equal(isOld(request('Approved'), 3.5 * hour), false);
});
