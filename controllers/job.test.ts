import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import { formatTime } from '#api/time.ts';
import type { Job, Pod } from '#api/types.ts';
import { jobs, pods } from '#client/resources.ts';
import { jobController } from '#controllers/job-controller.ts';
import { formatIndexes, indexOf, parseIndexes } from '#controllers/job-indexes.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';
import { ttlAfterFinishedController } from '#controllers/ttl-after-finished-controller.ts';

const key = { namespace: 'd', name: 'work' };
const TRACKING = 'batch.kubernetes.io/job-tracking';

function job(spec: Record<string, unknown> = {}): Job {
  return {
    metadata: { ...key },
    spec: {
      parallelism: 2,
      completions: 4,
      backoffLimit: 2,
      selector: { matchLabels: { job: 'work' } },
      template: {
        metadata: { labels: { job: 'work' } },
        spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] },
      },
      ...spec,
    },
  };
}

const indexed = (spec: Record<string, unknown> = {}): Job =>
  job({ completionMode: 'Indexed', ...spec });

type End = 'run' | 'succeed' | number;

/** Pods run for a while and then end as `fate` says: a number is an exit code. */
function start(seed: number, fate: (pod: Pod) => End): Simulation {
  const controllers = [jobController, ttlAfterFinishedController];
  const sim = simulate({ seed, controllers });
  sim.api.onCommit(({ type, resource, object }) => {
    const pod = object as Pod;
    if (resource.resource !== 'pods' || type !== 'MODIFIED') return;
    if (pod.status?.phase !== 'Running' || pod.metadata.deletionTimestamp) return;
    const end = fate(pod);
    if (end === 'run') return;
    void sim.clock.sleep(1 + randomInt(sim.random, 2000)).then(() => finish(sim, pod, end));
  });
  return sim;
}

async function finish(sim: Simulation, pod: Pod, end: End): Promise<void> {
  const exitCode = end === 'succeed' ? 0 : Number(end);
  const finishedAt = formatTime(sim.clock.now());
  const terminated = { exitCode, finishedAt };
  const status = {
    phase: exitCode === 0 ? 'Succeeded' : 'Failed',
    conditions: [],
    containerStatuses: [{ name: 'c', restartCount: 0, state: { terminated } }],
  };
  const name = { namespace: 'd', name: pod.metadata.name ?? '' };
  const body = { type: 'merge', body: { status } } as const;
  await sim.api.patch(pods, name, body, { subresource: 'status' }).catch(() => {});
}

const current = ({ api }: Simulation): Job => {
  const [found] = api.all(jobs);
  assert.ok(found);
  return found;
};
const conditions = (sim: Simulation): string[] =>
  (current(sim).status?.conditions ?? []).map((one) => `${one.type}=${one.status} ${one.reason}`);
const isOver = (sim: Simulation) => (): boolean =>
  conditions(sim).some((one) => /^(Complete|Failed)=True/.test(one));
const patch = (sim: Simulation, spec: unknown): Promise<unknown> =>
  sim.api.patch(jobs, key, { type: 'merge', body: { spec } });
const active = ({ api }: Simulation): Pod[] =>
  api
    .all(pods)
    .filter((pod) => !pod.metadata.deletionTimestamp)
    .filter(({ status }) => status?.phase !== 'Succeeded' && status?.phase !== 'Failed');

function assertAtRest(sim: Simulation): void {
  for (const pod of sim.api.all(pods)) {
    assert.ok(!pod.metadata.finalizers?.includes(TRACKING), `${pod.metadata.name} is held`);
  }
  const { status } = current(sim);
  assert.deepEqual(status?.uncountedTerminatedPods ?? {}, {});
  assert.equal(status?.active ?? 0, 0);
  assert.equal(status?.terminating ?? 0, 0);
}

for (const [list, text] of [
  [[], ''],
  [[3], '3'],
  [[0, 1], '0,1'],
  [[1, 3, 4, 5, 7], '1,3-5,7'],
] as const) {
  test(`indexes: ${text || 'none'}`, () => {
    assert.equal(formatIndexes(list), text);
    assert.deepEqual([...parseIndexes(text, 10)], list);
  });
}

test('indexes of a job that was made smaller are cut off', () => {
  assert.deepEqual([...parseIndexes('1,3-5,7', 5)], [1, 3, 4]);
});

for (let seed = 1; seed <= 6; seed++) {
  test(`each completion is counted once, never more pods than parallel (seed ${seed})`, async () => {
    const sim = start(seed, () => 'succeed');
    let most = 0;
    sim.api.onCommit(() => {
      most = Math.max(most, active(sim).length);
    });
    await sim.api.create(jobs, seed % 2 ? job({ completions: 7 }) : indexed({ completions: 7 }));
    await sim.until(isOver(sim), 'the end');
    await sim.advance(5000);
    const { status } = current(sim);
    assert.deepEqual(conditions(sim), [
      'SuccessCriteriaMet=True CompletionsReached',
      'Complete=True CompletionsReached',
    ]);
    assert.equal(status?.succeeded, 7);
    assert.equal(status?.failed ?? 0, 0);
    assert.equal(status?.completedIndexes, seed % 2 ? undefined : '0-6');
    assert.ok(status?.startTime && status.completionTime);
    assert.equal(most, 2);
    assert.equal(sim.api.all(pods).length, 7);
    assertAtRest(sim);
    assert.ok(sim.said.includes('Normal Completed Job completed'));
    await sim.stop();
  });
}

test('indexed pods know their index', async () => {
  const sim = start(7, () => 'run');
  await sim.api.create(jobs, indexed({ parallelism: 3 }));
  await sim.until(() => active(sim).length === 3, 'three pods');
  const pod = sim.api.all(pods).find((one) => indexOf(one) === 2);
  assert.match(pod?.metadata.name ?? '', /^work-2-/);
  assert.equal(pod?.spec.hostname, 'work-2');
  assert.equal(pod?.metadata.labels?.['batch.kubernetes.io/job-completion-index'], '2');
  assert.deepEqual(pod?.spec.containers[0]?.env, [
    {
      name: 'JOB_COMPLETION_INDEX',
      valueFrom: {
        fieldRef: {
          apiVersion: 'v1',
          fieldPath: "metadata.labels['batch.kubernetes.io/job-completion-index']",
        },
      },
    },
  ]);
  assert.deepEqual(pod?.metadata.finalizers, [TRACKING]);
  await sim.stop();
});

test('too many failures fail the job, after growing waits', async () => {
  const sim = start(8, () => 1);
  await sim.api.create(jobs, job({ parallelism: 1, completions: 1 }));
  const began = sim.clock.now();
  await sim.until(isOver(sim), 'the end');
  assert.deepEqual(conditions(sim), [
    'FailureTarget=True BackoffLimitExceeded',
    'Failed=True BackoffLimitExceeded',
  ]);
  assert.equal(current(sim).status?.failed, 3);
  assert.ok(sim.clock.now() - began >= 30_000, 'waits of 10 and 20 seconds');
  assertAtRest(sim);
  const said = 'Warning BackoffLimitExceeded Job has reached the specified backoff limit';
  assert.ok(sim.said.includes(said));
  await sim.stop();
});

test('the active deadline stops what runs', async () => {
  const sim = start(9, () => 'run');
  await sim.api.create(jobs, job({ activeDeadlineSeconds: 20 }));
  await sim.until(isOver(sim), 'the end', 60_000);
  assert.deepEqual(conditions(sim), [
    'FailureTarget=True DeadlineExceeded',
    'Failed=True DeadlineExceeded',
  ]);
  assert.equal(current(sim).status?.failed, 2);
  assertAtRest(sim);
  await sim.stop();
});

test('a suspended job has no pods, and its clock starts when it resumes', async () => {
  const sim = start(10, () => 'run');
  await sim.api.create(jobs, job({ suspend: true }));
  await sim.until(() => conditions(sim).length === 1, 'suspended');
  assert.deepEqual(conditions(sim), ['Suspended=True JobSuspended']);
  assert.equal(current(sim).status?.startTime, undefined);
  await patch(sim, { suspend: false });
  await sim.until(() => current(sim).status?.active === 2, 'resumed');
  assert.deepEqual(conditions(sim), ['Suspended=False JobResumed']);
  await patch(sim, { suspend: true });
  await sim.until(() => sim.api.all(pods).length === 0, 'no pods');
  await sim.advance(1000);
  assert.equal(current(sim).status?.failed ?? 0, 0);
  assert.ok(sim.said.includes('Normal Resumed Job resumed'));
  await sim.stop();
});

test('fewer pods in parallel: the surplus goes and does not count as failed', async () => {
  const sim = start(11, () => 'run');
  await sim.api.create(jobs, job({ parallelism: 4 }));
  await sim.until(() => current(sim).status?.ready === 4, 'four pods');
  await patch(sim, { parallelism: 1 });
  await sim.until(() => sim.api.all(pods).length === 1, 'one pod');
  await sim.advance(1000);
  assert.equal(current(sim).status?.active, 1);
  assert.equal(current(sim).status?.failed ?? 0, 0);
  await sim.stop();
});

test('without completions, the first success ends the work queue', async () => {
  const sim = start(12, () => 'succeed');
  const made = job({ parallelism: 3 });
  delete made.spec?.completions;
  await sim.api.create(jobs, made);
  await sim.until(isOver(sim), 'the end');
  assert.equal(current(sim).status?.succeeded, 3);
  assertAtRest(sim);
  await sim.stop();
});

const exits = (action: string, values: number[]): unknown => ({
  action,
  onExitCodes: { operator: 'In', values },
});

test('pod failure policy: FailJob ends the job at once', async () => {
  const sim = start(13, () => 42);
  const podFailurePolicy = { rules: [exits('FailJob', [42])] };
  await sim.api.create(jobs, job({ podFailurePolicy, backoffLimit: 6 }));
  await sim.until(isOver(sim), 'the end');
  const [target] = current(sim).status?.conditions ?? [];
  assert.equal(target?.reason, 'PodFailurePolicy');
  assert.match(
    target?.message ?? '',
    /^Container c for pod d\/work-\w+ failed with exit code 42 matching FailJob rule at index 0$/,
  );
  assertAtRest(sim);
  await sim.stop();
});

test('pod failure policy: Ignore does not count', async () => {
  let failures = 0;
  const sim = start(14, () => (failures++ < 3 ? 42 : 'succeed'));
  const podFailurePolicy = { rules: [exits('Ignore', [42])] };
  const spec = { podFailurePolicy, backoffLimit: 0, completions: 1, parallelism: 1 };
  await sim.api.create(jobs, job(spec));
  await sim.until(isOver(sim), 'the end', 300_000);
  assert.equal(current(sim).status?.succeeded, 1);
  assert.equal(current(sim).status?.failed ?? 0, 0);
  await sim.stop();
});

test('a limit per index: failed indexes do not stop the others', async () => {
  const sim = start(15, (pod) => (indexOf(pod) % 2 === 0 ? 1 : 'succeed'));
  const spec = { backoffLimitPerIndex: 1, backoffLimit: 2 ** 31 - 1, parallelism: 4 };
  await sim.api.create(jobs, indexed(spec));
  await sim.until(isOver(sim), 'the end', 300_000);
  const { status } = current(sim);
  assert.deepEqual(conditions(sim), [
    'FailureTarget=True FailedIndexes',
    'Failed=True FailedIndexes',
  ]);
  assert.equal(status?.failedIndexes, '0,2');
  assert.equal(status?.completedIndexes, '1,3');
  assert.equal(status?.failed, 4);
  assert.equal(status?.succeeded, 2);
  assertAtRest(sim);
  await sim.stop();
});

test('maxFailedIndexes and FailIndex', async () => {
  const sim = start(16, (pod) => (indexOf(pod) === 3 ? 'run' : 42));
  const podFailurePolicy = { rules: [exits('FailIndex', [42])] };
  const limits = { backoffLimitPerIndex: 5, backoffLimit: 2 ** 31 - 1, maxFailedIndexes: 1 };
  await sim.api.create(jobs, indexed({ ...limits, podFailurePolicy, parallelism: 4 }));
  await sim.until(isOver(sim), 'the end', 300_000);
  assert.equal(conditions(sim)[1], 'Failed=True MaxFailedIndexesExceeded');
  assertAtRest(sim);
  await sim.stop();
});

test('the success policy ends the job though an index still runs', async () => {
  const sim = start(17, (pod) => (indexOf(pod) === 0 ? 'succeed' : 'run'));
  const successPolicy = { rules: [{ succeededIndexes: '0' }] };
  await sim.api.create(jobs, indexed({ successPolicy }));
  await sim.until(isOver(sim), 'the end');
  const [first] = current(sim).status?.conditions ?? [];
  assert.equal(first?.message, 'Matched rules at index 0');
  assert.deepEqual(conditions(sim), [
    'SuccessCriteriaMet=True SuccessPolicy',
    'Complete=True SuccessPolicy',
  ]);
  assert.equal(current(sim).status?.completedIndexes, '0');
  assert.equal(current(sim).status?.failed ?? 0, 0);
  assertAtRest(sim);
  await sim.stop();
});

test('podReplacementPolicy Failed waits until the old pod has ended', async () => {
  const sim = start(18, () => 'run');
  const spec = { podReplacementPolicy: 'Failed', parallelism: 1, completions: 1 };
  await sim.api.create(jobs, job(spec));
  await sim.until(() => current(sim).status?.ready === 1, 'a pod');
  const [first] = sim.api.all(pods);
  let together = 0;
  sim.api.onCommit(() => {
    together = Math.max(together, sim.api.all(pods).length);
  });
  await sim.api.delete(pods, { namespace: 'd', name: first?.metadata.name ?? '' });
  await sim.advance(200);
  assert.equal(current(sim).status?.terminating, 1);
  assert.equal(sim.api.all(pods).length, 1);
  await sim.stop();
});

test('pods of a job that was deleted are let go', async () => {
  const sim = start(19, () => 'run');
  await sim.api.create(jobs, job());
  await sim.until(() => active(sim).length === 2, 'two pods');
  await sim.api.delete(jobs, key);
  await sim.until(
    () => sim.api.all(pods).every((pod) => !pod.metadata.finalizers?.length),
    'no finalizers',
  );
  await sim.stop();
});

test('a finished job goes when its time is up', async () => {
  const sim = start(20, () => 'succeed');
  await sim.api.create(jobs, job({ ttlSecondsAfterFinished: 60 }));
  await sim.until(isOver(sim), 'the end');
  await sim.advance(55_000);
  assert.equal(current(sim).metadata.deletionTimestamp, undefined);
  await sim.advance(10_000);
  assert.ok(current(sim).metadata.deletionTimestamp);
  assert.deepEqual(current(sim).metadata.finalizers, ['foregroundDeletion']);
  await sim.stop();
});

for (let seed = 31; seed <= 38; seed++) {
  test(`every end is counted once, whatever fails (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const sim = start(seed, () => (random() < 0.3 ? 1 : 'succeed'));
    const isIndexed = random() < 0.5;
    const spec = { completions: 6, parallelism: 3, backoffLimit: 50 };
    await sim.api.create(jobs, isIndexed ? indexed(spec) : job(spec));
    await sim.until(isOver(sim), 'the end', 3_000_000);
    const all = sim.api.all(pods);
    const { status } = current(sim);
    assert.equal(status?.succeeded, 6);
    assert.equal(all.filter((pod) => pod.status?.phase === 'Succeeded').length, 6);
    assert.equal(status?.failed ?? 0, all.filter((pod) => pod.status?.phase === 'Failed').length);
    assertAtRest(sim);
    await sim.stop();
  });
}
