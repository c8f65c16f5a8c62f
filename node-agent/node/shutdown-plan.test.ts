import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#api/types.ts';
import { isShutdownLine } from '#node-agent/node/logind.ts';
import { shutdownPeriods, shutdownPlan, totalSeconds } from '#node-agent/node/shutdown-plan.ts';

const pod = (name: string, priority?: number, grace?: number): Pod => ({
  metadata: { name },
  spec: {
    containers: [],
    ...(priority === undefined ? {} : { priority }),
    ...(grace === undefined ? {} : { terminationGracePeriodSeconds: grace }),
  },
});

test('periods as the flags say', () => {
  assert.deepEqual(shutdownPeriods({}), []);
  assert.deepEqual(shutdownPeriods({ gracePeriod: '30s', gracePeriodCriticalPods: '10s' }), [
    { priority: 0, graceSeconds: 20 },
    { priority: 2_000_000_000, graceSeconds: 10 },
  ]);
  const list = shutdownPeriods({ gracePeriodByPodPriority: '1000=5, -10=60,0=7' });
  assert.deepEqual(
    list.map(({ priority }) => priority),
    [-10, 0, 1000],
  );
  assert.equal(totalSeconds(list), 72);
  const wrong = [
    [{ gracePeriod: '10s', gracePeriodCriticalPods: '20s' }, /cannot be longer/],
    [{ gracePeriod: '100ms' }, /a second or more.*not "100ms"/],
    [{ gracePeriod: 'soon' }, /--shutdown-grace-period takes a duration/],
    [{ gracePeriodByPodPriority: '0:1' }, /a list like 0=20/],
    [{ gracePeriodByPodPriority: '0=1', gracePeriod: '1s' }, /instead of/],
  ] as const;
  for (const [flags, message] of wrong)
    assert.throws(() => shutdownPeriods(flags), message, JSON.stringify(flags));
});

test('pods end by priority, each with the lesser grace', () => {
  const periods = shutdownPeriods({ gracePeriodByPodPriority: '0=20,1000=10,2000000000=5' });
  const pods = [
    pod('low', -5),
    pod('plain'),
    pod('quick', 999, 3),
    pod('higher', 1000, 600),
    pod('critical', 2_000_001_000),
  ];
  const shown = (list: readonly Pod[]) =>
    shutdownPlan(list, periods).map((group) => [
      group.graceSeconds,
      ...group.pods.map((one) => `${one.pod.metadata.name}:${one.graceSeconds}`),
    ]);
  assert.deepEqual(shown(pods), [
    [20, 'low:20', 'plain:20', 'quick:3'],
    [10, 'higher:10'],
    [5, 'critical:5'],
  ]);
  assert.deepEqual(shown([pod('critical', 2_000_000_000)]), [[5, 'critical:5']], 'no empty waits');
  assert.deepEqual(shutdownPlan(pods, []), []);
});

test('the line of the bus that says it', () => {
  const line = (member: string, data: unknown): string =>
    JSON.stringify({
      type: 'signal',
      interface: 'org.freedesktop.login1.Manager',
      member,
      payload: { type: 'b', data: [data] },
    });
  assert.equal(isShutdownLine(line('PrepareForShutdown', true)), true);
  assert.equal(isShutdownLine(line('PrepareForShutdown', false)), false);
  for (const other of [line('PrepareForSleep', true), '', '{"type":"signal"', 'Monitoring bus'])
    assert.equal(isShutdownLine(other), undefined, other);
});
