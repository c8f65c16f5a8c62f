import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { Container, Pod, Probe } from '#api/types.ts';
import { listRecorder } from '#client/events.ts';
import type { ContainerRecord } from '#node-agent/pods/pod-observation.ts';
import { PROBE_START, Probes, probeStep, verdictOf } from '#node-agent/containers/probes.ts';

const results = (probe: Probe, outcomes: string): string[] => {
  let state = PROBE_START;
  return outcomes.split('').map((o) => {
    state = probeStep(state, o === '+', probe);
    return state.result;
  });
};

test('results change when enough outcomes come in a row', () => {
  assert.deepEqual(results({ failureThreshold: 3 }, '--+--'), [
    'unknown',
    'unknown',
    'success',
    'success',
    'success',
  ]);
  assert.deepEqual(results({ failureThreshold: 2 }, '+--+'), [
    'success',
    'success',
    'failure',
    'success',
  ]);
  assert.deepEqual(results({ successThreshold: 2, failureThreshold: 1 }, '+-++'), [
    'unknown',
    'failure',
    'failure',
    'success',
  ]);
});

test('nothing else counts before the startup probe has passed', () => {
  const container: Container = {
    name: 'c',
    startupProbe: {},
    livenessProbe: {},
    readinessProbe: {},
  };
  const ok = { result: 'success', last: true, inRow: 1 } as const;
  const bad = { result: 'failure', last: false, inRow: 3 } as const;
  const verdict = (startup: typeof ok | typeof bad | typeof PROBE_START) =>
    verdictOf(container, { startup, liveness: bad, readiness: ok });
  assert.deepEqual(verdict(PROBE_START), { started: false, ready: false });
  assert.deepEqual(verdict(bad), { started: false, ready: false, failed: 'startup' });
  assert.deepEqual(verdict(ok), { started: true, ready: true, failed: 'liveness' });
  const plain = { startup: PROBE_START, liveness: PROBE_START, readiness: PROBE_START };
  assert.deepEqual(verdictOf({ name: 'c' }, plain), { started: true, ready: true });
});

test('probes keep their delays and periods, one after another', async () => {
  const clock = manualClock(1_000_000);
  const events = listRecorder();
  const calls: string[] = [];
  const changed: string[] = [];
  let ok = true;
  const probes = new Probes({
    clock,
    log: silentLog,
    events,
    run: async (handler) => {
      calls.push(`${(clock.now() - 1_000_000) / 1000} ${handler.exec?.command?.[0]}`);
      return { ok, output: 'no' };
    },
    onChange: (uid) => void changed.push(uid),
  });
  const spec: Container = {
    name: 'c',
    startupProbe: { exec: { command: ['startup'] }, initialDelaySeconds: 2 },
    livenessProbe: { exec: { command: ['live'] }, periodSeconds: 5, failureThreshold: 2 },
    readinessProbe: { exec: { command: ['ready'] }, periodSeconds: 4, initialDelaySeconds: 1 },
  };
  const pod: Pod = { metadata: { uid: 'u' }, spec: { containers: [spec] } };
  const record = { id: 'x', startedAtMs: 1_000_000 } as ContainerRecord;
  const watch = () => probes.watch(pod, '10.0.0.1', [{ record, spec }]).get('x');
  assert.deepEqual(watch(), { started: false, ready: false });
  await clock.advance(7_000);
  assert.deepEqual(calls, ['2 startup', '2 live', '2 ready', '6 ready', '7 live']);
  assert.deepEqual(watch(), { started: true, ready: true });
  ok = false;
  await clock.advance(10_000);
  assert.equal(watch()?.failed, 'liveness');
  assert.ok(events.said.includes('Warning Unhealthy Liveness probe failed: no'));
  assert.ok(changed.length >= 3 && changed.every((uid) => uid === 'u'));
  probes.prune('u', new Set());
  calls.length = 0;
  await clock.advance(60_000);
  assert.deepEqual(calls, []);
});
