import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HorizontalPodAutoscaler, Pod } from '#api/types.ts';
import type { Resource } from '#client/api.ts';
import { deployments } from '#client/resources.ts';
import { emptyHistory, limitReplicas, type ScaleHistory } from '#controllers/autoscaler-limits.ts';
import {
  type AutoscalerWorld,
  planAutoscaler,
  statusAction,
} from '#controllers/autoscaler-plan.ts';
import {
  MetricError,
  type PodUse,
  replicasFor,
  type Uses,
} from '#controllers/autoscaler-replicas.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');
const EARLY = '2026-01-01T00:00:00Z';

type PodOptions = { phase?: string; ready?: boolean; startTime?: string; request?: string | null };

function pod(index: number, options: PodOptions = {}): Pod {
  const { phase = 'Running', ready = true, startTime = EARLY, request = '100m' } = options;
  const resources = request === null ? {} : { requests: { cpu: request } };
  const status = ready ? 'True' : 'False';
  return {
    metadata: { name: `p${index}`, namespace: 'd' },
    spec: { containers: [{ name: 'c', resources }] },
    status: {
      phase,
      startTime,
      conditions: [{ type: 'Ready', status, lastTransitionTime: startTime }],
    },
  };
}

const pods = (count: number, options: PodOptions = {}): Pod[] =>
  Array.from({ length: count }, (_, i) => pod(i, options));

function uses(...milli: (number | undefined)[]): Uses {
  const map = new Map<string, PodUse>();
  for (const [i, amount] of milli.entries()) {
    if (amount !== undefined)
      map.set(`p${i}`, { milli: amount, timestampMs: NOW, windowMs: 15_000 });
  }
  return map;
}

const target = {
  resource: 'cpu',
  wanted: { utilization: 50 },
  tolerance: { up: 0.1, down: 0.1 },
};

const cases: { name: string; pods: Pod[]; uses: Uses; replicas: number }[] = [
  { name: 'twice the target doubles', pods: pods(2), uses: uses(100, 100), replicas: 4 },
  { name: 'half the target halves', pods: pods(4), uses: uses(25, 25, 25, 25), replicas: 2 },
  { name: 'within tolerance nothing moves', pods: pods(3), uses: uses(54, 55, 54), replicas: 3 },
  {
    name: 'a missing pod counts as idle when growing',
    pods: pods(3),
    uses: uses(100, 100, undefined),
    replicas: 4,
  },
  {
    name: 'a missing pod counts as full when shrinking',
    pods: pods(3),
    uses: uses(10, 10, undefined),
    replicas: 3,
  },
  {
    name: 'an unready pod counts as idle when growing',
    pods: [...pods(2), pod(2, { ready: false, startTime: '2026-01-01T00:59:00Z' })],
    uses: uses(150, 150, 500),
    replicas: 6,
  },
  {
    name: 'pods of the past do not count',
    pods: [...pods(2), pod(2, { phase: 'Failed' })],
    uses: uses(100, 100),
    replicas: 4,
  },
];

for (const { name, pods: all, uses: used, replicas } of cases) {
  test(`replicas: ${name}`, () => {
    const answer = replicasFor(all.length, target, { pods: all, uses: used, now: NOW });
    assert.equal(answer.replicas, replicas);
  });
}

test('replicas: an average value needs no requests', () => {
  const all = pods(2, { request: null });
  const average = { ...target, wanted: { averageMilli: 100 } };
  const answer = replicasFor(2, average, { pods: all, uses: uses(150, 150), now: NOW });
  assert.deepEqual(answer, { replicas: 3, averageMilli: 150 });
});

test('replicas: what cannot be judged says why', () => {
  const judge = (all: Pod[], used: Uses) => () =>
    replicasFor(2, target, { pods: all, uses: used, now: NOW });
  assert.throws(judge(pods(2, { request: null }), uses(1, 1)), {
    message: 'missing request for cpu in container c of Pod p0',
  });
  assert.throws(judge([], uses()), MetricError);
  assert.throws(judge(pods(2), uses()), /did not receive metrics for targeted pods/);
});

const base = { min: 1, max: 20, history: emptyHistory, now: NOW, behavior: undefined };

test('limits: without behavior at most double, or four', () => {
  assert.equal(limitReplicas({ ...base, current: 1, desired: 15 }).replicas, 4);
  assert.equal(limitReplicas({ ...base, current: 5, desired: 15 }).replicas, 10);
  const capped = limitReplicas({ ...base, current: 15, desired: 40 });
  assert.deepEqual([capped.replicas, capped.limited?.reason], [20, 'TooManyReplicas']);
});

test('limits: shrinking waits for the highest recommendation of five minutes', () => {
  const history: ScaleHistory = {
    ...emptyHistory,
    recommendations: [{ atMs: NOW - 200_000, replicas: 6 }],
  };
  const held = limitReplicas({ ...base, history, current: 8, desired: 2 });
  assert.deepEqual([held.replicas, held.stabilized?.reason], [6, 'ScaleDownStabilized']);
  const later = limitReplicas({ ...base, history, current: 8, desired: 2, now: NOW + 101_000 });
  assert.equal(later.replicas, 2);
});

test('limits: policies bound the change per period, counting what happened in it', () => {
  const scaleDown = {
    stabilizationWindowSeconds: 0,
    policies: [{ type: 'Pods', value: 2, periodSeconds: 60 }],
  };
  const behavior = { scaleDown };
  const first = limitReplicas({ ...base, behavior, current: 10, desired: 1 });
  assert.deepEqual([first.replicas, first.limited?.reason], [8, 'ScaleDownLimit']);
  const history: ScaleHistory = { ...emptyHistory, downs: [{ atMs: NOW - 30_000, change: 2 }] };
  assert.equal(limitReplicas({ ...base, behavior, history, current: 8, desired: 1 }).replicas, 8);
  const off = { scaleDown: { ...scaleDown, selectPolicy: 'Disabled' } };
  assert.equal(limitReplicas({ ...base, behavior: off, current: 10, desired: 1 }).replicas, 10);
  const up = {
    scaleUp: {
      selectPolicy: 'Min',
      policies: [
        { type: 'Percent', value: 50, periodSeconds: 60 },
        { type: 'Pods', value: 10, periodSeconds: 60 },
      ],
    },
  };
  assert.equal(limitReplicas({ ...base, behavior: up, current: 5, desired: 20 }).replicas, 8);
});

function world(options: Partial<AutoscalerWorld> & { replicas?: number } = {}): AutoscalerWorld {
  const { replicas = 2, ...rest } = options;
  const metric = { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } };
  const autoscaler: HorizontalPodAutoscaler = {
    metadata: { name: 'web', namespace: 'd' },
    spec: {
      scaleTargetRef: { kind: 'Deployment', name: 'web', apiVersion: 'apps/v1' },
      maxReplicas: 10,
      metrics: [{ type: 'Resource', resource: metric }],
    },
  };
  const scale = {
    metadata: { name: 'web' },
    spec: { replicas },
    status: { replicas, selector: 'a=b' },
  };
  return {
    autoscaler,
    target: { resource: deployments as Resource, scale },
    pods: pods(replicas),
    usesOf: () => uses(100, 100),
    readings: [],
    history: emptyHistory,
    ...rest,
  };
}

const conditionsOf = (of: AutoscalerWorld): string[] =>
  planAutoscaler(of, NOW).draft.conditions.map((c) => `${c.type}=${c.status} ${c.reason}`);

test('plan: load grows the target, and says so', () => {
  const plan = planAutoscaler(world(), NOW);
  const [update] = plan.actions;
  assert.ok(update?.type === 'update' && update.subresource === 'scale');
  assert.deepEqual(update.object.spec, { replicas: 4 });
  assert.equal(
    update.announce?.success?.message,
    'New size: 4; reason: cpu resource utilization (percentage of request) above target',
  );
  assert.deepEqual(plan.history.ups, [{ atMs: NOW, change: 2 }]);
  assert.deepEqual(conditionsOf(world()), [
    'AbleToScale=True SucceededRescale',
    'ScalingActive=True ValidMetricFound',
    'ScalingLimited=False DesiredWithinRange',
  ]);
  const [write] = statusAction(world().autoscaler, plan.draft, { now: NOW });
  assert.ok(write?.type === 'updateStatus');
  const { status } = write.object as HorizontalPodAutoscaler;
  assert.equal(status?.desiredReplicas, 4);
  assert.deepEqual(status?.currentMetrics, [
    {
      type: 'Resource',
      resource: { name: 'cpu', current: { averageUtilization: 100, averageValue: '100m' } },
    },
  ]);
});

test('plan: unknown metrics change nothing and are told', () => {
  const broken = world({ usesOf: () => ({ error: 'away' }) });
  const plan = planAutoscaler(broken, NOW);
  assert.deepEqual(
    plan.actions.map((a) => a.type === 'event' && a.note.reason),
    ['FailedGetResourceMetric', 'FailedComputeMetricsReplicas'],
  );
  assert.equal(conditionsOf(broken)[1], 'ScalingActive=False FailedGetResourceMetric');
  assert.equal(plan.draft.desiredReplicas, 2);
});

test('plan: bounds hold without any metric, and zero switches off', () => {
  const above = planAutoscaler(world({ replicas: 30 }), NOW);
  assert.equal(above.draft.desiredReplicas, 10);
  assert.deepEqual(conditionsOf(world({ replicas: 0 })), [
    'AbleToScale=True SucceededGetScale',
    'ScalingActive=False ScalingDisabled',
  ]);
  const missing = world({ target: { error: 'deployments.apps "web" not found' } });
  assert.deepEqual(conditionsOf(missing), ['AbleToScale=False FailedGetScale']);
});
