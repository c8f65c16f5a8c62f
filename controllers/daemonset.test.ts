import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import type { DaemonSet, Node, Pod } from '#api/types.ts';
import { controllerRevisions, daemonSets, nodes, pods } from '#client/resources.ts';
import { daemonSetController } from '#controllers/daemonset-controller.ts';
import { daemonPod, judgeNode, targetNode } from '#controllers/daemonset-pods.ts';
import { isReady } from '#controllers/pods.ts';
import { type Simulation, type SimulationOptions, simulate } from '#controllers/simulation.ts';

const key = { namespace: 'd', name: 'agent' };

function agent(spec: Record<string, unknown> = {}, image = 'v1', pod = {}): DaemonSet {
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { ...key },
    spec: {
      selector: { matchLabels: { app: 'agent' } },
      template: {
        metadata: { labels: { app: 'agent' } },
        spec: { containers: [{ name: 'c', image }], ...pod },
      },
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } },
      revisionHistoryLimit: 1,
      ...spec,
    },
  };
}

function node(name: string, spec: Node['spec'] = {}, labels: Record<string, string> = {}): Node {
  return { metadata: { name, labels }, spec };
}

async function start(
  seed: number,
  count: number,
  options: Partial<SimulationOptions> = {},
): Promise<Simulation> {
  const sim = simulate({ seed, controllers: [daemonSetController], ...options });
  for (let i = 0; i < count; i++) await sim.api.create(nodes, node(`n${i}`));
  return sim;
}

const current = ({ api }: Simulation): DaemonSet => {
  const [set] = api.all(daemonSets);
  assert.ok(set);
  return set;
};
const live = ({ api }: Simulation): Pod[] =>
  api.all(pods).filter((pod) => !pod.metadata.deletionTimestamp);
const imageOf = (pod: Pod): string => pod.spec.containers[0]?.image ?? '';
const setImage = (sim: Simulation, image: string): Promise<unknown> =>
  sim.api.patch(daemonSets, key, {
    type: 'merge',
    body: { spec: { template: agent({}, image).spec?.template } },
  });
const isSettled = (sim: Simulation, count: number) => (): boolean => {
  const { status, metadata } = current(sim);
  return (
    status?.observedGeneration === metadata.generation &&
    status?.desiredNumberScheduled === count &&
    status.currentNumberScheduled === count &&
    status.numberAvailable === count &&
    (status.updatedNumberScheduled ?? 0) === count &&
    status.numberMisscheduled === 0 &&
    sim.api.all(pods).length === count
  );
};

const NO_EXECUTE = { key: 'a', value: 'b', effect: 'NoExecute' };
const verdicts: { name: string; pod?: object; node: Node; runs: boolean; stays: boolean }[] = [
  { name: 'a plain node', node: node('n'), runs: true, stays: true },
  {
    name: 'a cordoned node',
    node: node('n', {
      taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }],
    }),
    runs: true,
    stays: true,
  },
  {
    name: 'a NoSchedule taint',
    node: node('n', { taints: [{ key: 'a', effect: 'NoSchedule' }] }),
    runs: false,
    stays: true,
  },
  {
    name: 'a NoExecute taint',
    node: node('n', { taints: [NO_EXECUTE] }),
    runs: false,
    stays: false,
  },
  {
    name: 'a taint that is tolerated',
    pod: { tolerations: [{ key: 'a', operator: 'Exists' }] },
    node: node('n', { taints: [NO_EXECUTE] }),
    runs: true,
    stays: true,
  },
  {
    name: 'a lost network without hostNetwork',
    node: node('n', {
      taints: [{ key: 'node.kubernetes.io/network-unavailable', effect: 'NoSchedule' }],
    }),
    runs: false,
    stays: true,
  },
  {
    name: 'a node without the label',
    pod: { nodeSelector: { disk: 'ssd' } },
    node: node('n'),
    runs: false,
    stays: false,
  },
  {
    name: 'a node with the label',
    pod: { nodeSelector: { disk: 'ssd' } },
    node: node('n', {}, { disk: 'ssd' }),
    runs: true,
    stays: true,
  },
  { name: 'another node name', pod: { nodeName: 'm' }, node: node('n'), runs: false, stays: false },
];
for (const { name, pod, node: place, runs, stays } of verdicts) {
  test(`eligible: ${name}`, () => {
    const verdict = judgeNode(agent({}, 'v1', pod), place);
    assert.deepEqual(verdict, { shouldRun: runs, mayStay: stays });
  });
}

test('the pod is aimed at its node, beside the affinity of the template', () => {
  const affinity = {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [
          { matchExpressions: [{ key: 'x', operator: 'Exists' }] },
          { matchExpressions: [{ key: 'y', operator: 'Exists' }] },
        ],
      },
    },
  };
  const pod = daemonPod(agent({}, 'v1', { affinity }), 'n1', 'h');
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const matchFields = [{ key: 'metadata.name', operator: 'In', values: ['n1'] }];
  assert.deepEqual(
    required?.nodeSelectorTerms.map((term) => term.matchFields),
    [matchFields, matchFields],
  );
  assert.equal(required?.nodeSelectorTerms[1]?.matchExpressions?.[0]?.key, 'y');
  assert.equal(targetNode(pod), 'n1');
  assert.equal(pod.metadata.labels?.['controller-revision-hash'], 'h');
  assert.equal(pod.spec.tolerations?.length, 6);
});

test('each node gets one, also new ones, and failed ones are replaced', async () => {
  const sim = await start(1, 3);
  await sim.api.create(daemonSets, agent());
  await sim.until(isSettled(sim, 3), 'three daemons');
  await sim.api.create(nodes, node('n3'));
  await sim.until(isSettled(sim, 4), 'four daemons');
  assert.deepEqual(live(sim).map(targetNode).sort(), ['n0', 'n1', 'n2', 'n3']);
  const [victim] = live(sim);
  const name = { namespace: 'd', name: victim?.metadata.name ?? '' };
  const failed = { status: { phase: 'Failed', conditions: [] } };
  await sim.api.patch(pods, name, { type: 'merge', body: failed }, { subresource: 'status' });
  await sim.until(
    () => live(sim).every((pod) => pod.metadata.uid !== victim?.metadata.uid),
    'the failed one gone',
  );
  await sim.until(isSettled(sim, 4), 'four daemons again');
  assert.ok(sim.said.some((said) => said.startsWith('Warning FailedDaemonPod Found failed')));
  await sim.stop();
});

test('a node that no longer qualifies loses its daemon', async () => {
  const sim = await start(2, 2);
  await sim.api.create(daemonSets, agent());
  await sim.until(isSettled(sim, 2), 'two daemons');
  const taints = { type: 'merge', body: { spec: { taints: [NO_EXECUTE] } } } as const;
  await sim.api.patch(nodes, { name: 'n0' }, taints);
  await sim.until(isSettled(sim, 1), 'one daemon');
  assert.deepEqual(live(sim).map(targetNode), ['n1']);
  await sim.stop();
});

test('OnDelete replaces only what the user deletes', async () => {
  const sim = await start(3, 2);
  await sim.api.create(daemonSets, agent({ updateStrategy: { type: 'OnDelete' } }));
  await sim.until(isSettled(sim, 2), 'v1');
  await setImage(sim, 'v2');
  await sim.advance(20_000);
  assert.deepEqual(live(sim).map(imageOf), ['v1', 'v1']);
  const [victim] = live(sim);
  await sim.api.delete(pods, { namespace: 'd', name: victim?.metadata.name ?? '' });
  await sim.until(() => live(sim).map(imageOf).sort().join() === 'v1,v2', 'one of each');
  await sim.until(() => current(sim).status?.updatedNumberScheduled === 1, 'counted');
  await sim.stop();
});

test('a rollback leaves the pods that never changed alone', async () => {
  const sim = await start(4, 4, { becomesReady: (pod) => imageOf(pod) !== 'broken' });
  await sim.api.create(daemonSets, agent());
  await sim.until(isSettled(sim, 4), 'v1');
  const before = new Set(live(sim).map((pod) => pod.metadata.uid));
  await setImage(sim, 'broken');
  await sim.until(() => live(sim).some((pod) => imageOf(pod) === 'broken'), 'one broken');
  await sim.advance(20_000);
  await setImage(sim, 'v1');
  await sim.until(isSettled(sim, 4), 'v1 again');
  const kept = live(sim).filter((pod) => before.has(pod.metadata.uid)).length;
  assert.equal(kept, 3);
  const numbers = sim.api.all(controllerRevisions).map(({ revision }) => revision);
  assert.deepEqual(
    numbers.sort((a, b) => a - b),
    [2, 3],
  );
  await sim.stop();
});

for (let seed = 11; seed <= 18; seed++) {
  test(`a rollout keeps within its bounds (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const count = 3 + randomInt(random, 4);
    const bound = 1 + randomInt(random, 2);
    const surges = random() < 0.5;
    const rollingUpdate = surges
      ? { maxSurge: bound, maxUnavailable: 0 }
      : { maxSurge: 0, maxUnavailable: bound };
    const updateStrategy = { type: 'RollingUpdate', rollingUpdate };
    const sim = await start(seed, count);
    await sim.api.create(daemonSets, agent({ updateStrategy, minReadySeconds: 1 }));
    await sim.until(isSettled(sim, count), 'v1');
    let fewest = count;
    let most = count;
    sim.api.onCommit(({ resource }) => {
      if (resource.resource !== 'pods') return;
      fewest = Math.min(fewest, new Set(live(sim).filter(isReady).map(targetNode)).size);
      most = Math.max(most, live(sim).length);
    });
    await setImage(sim, 'v2');
    await sim.until(isSettled(sim, count), 'v2', 300_000);
    assert.ok(fewest >= count - (surges ? 0 : bound), `${fewest} ready of ${count}`);
    assert.ok(most <= count + (surges ? bound : 0), `${most} pods for ${count} nodes`);
    await sim.stop();
  });
}
