import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Container, ContainerStatus, Pod } from '#api/types.ts';
import {
  type ContainerRecord,
  nextRestartDelayMs,
  type PodObservation,
  podContainers,
  restartAtMs,
  restarts,
  specHash,
} from '#node-agent/pods/pod-observation.ts';
import { podPlan, type PodStep } from '#node-agent/pods/pod-plan.ts';
import { podStatus } from '#node-agent/pods/pod-status.ts';
import { featuresOf } from '#node-agent/runtime/containerd.ts';

const NOW = 1_000_000_000;
const host = {
  ips: ['10.0.0.1'],
  runtimeOf: () => ({ name: 'containerd', features: featuresOf('containerd', '1.6.20') }),
};

function pod(spec: Partial<Pod['spec']> = {}, status: Pod['status'] = {}): Pod {
  return {
    metadata: { name: 'web', namespace: 'default', uid: 'u1', generation: 1 },
    spec: { containers: [{ name: 'a', image: 'img' }], ...spec },
    status,
  };
}

function observe(of: Partial<PodObservation> = {}): PodObservation {
  return {
    pod: pod(),
    runtime: { sandboxes: [], containers: [] },
    now: NOW,
    volumes: { state: 'ready' },
    sandbox: { state: 'absent' },
    images: new Map(),
    startFailures: new Map(),
    hooks: new Map(),
    killing: new Map(),
    probes: new Map(),
    stoppedSandboxes: new Set(),
    released: false,
    ...of,
  };
}

const sandbox = { id: 's0', attempt: 0, ready: true, createdAtMs: NOW, ips: ['10.1.0.2'] };

function record(name: string, of: Partial<ContainerRecord> = {}): ContainerRecord {
  const attempt = of.attempt ?? 0;
  return {
    id: `${name}-${attempt}`,
    name,
    attempt,
    sandboxId: 's0',
    state: 'running',
    createdAtMs: NOW - 1000,
    startedAtMs: NOW - 1000,
    finishedAtMs: of.state === 'exited' ? NOW : 0,
    exitCode: 0,
    reason: '',
    message: '',
    imageRef: 'sha256:1',
    hash: specHash({ name, image: 'img' }),
    restartDelayMs: 0,
    logPath: '',
    ...of,
  };
}

const ready = (attempt = 0) => ({ attempt, state: 'ready', ref: 'sha256:1' }) as const;
const names = (steps: readonly PodStep[]): string[] =>
  steps.map((s) =>
    s.step === 'start-container' || s.step === 'pull-image'
      ? `${s.step} ${s.container.spec.name} ${s.attempt}`
      : s.step === 'kill-container'
        ? `kill ${s.record.name} ${s.reason}`
        : s.step,
  );
const plan = (of: Partial<PodObservation>): string[] => names(podPlan(observe(of)).steps);

test('a new pod gets volumes, sandbox and image side by side, then its container', () => {
  assert.deepEqual(plan({ volumes: { state: 'absent' } }), [
    'create-sandbox',
    'mount-volumes',
    'pull-image a 0',
  ]);
  const runtime = { sandboxes: [sandbox], containers: [] };
  assert.deepEqual(
    plan({ runtime, images: new Map([['a', { attempt: 0, state: 'pulling' }]]) }),
    [],
  );
  assert.deepEqual(plan({ runtime, images: new Map([['a', ready()]]) }), ['start-container a 0']);
  assert.deepEqual(plan({ runtime: { sandboxes: [sandbox], containers: [record('a')] } }), []);
});

test('a sandbox that could not be made is tried again when its time comes', () => {
  const failure = { state: 'failed', reason: 'r', message: 'm', retryAtMs: NOW + 5 } as const;
  const images = new Map([['a', ready()]]);
  const waiting = podPlan(observe({ sandbox: failure, images }));
  assert.deepEqual(waiting, { steps: [], wakeAtMs: NOW + 5 });
  assert.deepEqual(plan({ sandbox: failure, images, now: NOW + 5 }), ['create-sandbox']);
});

test('crash back-off: at once, 10 s, 20 s … 300 s, forgotten after ten minutes of running', () => {
  const delays: number[] = [];
  let last: ContainerRecord | undefined;
  for (let attempt = 0; attempt < 9; attempt++) {
    const restartDelayMs = nextRestartDelayMs(last);
    last = record('a', { attempt, state: 'exited', restartDelayMs });
    delays.push(restartAtMs(last) - last.finishedAtMs);
  }
  assert.deepEqual(
    delays.map((ms) => ms / 1000),
    [0, 10, 20, 40, 80, 160, 300, 300, 300],
  );
  const long = record('a', {
    state: 'exited',
    restartDelayMs: 300_000,
    startedAtMs: NOW - 600_000,
  });
  assert.equal(restartAtMs(long), NOW);
  assert.equal(nextRestartDelayMs(long), 10_000);

  const runtime = {
    sandboxes: [sandbox],
    containers: [record('a', { attempt: 3, state: 'exited', exitCode: 1, restartDelayMs: 40_000 })],
  };
  const images = new Map([['a', ready(4)]]);
  assert.deepEqual(podPlan(observe({ runtime, images })), { steps: [], wakeAtMs: NOW + 40_000 });
  assert.deepEqual(plan({ runtime, images, now: NOW + 40_000 }), ['start-container a 4']);
  const status = podStatus(observe({ runtime, images }), host);
  assert.equal(status.phase, 'Running');
  const [container] = status.containerStatuses ?? [];
  assert.equal(container?.state?.waiting?.reason, 'CrashLoopBackOff');
  assert.equal(
    container?.state?.waiting?.message,
    'back-off 40s restarting failed container=a pod=web_default(u1)',
  );
  assert.equal(container?.lastState?.terminated?.exitCode, 1);
  assert.equal(container?.restartCount, 3);
});

test('init containers run in order; a sidecar only has to start', () => {
  const p = pod({
    initContainers: [
      { name: 'i1', image: 'img' },
      { name: 'side', image: 'img', restartPolicy: 'Always' },
      { name: 'i2', image: 'img' },
    ],
  });
  const images = new Map(['i1', 'side', 'i2', 'a'].map((name) => [name, ready()] as const));
  const at = (containers: ContainerRecord[], of: Partial<PodObservation> = {}): string[] =>
    plan({ pod: p, images, runtime: { sandboxes: [sandbox], containers }, ...of });
  const i1 = record('i1', { state: 'exited' });
  const side = record('side');
  const up = new Map([[side.id, { started: true, ready: true }]]);
  assert.deepEqual(at([]), ['start-container i1 0']);
  assert.deepEqual(at([record('i1')]), []);
  assert.deepEqual(at([i1]), ['start-container side 0']);
  assert.deepEqual(at([side, i1]), [], 'waits for the sidecar to have started');
  assert.deepEqual(at([side, i1], { probes: up }), ['start-container i2 0']);
  const i2 = record('i2', { state: 'exited' });
  assert.deepEqual(at([i2, side, i1], { probes: up }), ['start-container a 0']);
  assert.deepEqual(at([record('a'), i2, side, i1], { probes: up }), []);
  const dead = record('side', { state: 'exited', exitCode: 3 });
  assert.deepEqual(
    at([record('a'), i2, dead, i1], { images: new Map([['side', ready(1)]]) }),
    ['start-container side 1'],
    'a sidecar is kept alive beside the main containers',
  );
});

test('a failed init container ends a pod that never restarts', () => {
  const p = pod({ restartPolicy: 'Never', initContainers: [{ name: 'i', image: 'img' }] });
  const o = observe({
    pod: p,
    runtime: { sandboxes: [sandbox], containers: [record('i', { state: 'exited', exitCode: 2 })] },
  });
  assert.deepEqual(names(podPlan(o).steps), ['stop-sandbox']);
  const status = podStatus(o, host);
  assert.equal(status.phase, 'Failed');
  assert.equal(status.initContainerStatuses?.[0]?.state?.terminated?.exitCode, 2);
});

test('deletion kills main containers, then sidecars from the last, then the rest', () => {
  const p = pod({
    initContainers: [
      { name: 's1', image: 'img', restartPolicy: 'Always' },
      { name: 's2', image: 'img', restartPolicy: 'Always' },
    ],
  });
  const order = { cause: 'deleted', sinceMs: NOW, graceSeconds: 5 } as const;
  const at = (containers: ContainerRecord[], of: Partial<PodObservation> = {}): string[] =>
    plan({ pod: p, order, runtime: { sandboxes: [sandbox], containers }, ...of });
  const main = record('a');
  const [s1, s2] = [record('s1'), record('s2')];
  assert.deepEqual(at([main, s2, s1]), ['kill a stopping']);
  const killing = new Map([[main.id, { deadlineMs: NOW + 5000 }]]);
  assert.deepEqual(at([main, s2, s1], { killing }), []);
  assert.deepEqual(
    at([main, s2, s1], { killing, order: { ...order, graceSeconds: 0 } }),
    ['kill a stopping'],
    'a shorter grace overtakes',
  );
  const ended = record('a', { state: 'exited', exitCode: 143 });
  assert.deepEqual(at([ended, s2, s1]), ['kill s2 stopping']);
  const s2Ended = record('s2', { state: 'exited' });
  assert.deepEqual(at([ended, s2Ended, s1]), ['kill s1 stopping']);
  const all = [ended, s2Ended, record('s1', { state: 'exited' })];
  assert.deepEqual(at(all), ['stop-sandbox']);
  const runtime = { sandboxes: [{ ...sandbox, ready: false }], containers: all };
  const stopped = { pod: p, order, runtime, stoppedSandboxes: new Set(['s0']) };
  assert.deepEqual(plan(stopped), ['release']);
  assert.deepEqual(plan({ ...stopped, released: true }), ['delete-object']);
  const removed = { ...order, cause: 'removed' } as const;
  assert.deepEqual(plan({ ...stopped, order: removed, released: true }), ['remove-sandbox']);
  const gone = { sandboxes: [], containers: [] };
  assert.deepEqual(plan({ ...stopped, order: removed, released: true, runtime: gone }), ['forget']);
});

test('probes and hooks ask for restarts; a changed image too', () => {
  const main = record('a');
  const runtime = { sandboxes: [sandbox], containers: [main] };
  const failed = new Map([[main.id, { started: true, ready: true, failed: 'liveness' as const }]]);
  assert.deepEqual(plan({ runtime, probes: failed }), ['kill a liveness']);
  const hooks = new Map([[main.id, { state: 'failed', message: 'x' } as const]]);
  assert.deepEqual(plan({ runtime, hooks }), ['kill a postStart']);
  const other = pod({ containers: [{ name: 'a', image: 'img:2' }] });
  assert.deepEqual(plan({ runtime, pod: other }), ['kill a changed']);
  const ended = {
    sandboxes: [sandbox],
    containers: [record('a', { state: 'exited', restartDelayMs: 10_000 })],
  };
  assert.deepEqual(
    plan({ runtime: ended, pod: other, images: new Map([['a', ready(1)]]) }),
    ['start-container a 1'],
    'the new image does not wait for the back-off of the old one',
  );
});

test('a dead sandbox is cleaned up and replaced, its containers counted on', () => {
  const dead = { ...sandbox, ready: false };
  const left = record('a');
  assert.deepEqual(plan({ runtime: { sandboxes: [dead], containers: [left] } }), [
    'kill a sandbox-gone',
  ]);
  const ended = record('a', { state: 'exited', exitCode: 137 });
  const runtime = { sandboxes: [dead], containers: [ended] };
  assert.deepEqual(plan({ runtime }), ['stop-sandbox']);
  const images = new Map([['a', ready(1)]]);
  const steps = podPlan(observe({ runtime, images, stoppedSandboxes: new Set(['s0']) })).steps;
  assert.deepEqual(steps, [{ step: 'create-sandbox', attempt: 1 }]);
  const next = { ...sandbox, id: 's1', attempt: 1 };
  assert.deepEqual(plan({ images, runtime: { sandboxes: [next, dead], containers: [ended] } }), [
    'start-container a 1',
  ]);
});

test('a container the runtime forgot goes on by its reported count and policy', () => {
  const reported = {
    name: 'a',
    image: 'img',
    imageID: 'x',
    ready: true,
    restartCount: 4,
    containerID: 'containerd://gone',
    state: { running: {} },
  };
  const status = { phase: 'Running', containerStatuses: [reported] };
  assert.deepEqual(
    plan({
      pod: pod({}, status),
      runtime: { sandboxes: [sandbox], containers: [] },
      images: new Map([['a', ready(5)]]),
    }),
    ['start-container a 5'],
  );
  const never = observe({ pod: pod({ restartPolicy: 'Never' }, status) });
  assert.deepEqual(names(podPlan(never).steps), ['release']);
  const after = podStatus(never, host);
  assert.equal(after.phase, 'Failed');
  const [container] = after.containerStatuses ?? [];
  assert.equal(container?.state?.terminated?.reason, 'ContainerStatusUnknown');
});

test('activeDeadlineSeconds ends the pod as Failed', () => {
  const p = pod(
    { activeDeadlineSeconds: 10 },
    { startTime: new Date(NOW).toISOString(), phase: 'Running' },
  );
  const runtime = { sandboxes: [sandbox], containers: [record('a')] };
  assert.equal(podPlan(observe({ pod: p, runtime })).wakeAtMs, NOW + 10_000);
  const late = observe({ pod: p, runtime, now: NOW + 10_000 });
  assert.deepEqual(names(podPlan(late).steps), ['kill a stopping']);
  const status = podStatus(late, host);
  assert.equal(status.phase, 'Failed');
  assert.equal(status.reason, 'DeadlineExceeded');
});

test('restart policies by container and rules', () => {
  const container = (spec: Partial<Container>) =>
    ({ kind: 'main', spec: { name: 'a', ...spec } }) as const;
  const never = pod({ restartPolicy: 'Never' });
  const rules = [{ action: 'Restart', exitCodes: { operator: 'In', values: [42] } }];
  assert.equal(restarts(never, container({}), 1), false);
  assert.equal(restarts(never, container({ restartPolicyRules: rules }), 42), true);
  assert.equal(restarts(never, container({ restartPolicyRules: rules }), 1), false);
  assert.equal(restarts(pod({ restartPolicy: 'OnFailure' }), container({}), 0), false);
  assert.equal(restarts(pod(), container({}), 0), true);
});

// ---- property -----------------------------------------------------------------------------------

type World = { o: PodObservation; policy: string };

/** Does to the world what a worker would have done, with chance in between. */
function act(o: PodObservation, step: PodStep, random: () => number): PodObservation {
  const { sandboxes, containers } = o.runtime;
  const change = (id: string, of: Partial<ContainerRecord>): PodObservation => ({
    ...o,
    runtime: { sandboxes, containers: containers.map((c) => (c.id === id ? { ...c, ...of } : c)) },
  });
  switch (step.step) {
    case 'mount-volumes':
      return { ...o, volumes: { state: 'ready' } };
    case 'create-sandbox': {
      assert.ok(
        sandboxes.every((s) => !s.ready),
        'never two living sandboxes',
      );
      const made = { ...sandbox, id: `s${step.attempt}`, attempt: step.attempt };
      return { ...o, runtime: { containers, sandboxes: [made, ...sandboxes] } };
    }
    case 'pull-image': {
      const { name } = step.container.spec;
      return { ...o, images: new Map([...o.images, [name, ready(step.attempt)]]) };
    }
    case 'start-container': {
      const { name } = step.container.spec;
      const same = containers.filter((c) => c.name === name);
      assert.ok(
        same.every((c) => c.state === 'exited'),
        `${name} never runs twice`,
      );
      assert.ok(
        same.every((c) => c.attempt < step.attempt),
        'attempts only grow',
      );
      const made = record(name, {
        attempt: step.attempt,
        sandboxId: step.sandboxId,
        restartDelayMs: step.restartDelayMs,
        startedAtMs: o.now,
        ...(random() < 0.1 ? { state: 'created' } : {}),
      });
      const probes = new Map([...o.probes, [made.id, { started: true, ready: true }]]);
      return { ...o, probes, runtime: { sandboxes, containers: [made, ...containers] } };
    }
    case 'kill-container':
      return change(step.record.id, { state: 'exited', exitCode: 137, finishedAtMs: o.now });
    case 'resize':
      return step.containers.reduce((w, { record: r, limits }) => {
        const list = w.runtime.containers.map((c) => (c.id === r.id ? { ...c, limits } : c));
        return { ...w, runtime: { sandboxes, containers: list } };
      }, o);
    case 'remove-container':
      return {
        ...o,
        runtime: { sandboxes, containers: containers.filter((c) => c.id !== step.id) },
      };
    case 'stop-sandbox':
      return {
        ...o,
        stoppedSandboxes: new Set([...o.stoppedSandboxes, step.id]),
        runtime: {
          containers,
          sandboxes: sandboxes.map((s) => (s.id === step.id ? { ...s, ready: false } : s)),
        },
      };
    case 'remove-sandbox':
      return {
        ...o,
        runtime: {
          sandboxes: sandboxes.filter((s) => s.id !== step.id),
          containers: containers.filter((c) => c.sandboxId !== step.id),
        },
      };
    case 'release':
      assert.ok(
        containers.every((c) => c.state !== 'running'),
        'nothing runs when released',
      );
      return { ...o, released: true };
    case 'delete-object':
      return { ...o, order: { cause: 'removed', sinceMs: o.now, graceSeconds: 0 } };
    case 'forget':
      return o;
  }
}

/** Something befalls the pod: an exit, a dead sandbox, an agent that lost its memory. */
function befall(o: PodObservation, random: () => number): PodObservation {
  const { sandboxes, containers } = o.runtime;
  const hit = (of: Partial<ContainerRecord>): PodObservation => {
    const victim = containers.find((c) => c.state === 'running');
    return {
      ...o,
      runtime: {
        sandboxes,
        containers: containers.map((c) => (c === victim ? { ...c, ...of } : c)),
      },
    };
  };
  switch (randomInt(random, 5)) {
    case 0:
      return hit({ state: 'exited', exitCode: 0, finishedAtMs: o.now });
    case 1:
      return hit({ state: 'exited', exitCode: 1, finishedAtMs: o.now });
    case 2:
      return {
        ...o,
        runtime: { containers, sandboxes: sandboxes.map((s) => ({ ...s, ready: false })) },
      };
    case 3: // the agent starts anew
      return {
        ...o,
        images: new Map(),
        killing: new Map(),
        hooks: new Map(),
        stoppedSandboxes: new Set(),
        volumes: { state: 'absent' },
        released: false,
      };
    default:
      return { ...o, now: o.now + randomInt(random, 400_000) };
  }
}

function world(random: () => number): World {
  const policy = ['Always', 'OnFailure', 'Never'][randomInt(random, 3)] ?? 'Always';
  const p = pod({
    restartPolicy: policy,
    containers: ['a', 'b']
      .slice(0, 1 + randomInt(random, 2))
      .map((name) => ({ name, image: 'img' })),
    initContainers: [
      ...(random() < 0.5 ? [{ name: 'i', image: 'img' }] : []),
      ...(random() < 0.5 ? [{ name: 's', image: 'img', restartPolicy: 'Always' }] : []),
    ],
  });
  return { o: observe({ pod: p, volumes: { state: 'absent' } }), policy };
}

/** Follows plans until nothing is left to do, letting time pass when a plan asks for it. */
function settle(o: PodObservation, random: () => number): PodObservation {
  for (let turn = 0; turn < 200; turn++) {
    const { steps, wakeAtMs } = podPlan(o);
    if (steps.length === 1 && steps[0]?.step === 'forget') return o;
    for (const step of steps) o = act(o, step, random);
    if (steps.length > 0) continue;
    // Init containers do end by themselves.
    const init = o.runtime.containers.find((c) => c.name === 'i' && c.state === 'running');
    if (init) {
      const ended = { ...init, state: 'exited', exitCode: 0, finishedAtMs: o.now } as const;
      const containers = o.runtime.containers.map((c) => (c === init ? ended : c));
      o = { ...o, runtime: { ...o.runtime, containers } };
    } else if (wakeAtMs !== undefined) {
      assert.ok(wakeAtMs > o.now, 'a plan never asks to be woken in the past');
      o = { ...o, now: wakeAtMs };
    } else return o;
  }
  throw new Error(`no end: ${JSON.stringify(podPlan(o))} of ${JSON.stringify(o.runtime)}`);
}

test('whatever befalls a pod, plans bring it to where its policy says, and deletion to nothing', () => {
  for (let seed = 1; seed <= 400; seed++) {
    const random = seededRandom(seed);
    let { o, policy } = world(random);
    for (let turn = 0; turn < 30; turn++) {
      if (random() < 0.35) o = befall(o, random);
      else for (const step of podPlan(o).steps) if (random() < 0.8) o = act(o, step, random);
    }
    o = settle(o, random);
    const main = podContainers(o.pod).filter((c) => c.kind === 'main');
    const { phase } = podStatus(o, host);
    const running = main.every((c) =>
      o.runtime.containers.some((r) => r.name === c.spec.name && r.state === 'running'),
    );
    if (policy === 'Always') assert.ok(running && phase === 'Running', `seed ${seed}: ${phase}`);
    else if (phase === 'Succeeded' || phase === 'Failed')
      assert.ok(
        o.runtime.containers.every((c) => c.state !== 'running'),
        `seed ${seed}`,
      );
    else assert.equal(phase, 'Running', `seed ${seed}`);

    const end = settle(
      { ...o, order: { cause: 'deleted', sinceMs: o.now, graceSeconds: 1 } },
      random,
    );
    assert.deepEqual(end.runtime, { sandboxes: [], containers: [] }, `seed ${seed}`);
  }
});

test('an exit may ask for all containers to run anew, init containers first', () => {
  const rules = [
    { action: 'RestartAllContainers', exitCodes: { operator: 'In' as const, values: [42] } },
  ];
  const never = { restartPolicy: 'Never', image: 'img' };
  const all = pod({
    restartPolicy: 'Never',
    initContainers: [{ name: 'i', image: 'img' }],
    containers: [
      { name: 'a', image: 'img' },
      { name: 'b', ...never, restartPolicyRules: rules },
    ],
  });
  const before = { createdAtMs: NOW - 2000 };
  const i = record('i', { state: 'exited', ...before });
  const a = record('a', before);
  const b = record('b', { state: 'exited', exitCode: 42, finishedAtMs: NOW, ...before });
  const images = new Map(['i', 'a', 'b'].map((n) => [n, ready(1)]));
  const at = (...containers: ContainerRecord[]) => {
    const o = observe({
      pod: all,
      images,
      now: NOW + 1,
      runtime: { sandboxes: [sandbox], containers },
    });
    const { phase, conditions } = podStatus(o, host);
    const restarting = conditions?.find((c) => c.type === 'AllContainersRestarting')?.status;
    return [...names(podPlan(o).steps), `${phase} ${restarting}`];
  };
  assert.deepEqual(at(b, a, i), ['kill a restart-all', 'Running True']);
  const over = record('a', { state: 'exited', exitCode: 137, ...before });
  assert.deepEqual(at(b, over, i), ['start-container i 1', 'Running False']);
  const anew = { attempt: 1, createdAtMs: NOW + 1 };
  const i1 = record('i', { state: 'exited', ...anew });
  assert.deepEqual(at(b, over, i1, i), ['start-container a 1', 'Running False']);
  assert.deepEqual(at(b, record('a', anew), over, i1, i), ['start-container b 1', 'Running False']);
  const b1 = record('b', anew);
  assert.deepEqual(at(b1, b, record('a', anew), over, i1, i), ['Running False']);
});

test('an init container that its own rules restart does not fail its pod', () => {
  const rules = [{ action: 'Restart', exitCodes: { operator: 'In' as const, values: [42] } }];
  const init = { name: 'i', image: 'img', restartPolicy: 'Never', restartPolicyRules: rules };
  const phaseAt = (exitCode: number) =>
    podStatus(
      observe({
        pod: pod({ restartPolicy: 'Never', initContainers: [init] }),
        runtime: { sandboxes: [sandbox], containers: [record('i', { state: 'exited', exitCode })] },
      }),
      host,
    ).phase;
  assert.deepEqual([phaseAt(42), phaseAt(1)], ['Pending', 'Failed']);
});

test('in a pod that is over, containers that never ran are told as lost', () => {
  const order = {
    cause: 'failed',
    sinceMs: NOW,
    graceSeconds: 0,
    reason: 'Evicted',
    message: 'm',
  } as const;
  const status = podStatus(
    observe({ order, runtime: { sandboxes: [sandbox], containers: [] } }),
    host,
  );
  assert.equal(status.containerStatuses?.[0]?.state?.terminated?.reason, 'ContainerStatusUnknown');
});

test('a pod that was refused says nothing of containers, also under the next agent', () => {
  const { pod: asked } = observe();
  const refused = { phase: 'Failed', reason: 'NodeShutdown', message: 'Pod was rejected: m' };
  const later = (containerStatuses: ContainerStatus[]) =>
    podStatus(
      observe({
        pod: { ...asked, status: { ...refused, containerStatuses } },
        runtime: { sandboxes: [], containers: [] },
      }),
      host,
    );
  const status = later([]);
  assert.deepEqual(status.containerStatuses, []);
  assert.equal(status.reason, 'NodeShutdown');
  const ran = { name: 'a', ready: false, restartCount: 0, image: 'img', imageID: '' };
  assert.equal(later([ran]).containerStatuses?.length, asked.spec.containers.length);
});
