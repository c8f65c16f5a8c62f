import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { readMetrics } from '#controllers/autoscaler-custom-metrics.ts';
import { judgeValue, type Reading, type Situation } from '#controllers/autoscaler-values.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');

const pods = (count: number, ready = count): Pod[] =>
  Array.from({ length: count }, (_, i) => ({
    metadata: { name: `p${i}`, namespace: 'd' },
    spec: { containers: [{ name: 'c' }] },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: i < ready ? 'True' : 'False' }],
    },
  }));

const situation = (count: number, ready = count): Situation => ({
  current: count,
  statusReplicas: count,
  pods: pods(count, ready),
  tolerance: { up: 0.1, down: 0.1 },
  now: NOW,
});

const metric = { name: 'hits' };
const service = { kind: 'Service', name: 'web', apiVersion: 'v1' };
const each = (averageValue: string) => ({ type: 'AverageValue', averageValue });
const whole = (value: string) => ({ type: 'Value', value });
const ofPods = (target: ReturnType<typeof each>) => ({ type: 'Pods', pods: { metric, target } });
const ofObject = (target: { type: string }) => ({
  type: 'Object',
  object: { metric, target, describedObject: service },
});
const external = (target: { type: string }) => ({ type: 'External', external: { metric, target } });

const perPod = (...milli: number[]): Reading => ({
  uses: new Map(milli.map((m, i) => [`p${i}`, { milli: m, timestampMs: NOW, windowMs: 60_000 }])),
});

type Case = {
  name: string;
  spec: Parameters<typeof judgeValue>[0];
  reading: Reading;
  at: Situation;
  replicas: number;
  status: unknown;
};

const cases: Case[] = [
  {
    name: 'pods: the average over the target',
    spec: ofPods(each('10')),
    reading: perPod(20_000, 30_000),
    at: situation(2),
    replicas: 5,
    status: { type: 'Pods', pods: { metric, current: { averageValue: '25' } } },
  },
  {
    name: 'pods: an unmeasured pod counts as idle when growing',
    spec: ofPods(each('10')),
    reading: perPod(20_000, 20_000),
    at: situation(3),
    replicas: 4,
    status: { type: 'Pods', pods: { metric, current: { averageValue: '20' } } },
  },
  {
    name: 'object: a total is shared by the ready pods',
    spec: ofObject(whole('100')),
    reading: { milli: 200_000 },
    at: situation(4, 3),
    replicas: 6,
    status: {
      type: 'Object',
      object: { metric, describedObject: service, current: { value: '200' } },
    },
  },
  {
    name: 'object: within tolerance nothing moves',
    spec: ofObject(whole('100')),
    reading: { milli: 105_000 },
    at: situation(4, 1),
    replicas: 4,
    status: {
      type: 'Object',
      object: { metric, describedObject: service, current: { value: '105' } },
    },
  },
  {
    name: 'external: an amount for each pod',
    spec: external(each('50')),
    reading: { milli: 330_000 },
    at: situation(2),
    replicas: 7,
    status: { type: 'External', external: { metric, current: { averageValue: '165' } } },
  },
  {
    name: 'external: a total grows even what is scaled to zero',
    spec: external(whole('100')),
    reading: { milli: 250_000 },
    at: situation(0),
    replicas: 3,
    status: { type: 'External', external: { metric, current: { value: '250' } } },
  },
];

for (const { name, spec, reading, at, replicas, status } of cases) {
  test(`values: ${name}`, () => {
    const answer = judgeValue(spec, reading, at);
    assert.ok(answer && 'replicas' in answer, JSON.stringify(answer));
    assert.equal(answer.replicas, replicas);
    assert.deepEqual(answer.status, status);
  });
}

test('values: what cannot be read is named', () => {
  const reasons = [ofPods(each('1')), ofObject(whole('1')), external(whole('1'))].map((spec) =>
    judgeValue(spec, { error: 'away' }, situation(1)),
  );
  assert.deepEqual(reasons, [
    {
      reason: 'FailedGetPodsMetric',
      message: 'failed to get pods metric value: unable to get metric hits: away',
    },
    {
      reason: 'FailedGetObjectMetric',
      message: 'failed to get object metric value: unable to get metric hits: on Service.web: away',
    },
    {
      reason: 'FailedGetExternalMetric',
      message: 'failed to get hits external metric value: unable to get external metric hits: away',
    },
  ]);
  const resource = { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization' } } };
  assert.equal(judgeValue(resource, undefined, situation(1)), undefined);
});

test('reading: adapters are asked at the addresses that they serve', async () => {
  const asked: string[] = [];
  const answers = (path: string): unknown => {
    if (path === '/apis/custom.metrics.k8s.io') return { versions: [{ version: 'v1beta1' }] };
    if (path.includes('/gone')) return { items: [] };
    if (path.includes('external')) return { items: [{ value: '3' }, { value: '1500m' }] };
    return { items: [{ describedObject: { name: 'p0' }, value: '7' }] };
  };
  const api = {
    async raw(path: string) {
      asked.push(path);
      return Buffer.from(JSON.stringify(answers(path)));
    },
  } as unknown as Api;
  const selected = { name: 'hits', selector: { matchLabels: { verb: 'GET' } } };
  const ingress = { kind: 'Ingress', name: 'main', apiVersion: 'networking.k8s.io/v1' };
  const specs = [
    { type: 'Pods', pods: { metric: selected, target: each('1') } },
    { type: 'Object', object: { metric, target: whole('1'), describedObject: ingress } },
    {
      type: 'Object',
      object: {
        metric,
        target: whole('1'),
        describedObject: { kind: 'Namespace', name: 'd', apiVersion: 'v1' },
      },
    },
    { type: 'External', external: { metric: selected, target: whole('1') } },
    { type: 'External', external: { metric: { name: 'gone' }, target: whole('1') } },
  ];
  const readings = await readMetrics(api, specs, {
    namespace: 'd',
    selector: 'app=web',
    signal: new AbortController().signal,
    kindNamed: async (group) => ({
      group,
      version: 'v1',
      resource: 'ingresses',
      kind: 'Ingress',
      namespaced: true,
    }),
  });
  assert.deepEqual(asked.filter((path) => path.includes('/v1beta1/')).sort(), [
    '/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/ingresses.networking.k8s.io/main/hits',
    '/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/metrics/hits',
    '/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/pods/*/hits?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET',
    '/apis/external.metrics.k8s.io/v1beta1/namespaces/d/gone',
    '/apis/external.metrics.k8s.io/v1beta1/namespaces/d/hits?labelSelector=verb%3DGET',
  ]);
  const milli = readings.map((one) => one && ('milli' in one ? one.milli : Object.keys(one)[0]));
  assert.deepEqual(milli, ['uses', 7000, 7000, 4500, 'error']);
});
