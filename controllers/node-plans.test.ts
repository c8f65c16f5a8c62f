import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, Taint, Toleration } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { overlaps, parseRange, rangeText, splitRange } from '#controllers/ip-range.ts';
import { planNodeRanges } from '#controllers/node-ipam-controller.ts';
import { addsEviction, type NodeWorld, planNode } from '#controllers/node-lifecycle-plan.ts';
import { type PodGcWorld, planPodGc } from '#controllers/pod-gc-controller.ts';
import { planTaintEviction } from '#controllers/taint-eviction-controller.ts';

const NOW = Date.parse('2026-01-01T00:10:00Z');

function node(
  name: string,
  options: { ready?: string; taints?: Taint[]; podCIDR?: string } = {},
): Node {
  const { ready, taints = [], podCIDR } = options;
  return {
    metadata: { name, resourceVersion: '5' },
    spec: { taints, ...(podCIDR ? { podCIDR, podCIDRs: [podCIDR] } : {}) },
    status: { conditions: ready ? [{ type: 'Ready', status: ready }] : [] },
  };
}

function pod(
  name: string,
  options: Partial<Pod['metadata']> & { tolerations?: Toleration[] } = {},
): Pod {
  const { tolerations, ...metadata } = options;
  return {
    metadata: { name, namespace: 'd', uid: name, ...metadata },
    spec: { nodeName: 'n', containers: [], ...(tolerations ? { tolerations } : {}) },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

const patches = (actions: readonly Action[]): unknown[] =>
  actions.flatMap((action) => (action.type === 'patch' ? [action.patch.body] : []));
const types = (actions: readonly Action[]): string[] => actions.map((action) => action.type);

test('ranges: parse, print, split, overlap', () => {
  assert.equal(rangeText(parseRange('10.244.7.9/16')), '10.244.0.0/16');
  assert.equal(rangeText(parseRange('fd00:10:244::/56')), 'fd00:10:244::/56');
  const parts = [...splitRange(parseRange('10.0.0.0/23'), 24)].map(rangeText);
  assert.deepEqual(parts, ['10.0.0.0/24', '10.0.1.0/24']);
  assert.ok(overlaps(parseRange('10.0.0.0/23'), parseRange('10.0.1.0/24')));
  assert.ok(!overlaps(parseRange('10.0.0.0/24'), parseRange('10.0.1.0/24')));
  for (const bad of ['10.0.0.0', '10.0.0.0/33', 'web/24', '']) {
    assert.throws(() => parseRange(bad), /is not an address range/);
  }
});

test('each node gets the lowest free range; a used-up range is told', () => {
  const ranges = [parseRange('10.244.0.0/22')];
  const all = [node('b'), node('c', { podCIDR: '10.244.1.0/24' }), node('a'), node('e'), node('d')];
  const { actions } = planNodeRanges({ nodes: all, ranges });
  assert.deepEqual(patches(actions), [
    { spec: { podCIDR: '10.244.0.0/24', podCIDRs: ['10.244.0.0/24'] } },
    { spec: { podCIDR: '10.244.2.0/24', podCIDRs: ['10.244.2.0/24'] } },
    { spec: { podCIDR: '10.244.3.0/24', podCIDRs: ['10.244.3.0/24'] } },
  ]);
  const last = actions.at(-1);
  assert.ok(last?.type === 'event' && last.note.message.includes('Node e'));
});

function world(of: Node, options: Partial<NodeWorld> = {}): NodeWorld {
  return {
    node: of,
    heardMs: NOW,
    gracePeriodMs: 40_000,
    pods: [],
    allAreDown: false,
    evictionInMs: 0,
    ...options,
  };
}

test('a node that speaks is looked at again when its grace would end', () => {
  const plan = planNode(world(node('n', { ready: 'True' })), NOW);
  assert.deepEqual(plan, { actions: [], requeueAfterMs: 40_001 });
});

test('a silent node becomes Unknown and its pods not ready', () => {
  const silent = world(node('n', { ready: 'True' }), {
    heardMs: NOW - 40_001,
    pods: [pod('a'), pod('b')],
  });
  const { actions } = planNode(silent, NOW);
  assert.deepEqual(types(actions), ['updateStatus', 'event', 'together']);
  const [update] = actions;
  assert.ok(update?.type === 'updateStatus');
  const { conditions } = (update.object as Node).status ?? {};
  assert.deepEqual(
    conditions?.map((c) => [c.type, c.status, c.reason]),
    [
      ['Ready', 'Unknown', 'NodeStatusUnknown'],
      ['MemoryPressure', 'Unknown', 'NodeStatusNeverUpdated'],
      ['DiskPressure', 'Unknown', 'NodeStatusNeverUpdated'],
      ['PIDPressure', 'Unknown', 'NodeStatusNeverUpdated'],
    ],
  );
});

test('taints follow the conditions, and leave those of others alone', () => {
  const own: Taint = { key: 'dedicated', value: 'db', effect: 'NoSchedule' };
  const names = (of: Node, options: Partial<NodeWorld> = {}): string[] => {
    const [body] = patches(planNode(world(of, options), NOW).actions);
    const { taints = [] } = (body as { spec?: { taints?: Taint[] } } | undefined)?.spec ?? {};
    return taints.map((taint) => `${taint.key.split('/').at(-1)}:${taint.effect}`);
  };
  const down = node('n', { ready: 'False', taints: [own] });
  assert.deepEqual(names(down), [
    'dedicated:NoSchedule',
    'not-ready:NoSchedule',
    'not-ready:NoExecute',
  ]);
  assert.deepEqual(names(down, { allAreDown: true }), [
    'dedicated:NoSchedule',
    'not-ready:NoSchedule',
  ]);
  const dark = node('n', { ready: 'Unknown' });
  assert.deepEqual(names(dark), ['unreachable:NoSchedule', 'unreachable:NoExecute']);
  const notReady: Taint = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' };
  assert.deepEqual(names(node('n', { ready: 'True', taints: [own, notReady] })), [
    'dedicated:NoSchedule',
  ]);
});

test('one node at a time is given up', () => {
  const down = node('n', { ready: 'False' });
  const soon = planNode(world(down, { evictionInMs: 4000 }), NOW);
  assert.equal(addsEviction(soon.actions, down), false);
  assert.equal(soon.requeueAfterMs, 4000);
  assert.equal(addsEviction(planNode(world(down), NOW).actions, down), true);
});

test('NoExecute evicts at once, after tolerationSeconds, or never', () => {
  const timeAdded = '2026-01-01T00:09:00Z';
  const taint: Taint = { key: 'node.kubernetes.io/not-ready', effect: 'NoExecute', timeAdded };
  const tainted = node('n', { taints: [taint] });
  const tolerates = (seconds?: number): Toleration => ({
    key: taint.key,
    operator: 'Exists',
    effect: 'NoExecute',
    ...(seconds === undefined ? {} : { tolerationSeconds: seconds }),
  });
  const plan = (...tolerations: Toleration[]) =>
    planTaintEviction({ pod: pod('p', { tolerations }), node: tainted }, NOW);
  assert.deepEqual(types(plan().actions), ['event', 'patch', 'delete']);
  assert.deepEqual(plan(tolerates(300)), { actions: [], requeueAfterMs: 240_000 });
  assert.deepEqual(types(plan(tolerates(60)).actions), ['event', 'patch', 'delete']);
  assert.deepEqual(plan(tolerates()), { actions: [] });
});

test('pods of vanished nodes are failed and removed; the oldest surplus of ended pods goes', () => {
  const gc = (w: PodGcWorld): readonly Action[] => planPodGc(w, NOW).actions;
  const lost = gc({ type: 'pod', pod: pod('p'), node: 'gone' });
  assert.deepEqual(types(lost), ['patch', 'delete']);
  const deletion = lost[1];
  assert.ok(deletion?.type === 'delete' && deletion.gracePeriodSeconds === 0);
  assert.deepEqual(gc({ type: 'pod', pod: pod('p'), node: node('n') }), []);
  const ended = [3, 1, 2].map(
    (minute): Pod => ({
      ...pod(`p${minute}`, { creationTimestamp: `2026-01-01T00:0${minute}:00Z` }),
      status: { phase: 'Succeeded' },
    }),
  );
  const [batch] = gc({ type: 'terminated', pods: [...ended, pod('runs')], threshold: 1 });
  assert.ok(batch?.type === 'together');
  assert.deepEqual(
    batch.actions.map((a) => a.type === 'delete' && a.key.name),
    ['p1', 'p2'],
  );
});
