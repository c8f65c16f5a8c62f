import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

const SEATS = { maxRequestsInFlight: 40, maxMutatingRequestsInFlight: 20 };
const FLOW = '/apis/flowcontrol.apiserver.k8s.io/v1';

async function ask(server: TestServer, user: string, method: string, path: string, body?: object) {
  const response = await server.handle({
    method,
    url: path,
    headers: { 'content-type': 'application/json' },
    body: body ? Buffer.from(JSON.stringify(body)) : null,
    signal: new AbortController().signal,
    user: { name: user, groups: ['users', 'system:authenticated'] },
  });
  return response;
}

test('a flooding client does not starve the others', async () => {
  const server = await startTestServer(SEATS);
  try {
    await server.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: 'users' },
      roleRef: {
        apiGroup: 'rbac.authorization.k8s.io',
        kind: 'ClusterRole',
        name: 'cluster-admin',
      },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'users' }],
    });
    const maps = '/api/v1/namespaces/default/configmaps';
    let flooding = true;
    const flood = { done: 0, refused: 0 };
    const flooder = async (id: number): Promise<void> => {
      for (let i = 0; flooding; i++) {
        const body = { metadata: { name: `flood-${id}-${i}` } };
        const { status } = await ask(server, 'flood', 'POST', maps, body);
        if (status === 429) {
          flood.refused++;
          await new Promise((resolve) => setImmediate(resolve));
        } else {
          assert.equal(status, 201);
          flood.done++;
        }
      }
    };
    const flooders = Array.from({ length: 1_000 }, (_, id) => flooder(id));
    const between: number[] = [];
    for (let i = 0; i < 30; i++) {
      const before = flood.done;
      const body = { metadata: { name: `alice-${i}` } };
      const { status } = await ask(server, 'alice', 'POST', maps, body);
      assert.equal(status, 201);
      between.push(flood.done - before);
    }
    flooding = false;
    await Promise.all(flooders);
    assert.ok(flood.refused > 0, 'the flood is more than its queues hold');
    assert.ok(flood.done > 100, 'the flood is served, too');
    // Without turns alice would wait behind the whole queue, 300 requests and more.
    const worst = Math.max(...between);
    assert.ok(worst < 150, `alice waited for ${worst} of the flood's requests`);
    const metrics = (await server.call('GET', '/metrics')).text;
    assert.match(
      metrics,
      /apiserver_flowcontrol_rejected_requests_total\{priority_level="global-default",reason="queue-full"\} [1-9]/,
    );
  } finally {
    await server.close();
  }
});

test('requests are answered with the uids of their flow, and 429 as upstream says it', async () => {
  const server = await startTestServer(SEATS);
  try {
    const uidOf = async (path: string): Promise<string> =>
      JSON.parse((await server.call('GET', `${FLOW}/${path}`)).text).metadata.uid;
    const { headers } = await ask(server, 'eve', 'GET', '/version');
    assert.equal(
      headers['x-kubernetes-pf-flowschema-uid'],
      await uidOf('flowschemas/global-default'),
    );
    assert.equal(
      headers['x-kubernetes-pf-prioritylevel-uid'],
      await uidOf('prioritylevelconfigurations/global-default'),
    );
    await server.call('POST', `${FLOW}/prioritylevelconfigurations`, {
      metadata: { name: 'none' },
      spec: {
        type: 'Limited',
        limited: {
          nominalConcurrencyShares: 0,
          borrowingLimitPercent: 0,
          limitResponse: { type: 'Reject' },
        },
      },
    });
    await server.call('POST', `${FLOW}/flowschemas`, {
      metadata: { name: 'banned' },
      spec: {
        matchingPrecedence: 10,
        priorityLevelConfiguration: { name: 'none' },
        rules: [
          {
            subjects: [{ kind: 'User', user: { name: 'mallory' } }],
            nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
          },
        ],
      },
    });
    const refused = await ask(server, 'mallory', 'GET', '/version');
    assert.equal(refused.status, 429);
    assert.equal(refused.headers['retry-after'], '1');
    assert.equal(refused.body, 'Too many requests, please try again later.\n');
    assert.equal(
      refused.headers['x-kubernetes-pf-flowschema-uid'],
      await uidOf('flowschemas/banned'),
    );
  } finally {
    await server.close();
  }
});

/** Waits on a watch until the schema's condition is as said. */
async function condition(server: TestServer, name: string, status: string): Promise<string> {
  const query = `watch=true&timeoutSeconds=10&fieldSelector=metadata.name%3D${name}`;
  const { body } = await server.handle({
    method: 'GET',
    url: `${FLOW}/flowschemas?${query}&resourceVersion=0`,
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
      const { object } = JSON.parse(line);
      const found = object.status?.conditions?.[0];
      if (found?.type === 'Dangling' && found.status === status) return found.message;
    }
  }
  throw new Error('the watch ended');
}

test('mandatory objects come back, changed ones follow, and conditions tell of missing levels', async () => {
  const server = await startTestServer();
  try {
    assert.match(await condition(server, 'global-default', 'False'), /and it exists$/);
    await server.call('POST', `${FLOW}/flowschemas`, {
      metadata: { name: 'lost' },
      spec: { priorityLevelConfiguration: { name: 'nowhere' } },
    });
    assert.equal(
      await condition(server, 'lost', 'True'),
      'This FlowSchema references the PriorityLevelConfiguration object named "nowhere" but there is no such object',
    );
    await server.call('DELETE', `${FLOW}/flowschemas/catch-all`);
    assert.match(await condition(server, 'catch-all', 'False'), /"catch-all" and it exists/);
    const path = `${FLOW}/flowschemas/probes`;
    const probes = JSON.parse((await server.call('GET', path)).text);
    probes.metadata.annotations = { 'apf.kubernetes.io/autoupdate-spec': 'false' };
    probes.spec.matchingPrecedence = 7;
    assert.equal((await server.call('PUT', path, probes)).code, 200);
    await server.call('DELETE', `${FLOW}/flowschemas/exempt`);
    await condition(server, 'exempt', 'False');
    const kept = JSON.parse((await server.call('GET', path)).text);
    assert.equal(kept.spec.matchingPrecedence, 7);
  } finally {
    await server.close();
  }
});
