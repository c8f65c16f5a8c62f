import assert from 'node:assert/strict';
import { inPhase, sh, testCluster } from '#node-agent/testing-cluster.ts';

/** A node of a cluster that gives its nodes what the Node authorizer does, and no more. */
const BINDING = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gantry:node-network';
const { run, call, create, until, remove } = testCluster({
  foreignNetwork: true,
  prepare: async (server) => assert.equal((await server.call('DELETE', BINDING)).code, 200),
});

run('with the network of a CNI plugin a node is Ready and runs pods', async () => {
  await call('POST', '/api/v1/namespaces/default/configmaps', {
    metadata: { name: 'env' },
    data: { A: 'b' },
  });
  const envFrom = [{ configMapRef: { name: 'env' } }];
  await create('p', {
    restartPolicy: 'Never',
    containers: [sh('echo $A >/dev/termination-log', { envFrom })],
  });
  const { status } = await until('p', (pod) => inPhase('Succeeded')(pod) || inPhase('Failed')(pod));
  assert.equal(status?.containerStatuses?.[0]?.state?.terminated?.message, 'b\n');
  assert.equal(status?.phase, 'Succeeded');
  assert.match(status?.podIP ?? '', /^10\.231\./);
  await remove('p');
});
