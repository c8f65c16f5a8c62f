import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import type { Node, Pod, PodDisruptionBudget } from '#api/types.ts';
import { decide } from '#scheduler/cycle.ts';
import { pluginsFor } from '#scheduler/plugins.ts';
import { planPreemption, type PreemptionResult } from '#scheduler/preemption.ts';
import { type ClusterSources, podView } from '#scheduler/snapshot.ts';
import { testCluster, testNode, testPod } from '#scheduler/testing.ts';

function preempt(
  pod: Pod,
  nodes: Node[],
  pods: Pod[],
  sources: ClusterSources = {},
): PreemptionResult {
  const cluster = testCluster(nodes, pods, sources);
  const plugins = pluginsFor('pack');
  const options = { random: seededRandom(1), start: { index: 0 } };
  const decision = decide(podView(pod), cluster, plugins, options);
  assert.equal(decision.type, 'unschedulable');
  return planPreemption({
    pod: podView(pod),
    cluster,
    plugins,
    refusals: decision.type === 'unschedulable' ? decision.refusals : new Map(),
    random: options.random,
  });
}

const summary = (result: PreemptionResult): string =>
  result.type === 'none'
    ? result.message
    : `${result.plan.node}: ${result.plan.victims.map((v) => v.pod.metadata.name).join(' ')}`;

test('the least important pod makes room', () => {
  const result = preempt(
    testPod('new', { cpu: '2', priority: 100 }),
    [testNode('a'), testNode('b')],
    [
      testPod('a1', { nodeName: 'a', cpu: '3', priority: 50 }),
      testPod('b1', { nodeName: 'b', cpu: '3', priority: 10 }),
    ],
  );
  assert.equal(summary(result), 'b: b1');
});

test('no more pods go than must', () => {
  const result = preempt(
    testPod('new', { cpu: '1', priority: 100 }),
    [testNode('a')],
    [
      testPod('p1', { nodeName: 'a', cpu: '1', priority: 1 }),
      testPod('p2', { nodeName: 'a', cpu: '1', priority: 2 }),
      testPod('p3', { nodeName: 'a', cpu: '2', priority: 3 }),
    ],
  );
  assert.equal(summary(result), 'a: p1');
});

const budget = (allowed: number, more: object = {}): PodDisruptionBudget => ({
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name: 'guard', namespace: 'default' },
  spec: { selector: { matchLabels: { app: 'db' } } },
  status: {
    disruptionsAllowed: allowed,
    currentHealthy: 1,
    desiredHealthy: 1,
    expectedPods: 1,
    ...more,
  },
});

test('a budget turns the choice to another node, and yields when there is none', () => {
  const nodes = [testNode('a'), testNode('b')];
  const guarded = testPod('db', { nodeName: 'a', cpu: '3', labels: { app: 'db' }, priority: 1 });
  const free = testPod('web', { nodeName: 'b', cpu: '3', priority: 50 });
  const important = testPod('new', { cpu: '2', priority: 100 });
  const choice = (budgets: PodDisruptionBudget[], pods = [guarded, free]): string =>
    summary(preempt(important, nodes.slice(0, pods.length), pods, { budgets: () => budgets }));
  assert.equal(choice([]), 'a: db');
  assert.equal(choice([budget(1)]), 'a: db');
  assert.equal(choice([budget(0)]), 'b: web');
  assert.equal(choice([budget(0, { disruptedPods: { db: '2026-01-01T00:00:00Z' } })]), 'a: db');
  assert.equal(choice([budget(0)], [guarded]), 'a: db');
});

test('guarded pods are given back first', () => {
  const result = preempt(
    testPod('new', { cpu: '2', priority: 100 }),
    [testNode('a')],
    [
      testPod('db', { nodeName: 'a', cpu: '2', labels: { app: 'db' }, priority: 1 }),
      testPod('web', { nodeName: 'a', cpu: '2', priority: 50 }),
    ],
    { budgets: () => [budget(0)] },
  );
  assert.equal(summary(result), 'a: web');
});

test('nobody else goes while victims of the last plan are still going', () => {
  const nodes = [testNode('a'), testNode('b')];
  const pods = [
    testPod('a1', { nodeName: 'a', cpu: '3', priority: 1 }),
    testPod('b1', { nodeName: 'b', cpu: '3', priority: 1 }),
  ];
  const [first] = pods;
  assert.ok(first);
  first.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
  const status = { nominatedNodeName: 'a' };
  const result = preempt(testPod('new', { cpu: '2', priority: 9, status }), nodes, pods);
  assert.match(summary(result), /not eligible due to a terminating pod on the nominated node/);
});

test('equal priority is no victim', () => {
  const result = preempt(
    testPod('new', { cpu: '2', priority: 5 }),
    [testNode('a')],
    [testPod('p1', { nodeName: 'a', cpu: '3', priority: 5 })],
  );
  assert.match(summary(result), /0\/1 nodes are available: 1 No preemption victims found/);
});

test('what is larger than the node is not helped by preemption', () => {
  const result = preempt(
    testPod('new', { cpu: '9', priority: 5 }),
    [testNode('a')],
    [testPod('p1', { nodeName: 'a', cpu: '3' })],
  );
  assert.match(summary(result), /Preemption is not helpful for scheduling/);
});

test('preemptionPolicy Never preempts nobody', () => {
  const result = preempt(
    testPod('new', { cpu: '2', priority: 5, preemptionPolicy: 'Never' }),
    [testNode('a')],
    [testPod('p1', { nodeName: 'a', cpu: '3' })],
  );
  assert.match(summary(result), /not eligible due to preemptionPolicy=Never/);
});
