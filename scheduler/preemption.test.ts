import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import type { Node, Pod } from '#api/types.ts';
import { decide } from '#scheduler/cycle.ts';
import { pluginsFor } from '#scheduler/plugins.ts';
import { planPreemption, type PreemptionResult } from '#scheduler/preemption.ts';
import { podView } from '#scheduler/snapshot.ts';
import { testCluster, testNode, testPod } from '#scheduler/testing.ts';

function preempt(pod: Pod, nodes: Node[], pods: Pod[]): PreemptionResult {
  const cluster = testCluster(nodes, pods);
  const plugins = pluginsFor('pack');
  const options = { random: seededRandom(1), start: { index: 0 } };
  const decision = decide(podView(pod), cluster, plugins, options);
  assert.equal(decision.type, 'unschedulable');
  return planPreemption(
    podView(pod),
    cluster,
    plugins,
    decision.type === 'unschedulable' ? decision.refusals : new Map(),
  );
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
