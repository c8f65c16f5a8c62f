import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';

/** A node of a cluster that gives its nodes what the Node authorizer does, and no more. */
const skip = missingForTestRuntime() ?? false;
let server: TestServer;
let node: TestNode;

before(async () => {
  if (skip) return;
  server = await startTestServer();
  const bindings = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings';
  assert.equal((await server.call('DELETE', `${bindings}/gantry:node-network`)).code, 200);
  const user = { name: 'system:node:n1', groups: ['system:nodes', 'system:authenticated'] };
  const api = createApi(inProcessTransport(server.handle, user), { userAgent: 'kubelet' });
  node = await startTestNode({ api, foreignNetwork: true });
});

after(async () => {
  if (skip) return;
  await node.close();
  await server.close();
});

test('with the network of a CNI plugin a node is Ready and runs pods', {
  skip,
  timeout: 60_000,
}, async () => {
  const at = '/api/v1/namespaces/default';
  await server.call('POST', `${at}/serviceaccounts`, { metadata: { name: 'default' } });
  await server.call('POST', `${at}/configmaps`, { metadata: { name: 'env' }, data: { A: 'b' } });
  const answer = await server.call('POST', `${at}/pods`, {
    metadata: { name: 'p' },
    spec: {
      nodeName: 'n1',
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'main',
          image: TEST_IMAGE,
          command: ['sh', '-c', 'echo $A >/dev/termination-log'],
          envFrom: [{ configMapRef: { name: 'env' } }],
        },
      ],
    },
  });
  assert.equal(answer.code, 201, answer.text);
  for (;;) {
    const { body } = await server.call('GET', `${at}/pods/p`);
    const { status } = body as unknown as Pod;
    if (status?.phase === 'Succeeded') {
      assert.match(status.podIP ?? '', /^10\.231\./);
      assert.equal(status.containerStatuses?.[0]?.state?.terminated?.message, 'b\n');
      break;
    }
    assert.notEqual(status?.phase, 'Failed');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal((await server.call('DELETE', `${at}/pods/p`)).code, 200);
  while ((await server.call('GET', `${at}/pods/p`)).code !== 404)
    await new Promise((resolve) => setTimeout(resolve, 50));
});
