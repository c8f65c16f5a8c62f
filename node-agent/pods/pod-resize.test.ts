import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, Pod } from '#api/types.ts';
import {
  containerLimits,
  type ContainerLimits,
} from '#node-agent/containers/container-resources.ts';
import {
  type ContainerRecord,
  type PodObservation,
  specHash,
} from '#node-agent/pods/pod-observation.ts';
import { podPlan } from '#node-agent/pods/pod-plan.ts';
import {
  judgeResize,
  reportedAllocation,
  sameAllocation,
  wishOf,
  withAllocation,
} from '#node-agent/pods/pod-resize.ts';
import { podStatus } from '#node-agent/pods/pod-status.ts';
import { featuresOf } from '#node-agent/runtime/containerd.ts';
import { statusPatch } from '#node-agent/pods/status-writer.ts';

const NOW = 1_000_000_000;
const sized = (cpu: string, memory: string): NonNullable<Container['resources']> => ({
  requests: { cpu, memory },
  limits: { cpu, memory },
});

function pod(resources: Container['resources'], of: Partial<Container> = {}): Pod {
  const container = { name: 'a', image: 'img', ...(resources ? { resources } : {}), ...of };
  return {
    metadata: { name: 'web', namespace: 'default', uid: 'u1', generation: 2 },
    spec: { containers: [container] },
    status: { phase: 'Running' },
  };
}

function observe(of: Pod, have: Container['resources'], more: Partial<PodObservation> = {}) {
  const limits = containerLimits({ ...(have ? { resources: have } : {}) });
  const [spec] = of.spec.containers;
  assert.ok(spec);
  const record: ContainerRecord = {
    id: 'a-0',
    name: 'a',
    attempt: 0,
    sandboxId: 's0',
    state: 'running',
    createdAtMs: NOW,
    startedAtMs: NOW,
    finishedAtMs: 0,
    exitCode: 0,
    reason: '',
    message: '',
    imageRef: '',
    hash: specHash(spec),
    restartDelayMs: 0,
    logPath: '',
    limits,
  };
  const observation: PodObservation = {
    pod: of,
    runtime: {
      sandboxes: [{ id: 's0', attempt: 0, ready: true, createdAtMs: NOW, ips: ['10.1.0.2'] }],
      containers: [record],
    },
    now: NOW,
    volumes: { state: 'ready' },
    sandbox: { state: 'absent' },
    images: new Map(),
    startFailures: new Map(),
    hooks: new Map(),
    killing: new Map(),
    probes: new Map([['a-0', { started: true, ready: true }]]),
    stoppedSandboxes: new Set(),
    released: false,
    ...more,
  };
  return observation;
}

test('amounts are compared, not their spelling', () => {
  const same = (a: Container['resources'], b: Container['resources']) =>
    sameAllocation(wishOf(pod(a)), wishOf(pod(b)));
  assert.equal(same(sized('1', '1Gi'), sized('1000m', '1024Mi')), true);
  assert.equal(same(sized('1', '1Gi'), sized('1', '1025Mi')), false);
  assert.equal(same(undefined, {}), true);
  assert.equal(same(undefined, sized('1', '1Gi')), false);
});

test('a pod keeps what it was granted, also for an agent that starts anew', () => {
  const wanted = pod(sized('2', '2Gi'));
  const granted = sized('1', '1Gi');
  wanted.status = { containerStatuses: [{ name: 'a', resources: granted } as never] };
  const allocation = reportedAllocation(wanted);
  assert.deepEqual(withAllocation(wanted, allocation).spec.containers[0]?.resources, granted);
  assert.equal(withAllocation(wanted, wishOf(wanted)), wanted);
  assert.equal(sameAllocation(reportedAllocation(pod(granted)), wishOf(pod(granted))), true);
});

test('a node grants, defers, or refuses', () => {
  const allocatable = new Map([
    ['cpu', 2000],
    ['memory', 4 * 1024 ** 3],
  ]);
  const judge = (cpu: string, memory: string, others: Pod[]) =>
    judgeResize(pod(sized(cpu, memory)), others, allocatable);
  const other = pod(sized('1', '1Gi'));
  assert.equal(judge('2', '4Gi', []), undefined);
  assert.equal(judge('1', '3Gi', [other]), undefined);
  assert.deepEqual(judge('1500m', '1Gi', [other]), {
    reason: 'Deferred',
    message: "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000",
  });
  assert.deepEqual(judge('1500m', '5Gi', [other]), {
    reason: 'Infeasible',
    message: `Node didn't have enough capacity: memory, requested: ${5 * 1024 ** 3}, capacity: ${4 * 1024 ** 3}`,
  });
});

test('the plan resizes in place or by a restart, as the policy of what changes says', () => {
  const small = sized('100m', '64Mi');
  const restartOn = (resourceName: string): Partial<Container> => ({
    resizePolicy: [{ resourceName, restartPolicy: 'RestartContainer' }],
  });
  const cases: [Container['resources'], Partial<Container>, string[]][] = [
    [small, {}, []],
    [sized('200m', '64Mi'), {}, ['resize']],
    [sized('100m', '128Mi'), {}, ['resize']],
    [sized('200m', '64Mi'), restartOn('memory'), ['resize']],
    [sized('100m', '128Mi'), restartOn('memory'), ['kill-container resized']],
    [sized('200m', '64Mi'), restartOn('cpu'), ['kill-container resized']],
    [{ ...small, requests: { cpu: '100m', memory: '1Mi' } }, {}, []],
    [undefined, {}, ['resize']],
  ];
  for (const [wanted, of, expected] of cases) {
    const { steps } = podPlan(observe(pod(wanted, of), small));
    const words = steps.map((s) =>
      s.step === 'kill-container' ? `${s.step} ${s.reason}` : s.step,
    );
    assert.deepEqual(words, expected, JSON.stringify([wanted, of]));
  }
});

test('limits that were sent count, whatever the runtime makes of them; failures wait', () => {
  const wanted = pod(sized('200m', '64Mi'));
  const sent = new Map<string, ContainerLimits>([
    ['a-0', containerLimits({ resources: sized('200m', '64Mi') })],
  ]);
  const at = (resize: PodObservation['resize']) =>
    podPlan(observe(wanted, sized('100m', '64Mi'), { resize }));
  assert.deepEqual(at({ sent }).steps, []);
  const failure = { message: 'busy', retryAtMs: NOW + 10 };
  assert.deepEqual(at({ sent: new Map(), failure }), { steps: [], wakeAtMs: NOW + 10 });
  const due = { message: 'busy', retryAtMs: NOW };
  assert.equal(at({ sent: new Map(), failure: due }).steps[0]?.step, 'resize');
});

test('the next attempt of a resized container waits for no back-off', () => {
  const wanted = pod(sized('200m', '64Mi'));
  const o = observe(wanted, sized('100m', '64Mi'), {
    images: new Map([['a', { attempt: 1, state: 'ready', ref: 'r' }]]),
  });
  const ended = o.runtime.containers.map((c) => ({
    ...c,
    state: 'exited' as const,
    exitCode: 137,
    finishedAtMs: NOW,
    restartDelayMs: 10_000,
  }));
  const after = (containers: ContainerRecord[]) =>
    podPlan({ ...o, runtime: { ...o.runtime, containers } });
  assert.equal(after(ended).steps[0]?.step, 'start-container');
  const same = ended.map((c) => ({
    ...c,
    limits: containerLimits({ resources: sized('200m', '64Mi') }),
  }));
  assert.deepEqual(after(same), { steps: [], wakeAtMs: NOW + 10_000 });
});

test('status: what holds, what was granted, why it waits; conditions go when it is done', () => {
  const host = {
    ips: ['10.0.0.1'],
    runtimeOf: () => ({ name: 'containerd', features: featuresOf('containerd', '1.6.20') }),
  };
  const granted = pod(sized('200m', '64Mi'));
  const reported = { name: 'a', resources: sized('100m', '64Mi') };
  const inFlight = { ...granted, status: { containerStatuses: [reported as never] } };
  const moving = podStatus(observe(inFlight, sized('100m', '64Mi')), host);
  assert.deepEqual(moving.containerStatuses?.[0]?.resources, sized('100m', '64Mi'));
  assert.deepEqual(moving.containerStatuses?.[0]?.allocatedResources, {
    cpu: '200m',
    memory: '64Mi',
  });
  const find = (type: string, { conditions }: typeof moving) =>
    conditions?.find((c) => c.type === type);
  assert.equal(find('PodResizeInProgress', moving)?.status, 'True');
  assert.equal(find('PodResizeInProgress', moving)?.observedGeneration, 2);

  const resize = {
    sent: new Map(),
    pending: { reason: 'Deferred' as const, message: 'later' },
    failure: { message: 'busy', retryAtMs: NOW + 1 },
  };
  const stuck = podStatus(observe(inFlight, sized('100m', '64Mi'), { resize }), host);
  assert.equal(find('PodResizeInProgress', stuck)?.reason, 'Error');
  assert.equal(find('PodResizePending', stuck)?.reason, 'Deferred');
  assert.equal(find('PodResizePending', stuck)?.message, 'later');

  const done = podStatus(observe(granted, sized('200m', '64Mi')), host);
  assert.deepEqual(done.containerStatuses?.[0]?.resources, sized('200m', '64Mi'));
  const patch = statusPatch(stuck, done);
  assert.deepEqual(
    ((patch?.['conditions'] ?? []) as { type: string; $patch?: string }[]).filter((c) => c.$patch),
    [
      { $patch: 'delete', type: 'PodResizePending' },
      { $patch: 'delete', type: 'PodResizeInProgress' },
    ],
  );
});
