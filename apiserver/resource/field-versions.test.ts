import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

/** Fields of one object, owned in several versions of its kind. */

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const MERGE = { 'content-type': 'application/merge-patch+json' };
const APPLY = { 'content-type': 'application/apply-patch+yaml' };
const path = (version: string, name: string): string =>
  `/apis/autoscaling/${version}/namespaces/default/horizontalpodautoscalers/${name}`;
const target = (averageUtilization: number) => [
  {
    type: 'Resource',
    resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization } },
  },
];

async function applied(name: string): Promise<void> {
  const answer = await server.call(
    'PATCH',
    `${path('v2', name)}?fieldManager=a`,
    {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name },
      spec: {
        minReplicas: 2,
        maxReplicas: 5,
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'd' },
        metrics: target(50),
      },
    },
    APPLY,
  );
  assert.equal(answer.code, 201, answer.text);
}

test('a change in one version is taken from owners in the other', async () => {
  await applied('x');
  const patch = { spec: { targetCPUUtilizationPercentage: 70 } };
  const changed = await server.call('PATCH', path('v1', 'x'), patch, MERGE);
  assert.equal(changed.code, 200, changed.text);
  const object = JSON.parse((await server.call('GET', path('v2', 'x'))).text);
  const of = (manager: string) =>
    object.metadata.managedFields.find((one: { manager: string }) => one.manager === manager);
  assert.deepEqual(Object.keys(of('a').fieldsV1['f:spec']).sort(), [
    'f:maxReplicas',
    'f:minReplicas',
    'f:scaleTargetRef',
  ]);
  assert.equal(object.spec.metrics[0].resource.target.averageUtilization, 70);
});

test('an apply in one version conflicts with an owner in the other', async () => {
  await applied('y');
  const config = {
    apiVersion: 'autoscaling/v1',
    kind: 'HorizontalPodAutoscaler',
    metadata: { name: 'y' },
    spec: { targetCPUUtilizationPercentage: 70 },
  };
  const call = (force: string) =>
    server.call('PATCH', `${path('v1', 'y')}?fieldManager=b${force}`, config, APPLY);
  const refused = await call('');
  assert.equal(refused.code, 409, refused.text);
  assert.match(refused.text, /conflict with \\"a\\": \.spec\.metrics/);
  assert.equal((await call('&force=true')).code, 200);
});
