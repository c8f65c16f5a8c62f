import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import { createRequest } from '#base/x509-request.ts';

/**
 * What a kubelet of 1.36 asks of its API server in a node's life, with a node's rights and no more:
 * every call has to be answered as Kubernetes answers it, so that a real kubelet can serve here.
 */
const NODE = { name: 'system:node:n1', groups: ['system:nodes', 'system:authenticated'] };
const LEASES = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases';
const PODS = '/api/v1/namespaces/default/pods';
let server: TestServer;

before(async () => {
  server = await startTestServer();
  const create = async (path: string, body: object): Promise<void> => {
    const answer = await server.call('POST', path, body);
    assert.ok(answer.code === 201 || answer.code === 409, answer.text);
  };
  // Our own agent may read more than a kubelet does: for the rules of the pod network.
  const bindings = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings';
  await server.call('DELETE', `${bindings}/gantry:node-network`);
  const inDefault = '/api/v1/namespaces/default';
  await create(`${inDefault}/serviceaccounts`, { metadata: { name: 'default' } });
  for (const name of ['used', 'other']) {
    await create(`${inDefault}/secrets`, { metadata: { name } });
    await create(`${inDefault}/configmaps`, { metadata: { name } });
  }
  await create(`${inDefault}/persistentvolumeclaims`, {
    metadata: { name: 'claim' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Mi' } } },
  });
  for (const [name, nodeName] of [
    ['mine', 'n1'],
    ['theirs', 'n2'],
  ]) {
    await create(PODS, {
      metadata: { name },
      spec: {
        nodeName,
        containers: [{ name: 'c', image: 'i', envFrom: [{ configMapRef: { name: 'used' } }] }],
        volumes: [
          { name: 's', secret: { secretName: 'used' } },
          { name: 'p', persistentVolumeClaim: { claimName: 'claim' } },
        ],
      },
    });
  }
});

after(() => server.close());

type Answer = { code: number; text: string; json: Record<string, unknown> };

async function asNode(
  method: string,
  url: string,
  body?: object,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await server.handle({
    method,
    url,
    headers: { 'content-type': 'application/json', 'user-agent': 'kubelet/v1.36.2', ...headers },
    body: body === undefined ? null : Buffer.from(JSON.stringify(body)),
    // A watch ends by itself: timeoutSeconds is in its URL.
    signal: AbortSignal.timeout(10_000),
    user: NODE,
  });
  const chunks: Uint8Array[] = [];
  if (typeof response.body === 'string') chunks.push(Buffer.from(response.body));
  else if (response.body instanceof Uint8Array) chunks.push(response.body);
  else for await (const chunk of response.body) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const json = url.includes('watch=true') || !text.startsWith('{') ? {} : JSON.parse(text);
  return { code: response.status, text, json: json as Record<string, unknown> };
}

async function expects(code: number, ...call: Parameters<typeof asNode>): Promise<Answer> {
  const answer = await asNode(...call);
  assert.equal(answer.code, code, `${call[0]} ${call[1]}: ${answer.text.slice(0, 500)}`);
  return answer;
}

const STRATEGIC = { 'content-type': 'application/strategic-merge-patch+json' };
const MERGE = { 'content-type': 'application/merge-patch+json' };
const watching = (fieldSelector: string): string =>
  `watch=true&timeoutSeconds=1&allowWatchBookmarks=true&fieldSelector=${fieldSelector}`;

test('a node joins: its object, lease, status, CSINode', async () => {
  const labels = { 'kubernetes.io/hostname': 'n1', 'kubernetes.io/os': 'linux' };
  await expects(404, 'GET', '/api/v1/nodes/n1?resourceVersion=0');
  await expects(201, 'POST', '/api/v1/nodes', {
    metadata: {
      name: 'n1',
      labels,
      annotations: { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' },
    },
    spec: { taints: [{ key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' }] },
    status: { capacity: { cpu: '2' } },
  });
  await expects(403, 'POST', '/api/v1/nodes', { metadata: { name: 'n2' } });
  await expects(200, 'GET', '/api/v1/nodes?fieldSelector=metadata.name%3Dn1&resourceVersion=0');
  await expects(200, 'GET', `/api/v1/nodes?${watching('metadata.name%3Dn1')}`);
  await expects(403, 'GET', '/api/v1/nodes/n2');
  const ready = [{ type: 'Ready', status: 'True', reason: 'KubeletReady' }];
  const status = { status: { conditions: ready } };
  await expects(200, 'PATCH', '/api/v1/nodes/n1/status', status, STRATEGIC);
  await expects(200, 'PATCH', '/api/v1/nodes/n1', { metadata: { labels } }, STRATEGIC);
  await expects(403, 'PATCH', '/api/v1/nodes/n1', { spec: { taints: [] } }, MERGE);

  await expects(404, 'GET', `${LEASES}/n1`);
  const lease = {
    metadata: { name: 'n1' },
    spec: { holderIdentity: 'n1', leaseDurationSeconds: 40 },
  };
  const made = await expects(201, 'POST', LEASES, lease);
  await expects(200, 'PUT', `${LEASES}/n1`, made.json);
  await expects(404, 'GET', '/apis/storage.k8s.io/v1/csinodes/n1');
  const csi = { metadata: { name: 'n1' }, spec: { drivers: [] } };
  await expects(201, 'POST', '/apis/storage.k8s.io/v1/csinodes', csi);
  await expects(200, 'GET', '/apis/storage.k8s.io/v1/csinodes/n1');
});

test('it follows what concerns all nodes, and its own pods only', async () => {
  const lists = [
    '/api/v1/services',
    '/apis/node.k8s.io/v1/runtimeclasses',
    '/apis/storage.k8s.io/v1/csidrivers',
  ];
  for (const path of lists) {
    await expects(200, 'GET', `${path}?limit=500&resourceVersion=0`);
    const initial = 'sendInitialEvents=true&resourceVersionMatch=NotOlderThan&';
    await expects(200, 'GET', `${path}?${initial}${watching('')}`);
  }
  await expects(200, 'GET', '/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&resourceVersion=0');
  await expects(200, 'GET', `/api/v1/pods?${watching('spec.nodeName%3Dn1')}`);
  await expects(403, 'GET', '/api/v1/pods');
  await expects(200, 'GET', `${PODS}/mine`);
  await expects(403, 'GET', `${PODS}/theirs`);
  await expects(200, 'GET', '/api');
  await expects(200, 'GET', '/apis');
  await expects(200, 'GET', '/version');
});

test('it reads what its pods refer to, object by object', async () => {
  const at = '/api/v1/namespaces/default';
  for (const kind of ['secrets', 'configmaps']) {
    await expects(200, 'GET', `${at}/${kind}/used`);
    const one = 'metadata.name%3Dused';
    await expects(200, 'GET', `${at}/${kind}?fieldSelector=${one}&limit=500&resourceVersion=0`);
    await expects(200, 'GET', `${at}/${kind}?${watching(one)}`);
    await expects(403, 'GET', `${at}/${kind}/other`);
    await expects(403, 'GET', `${at}/${kind}`);
  }
  await expects(200, 'GET', `${at}/persistentvolumeclaims/claim`);
  await expects(404, 'GET', '/api/v1/persistentvolumes/none');
  await expects(404, 'GET', '/apis/storage.k8s.io/v1/volumeattachments/none');
  await expects(200, 'GET', `${at}/serviceaccounts/default`);
  const pod = (await asNode('GET', `${PODS}/mine`)).json['metadata'] as { uid: string };
  const bound = { apiVersion: 'v1', kind: 'Pod', name: 'mine', uid: pod.uid };
  const token = { spec: { audiences: [], expirationSeconds: 3607, boundObjectRef: bound } };
  await expects(201, 'POST', `${at}/serviceaccounts/default/token`, token);
});

test('it reports on its pods, and ends them', async () => {
  const { uid } = (await asNode('GET', `${PODS}/mine`)).json['metadata'] as { uid: string };
  const condition = { type: 'Ready', status: 'False', reason: 'ContainersNotReady' };
  const status = {
    metadata: { uid },
    status: { conditions: [condition], phase: 'Pending' },
  };
  await expects(200, 'PATCH', `${PODS}/mine/status`, status, STRATEGIC);
  await expects(422, 'PATCH', `${PODS}/mine/status`, { metadata: { uid: 'old' } }, STRATEGIC);
  await expects(403, 'PATCH', `${PODS}/theirs/status`, { status: {} }, STRATEGIC);
  const event = {
    metadata: { name: 'mine.1', namespace: 'default' },
    involvedObject: { kind: 'Pod', name: 'mine', namespace: 'default', uid },
    reason: 'Pulled',
    message: 'm',
    type: 'Normal',
    source: { component: 'kubelet', host: 'n1' },
    firstTimestamp: '2026-01-01T00:00:00Z',
    lastTimestamp: '2026-01-01T00:00:00Z',
    count: 1,
    reportingComponent: 'kubelet',
    reportingInstance: 'n1',
  };
  const events = '/api/v1/namespaces/default/events';
  await expects(201, 'POST', events, event);
  await expects(200, 'PATCH', `${events}/mine.1`, { count: 2 }, STRATEGIC);
  const mirror = {
    metadata: {
      name: 'static-n1',
      annotations: { 'kubernetes.io/config.mirror': 'x', 'kubernetes.io/config.hash': 'x' },
    },
    spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'i' }] },
  };
  const { metadata } = (await asNode('GET', '/api/v1/nodes/n1')).json as {
    metadata: { uid: string };
  };
  const owner = { apiVersion: 'v1', kind: 'Node', name: 'n1', uid: metadata.uid, controller: true };
  const owned = { ...mirror, metadata: { ...mirror.metadata, ownerReferences: [owner] } };
  await expects(201, 'POST', PODS, owned);
  const end = { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0 };
  await expects(200, 'DELETE', `${PODS}/static-n1`, end);
  const other = { ...end, preconditions: { uid: 'old' } };
  await expects(409, 'DELETE', `${PODS}/mine`, other);
  await expects(200, 'DELETE', `${PODS}/mine`, { ...end, preconditions: { uid } });
  await expects(403, 'DELETE', `${PODS}/theirs`, end);
});

test('what it asks about the API server that calls it is allowed', async () => {
  const admin = { verb: 'create', version: 'v1', resource: 'nodes', name: 'n1' };
  const user = 'gantry:apiserver-kubelet-client';
  const subresources = 'proxy stats metrics log checkpoint statusz pods healthz configz'.split(' ');
  for (const subresource of subresources) {
    const resourceAttributes = { ...admin, subresource };
    const spec = { user, groups: ['system:authenticated'], resourceAttributes };
    const path = '/apis/authorization.k8s.io/v1/subjectaccessreviews';
    const { json } = await expects(201, 'POST', path, { spec });
    assert.deepEqual((json['status'] as { allowed?: boolean }).allowed, true, subresource);
  }
});

test('it asks who calls it, and for its certificates', async () => {
  await expects(201, 'POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
    spec: { token: 't' },
  });
  await expects(201, 'POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    spec: { user: 'u', resourceAttributes: { verb: 'get', resource: 'nodes', subresource: 'log' } },
  });
  await expects(201, 'POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {});
  const { requestPem } = await createRequest({
    commonName: 'system:node:n1',
    organizations: ['system:nodes'],
    dnsNames: ['n1'],
  });
  const csrs = '/apis/certificates.k8s.io/v1/certificatesigningrequests';
  await expects(201, 'POST', csrs, {
    metadata: { generateName: 'csr-' },
    spec: {
      request: Buffer.from(requestPem).toString('base64'),
      signerName: 'kubernetes.io/kubelet-serving',
      usages: ['digital signature', 'server auth'],
    },
  });
  await expects(200, 'GET', `${csrs}?${watching('')}`);
});
