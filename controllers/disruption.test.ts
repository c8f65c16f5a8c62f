import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterRole, Pod, PodDisruptionBudget } from '#api/types.ts';
import { planAggregation } from '#controllers/clusterrole-aggregation-controller.ts';
import { planSpared } from '#controllers/disruption-controller.ts';
import { type BudgetWorld, planBudget } from '#controllers/disruption-plan.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');

function pod(name: string, ready = true, going = false): Pod {
  return {
    metadata: {
      name,
      namespace: 'd',
      ...(going ? { deletionTimestamp: '2026-01-01T00:59:00Z' } : {}),
    },
    spec: { containers: [] },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
  };
}

function world(
  spec: NonNullable<PodDisruptionBudget['spec']>,
  pods: Pod[],
  scale: number | undefined = pods.length,
  disruptedPods?: Record<string, string>,
): BudgetWorld {
  const counts = { currentHealthy: 0, desiredHealthy: 0, expectedPods: 0, disruptionsAllowed: 0 };
  const budget: PodDisruptionBudget = {
    metadata: { name: 'b', namespace: 'd', generation: 3 },
    spec: { selector: { matchLabels: { a: 'b' } }, ...spec },
    status: { ...counts, ...(disruptedPods ? { disruptedPods: disruptedPods as never } : {}) },
  };
  return { budget, pods, scale };
}

function statusOf(of: BudgetWorld): NonNullable<PodDisruptionBudget['status']> {
  const [write] = planBudget(of, NOW).actions;
  assert.ok(write?.type === 'updateStatus');
  const { status } = write.object as PodDisruptionBudget;
  assert.ok(status);
  return status;
}

const three = [pod('a'), pod('b'), pod('c')];
const cases: { name: string; of: BudgetWorld; counts: [number, number, number, number] }[] = [
  { name: 'minAvailable as a number', of: world({ minAvailable: 2 }, three), counts: [3, 3, 2, 1] },
  {
    name: 'minAvailable as a share',
    of: world({ minAvailable: '50%' }, three),
    counts: [3, 3, 2, 1],
  },
  {
    name: 'maxUnavailable counts what the controllers want',
    of: world({ maxUnavailable: 1 }, three, 4),
    counts: [4, 3, 3, 0],
  },
  {
    name: 'maxUnavailable as a share is rounded up',
    of: world({ maxUnavailable: '34%' }, three),
    counts: [3, 3, 1, 2],
  },
  {
    name: 'only ready pods that stay are healthy',
    of: world({ minAvailable: 1 }, [pod('a'), pod('b', false), pod('c', true, true)]),
    counts: [3, 1, 1, 0],
  },
  { name: 'no pods', of: world({ minAvailable: 0 }, []), counts: [0, 0, 0, 0] },
  {
    name: 'a pod whose eviction was granted counts as gone',
    of: world({ minAvailable: 1 }, three, 3, { a: '2026-01-01T00:59:00Z' }),
    counts: [3, 2, 1, 1],
  },
  {
    name: 'an eviction that never came counts no more',
    of: world({ minAvailable: 1 }, three, 3, { a: '2026-01-01T00:50:00Z' }),
    counts: [3, 3, 1, 2],
  },
];
for (const { name, of, counts } of cases) {
  test(`budget: ${name}`, () => {
    const status = statusOf(of);
    const { expectedPods, currentHealthy, desiredHealthy, disruptionsAllowed } = status;
    assert.deepEqual([expectedPods, currentHealthy, desiredHealthy, disruptionsAllowed], counts);
    assert.equal(status.observedGeneration, 3);
    const [condition] = status.conditions ?? [];
    const reason = (disruptionsAllowed ?? 0) > 0 ? 'SufficientPods' : 'InsufficientPods';
    assert.deepEqual([condition?.type, condition?.reason], ['DisruptionAllowed', reason]);
    const again = { ...of, budget: { ...of.budget, status } };
    assert.deepEqual(
      planBudget(again, NOW + 1).actions.filter((action) => action.type === 'updateStatus'),
      [],
    );
  });
}

test('budget: unknown controllers allow nothing', () => {
  const status = statusOf({ ...world({ maxUnavailable: 1 }, three), scale: undefined });
  assert.equal(status.disruptionsAllowed, 0);
  assert.equal(status.conditions?.[0]?.reason, 'SyncFailed');
});

test('a granted eviction is looked at again when it is overdue', () => {
  const of = world({ minAvailable: 1 }, three, 3, { a: '2026-01-01T00:59:00Z' });
  assert.equal(planBudget(of, NOW).requeueAfterMs, 60_000);
});

test('a pod that was spared says so after two minutes', () => {
  const target = {
    type: 'DisruptionTarget',
    status: 'True',
    lastTransitionTime: '2026-01-01T00:59:00Z',
  };
  const spared = { ...pod('a'), status: { conditions: [target] } };
  assert.equal(planSpared(spared, NOW).requeueAfterMs, 60_000);
  const [patch] = planSpared(spared, NOW + 60_000).actions;
  assert.ok(patch?.type === 'patch' && patch.subresource === 'status');
  assert.match(JSON.stringify(patch.patch.body), /"status":"False"/);
});

test('an aggregated role has the rules of those it picks, each once', () => {
  const rule = (resource: string) => ({ apiGroups: [''], resources: [resource], verbs: ['get'] });
  const role = (name: string, resources: string[], labels = {}): ClusterRole => ({
    metadata: { name, labels },
    rules: resources.map(rule),
  });
  const all = [
    role('z', ['pods', 'nodes'], { to: 'all' }),
    role('a', ['pods'], { to: 'all' }),
    role('other', ['secrets']),
  ];
  const whole: ClusterRole = {
    metadata: { name: 'whole', labels: { to: 'all' } },
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { to: 'all' } }] },
  };
  const [update] = planAggregation({ role: whole, all: [...all, whole] }).actions;
  assert.ok(update?.type === 'update');
  const { rules } = update.object as ClusterRole;
  assert.deepEqual(rules, [rule('pods'), rule('nodes')]);
  const settled = { ...whole, rules: rules ?? [] };
  assert.deepEqual(planAggregation({ role: settled, all: [...all, settled] }).actions, []);
});
