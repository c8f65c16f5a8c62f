import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failure } from '#api/status.ts';
import type { ReplicationController } from '#api/types.ts';
import { pods, replicationControllers } from '#client/resources.ts';
import { replicationController } from '#controllers/replication-controller.ts';
import { simulate } from '#controllers/simulation.ts';

const key = { namespace: 'd', name: 'old' };

function old(replicas: number): ReplicationController {
  const labels = { app: 'old' };
  const spec = { containers: [{ name: 'c', image: 'i' }] };
  return {
    metadata: { ...key },
    spec: { replicas, selector: labels, template: { metadata: { labels }, spec } },
  };
}

test('pods are kept, adopted and owned by the controller; the status says so', async () => {
  const sim = simulate({ seed: 1, controllers: [replicationController] });
  const status = () => sim.api.all(replicationControllers)[0]?.status;
  const spec = { containers: [] };
  const metadata = { namespace: 'd', name: 'orphan', labels: { app: 'old' } };
  await sim.api.create(pods, { metadata, spec });
  await sim.api.create(replicationControllers, old(3));
  await sim.until(() => status()?.readyReplicas === 3, 'three pods');
  const owners = sim.api.all(pods).map((pod) => pod.metadata.ownerReferences?.[0]);
  assert.ok(owners.every((one) => one?.kind === 'ReplicationController'));
  assert.ok(owners.every((one) => one?.apiVersion === 'v1' && one.controller));
  await sim.api.patch(replicationControllers, key, {
    type: 'merge',
    body: { spec: { replicas: 1 } },
  });
  await sim.until(() => sim.api.all(pods).length === 1, 'one pod');
  await sim.until(() => status()?.replicas === 1 && status()?.observedGeneration === 2, 'counted');
  assert.ok(!('terminatingReplicas' in (status() ?? {})));
  await sim.stop();
});

test('a quota shows as ReplicaFailure until it is lifted', async () => {
  const sim = simulate({ seed: 2, controllers: [replicationController] });
  let isFull = true;
  sim.api.onWrite((verb, resource) => {
    if (isFull && verb === 'create' && resource.resource === 'pods') {
      throw failure(403, 'Forbidden', 'exceeded quota');
    }
  });
  const conditions = () => sim.api.all(replicationControllers)[0]?.status?.conditions ?? [];
  await sim.api.create(replicationControllers, old(1));
  await sim.until(() => conditions()[0]?.reason === 'FailedCreate', 'the failure');
  isFull = false;
  await sim.until(() => conditions().length === 0, 'no failure');
  assert.equal(sim.api.all(pods).length, 1);
  await sim.stop();
});
