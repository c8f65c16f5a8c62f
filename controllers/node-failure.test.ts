import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatMicroTime, formatTime } from '#api/time.ts';
import type { Node, Pod } from '#api/types.ts';
import { leases, nodes, pods } from '#client/resources.ts';
import { nodeLifecycleController } from '#controllers/node-lifecycle-controller.ts';
import { podGcController } from '#controllers/pod-gc-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';
import { taintEvictionController } from '#controllers/taint-eviction-controller.ts';

const controllers = [nodeLifecycleController, taintEvictionController, podGcController];
const leaseKey = (name: string) => ({ namespace: 'kube-node-lease', name });

async function addNode(sim: Simulation, name: string): Promise<void> {
  const time = formatTime(sim.clock.now());
  const ready = {
    type: 'Ready',
    status: 'True',
    lastHeartbeatTime: time,
    lastTransitionTime: time,
  };
  const node: Node = { metadata: { name }, spec: {}, status: { conditions: [ready] } };
  await sim.api.create(nodes, node);
  const renewTime = formatMicroTime(sim.clock.now());
  await sim.api.create(leases, { metadata: leaseKey(name), spec: { renewTime } });
}

async function renew(sim: Simulation, name: string): Promise<void> {
  const body = { spec: { renewTime: formatMicroTime(sim.clock.now()) } };
  await sim.api.patch(leases, leaseKey(name), { type: 'merge', body });
}

async function addPod(sim: Simulation, name: string, tolerationSeconds?: number): Promise<void> {
  const key = 'node.kubernetes.io/unreachable';
  const toleration = { key, operator: 'Exists', effect: 'NoExecute' };
  const tolerations = tolerationSeconds === undefined ? [] : [{ ...toleration, tolerationSeconds }];
  const pod: Pod = {
    metadata: { namespace: 'd', name },
    spec: { nodeName: 'dark', containers: [], tolerations },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  };
  await sim.api.create(pods, pod);
}

const node = (sim: Simulation, name: string): Node | undefined =>
  sim.api.all(nodes).find((one) => one.metadata.name === name);
const readiness = (sim: Simulation, name: string): string | undefined =>
  node(sim, name)?.status?.conditions?.find((c) => c.type === 'Ready')?.status;
const isLeaving = (sim: Simulation, name: string): boolean =>
  sim.api.all(pods).some((p) => p.metadata.name === name && p.metadata.deletionTimestamp);

test('a silent node is noticed after 40 s, tainted, and its pods leave in their time', async () => {
  const sim = simulate({ seed: 1, controllers, runPods: false });
  await addNode(sim, 'light');
  await addNode(sim, 'dark');
  await addPod(sim, 'hasty');
  await addPod(sim, 'patient', 60);
  for (let passed = 0; passed < 60_000; passed += 10_000) {
    await sim.advance(10_000);
    await renew(sim, 'light');
    if (passed < 20_000) await renew(sim, 'dark');
  }
  assert.equal(readiness(sim, 'dark'), 'True');
  assert.equal(readiness(sim, 'light'), 'True');
  await sim.advance(5000);
  assert.equal(readiness(sim, 'dark'), 'Unknown');
  assert.equal(readiness(sim, 'light'), 'True');
  const taints = node(sim, 'dark')?.spec?.taints?.map((t) => t.effect);
  assert.deepEqual(taints, ['NoSchedule', 'NoExecute']);
  assert.equal(isLeaving(sim, 'hasty'), true);
  assert.equal(isLeaving(sim, 'patient'), false);
  for (let passed = 0; passed < 60_000; passed += 10_000) {
    await renew(sim, 'light');
    await sim.advance(10_000);
  }
  assert.equal(isLeaving(sim, 'patient'), true);
  // The node is removed by hand: nobody is left to finish its pods.
  await sim.api.delete(nodes, { name: 'dark' });
  await sim.until(() => sim.api.all(pods).length === 0, 'lost pods removed', 60_000);
  await sim.stop();
});

test('when every node falls silent, none is given up', async () => {
  const sim = simulate({ seed: 2, controllers, runPods: false });
  await addNode(sim, 'light');
  await addNode(sim, 'dark');
  await addPod(sim, 'hasty');
  await sim.advance(60_000);
  assert.deepEqual([readiness(sim, 'light'), readiness(sim, 'dark')], ['Unknown', 'Unknown']);
  await sim.advance(60_000);
  const effects = (name: string) => node(sim, name)?.spec?.taints?.map((t) => t.effect);
  assert.deepEqual(effects('light'), ['NoSchedule']);
  assert.deepEqual(effects('dark'), ['NoSchedule']);
  assert.equal(isLeaving(sim, 'hasty'), false);
  await sim.stop();
});
