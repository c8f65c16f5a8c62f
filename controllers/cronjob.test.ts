import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTime } from '#api/time.ts';
import type { CronJob, Job } from '#api/types.ts';
import { cronJobs, jobs } from '#client/resources.ts';
import { cronJobController } from '#controllers/cronjob-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';

const key = { namespace: 'd', name: 'tick' };
const MINUTE = 60_000;

function tick(spec: Record<string, unknown> = {}): CronJob {
  return {
    metadata: { ...key },
    spec: {
      schedule: '* * * * *',
      concurrencyPolicy: 'Allow',
      jobTemplate: {
        metadata: { labels: { a: 'b' } },
        spec: { template: { spec: { containers: [{ name: 'c', image: 'i' }] } } },
      },
      ...spec,
    },
  };
}

async function start(seed: number, spec: Record<string, unknown> = {}): Promise<Simulation> {
  const sim = simulate({ seed, controllers: [cronJobController] });
  await sim.clock.advance(30_000);
  await sim.api.create(cronJobs, tick(spec));
  return sim;
}

const status = ({ api }: Simulation): NonNullable<CronJob['status']> =>
  api.all(cronJobs)[0]?.status ?? {};
const all = ({ api }: Simulation): Job[] => api.all(jobs);

async function end(sim: Simulation, job: Job | undefined, type = 'Complete'): Promise<void> {
  const time = formatTime(sim.clock.now());
  const conditions = [{ type, status: 'True', lastTransitionTime: time }];
  const times = { startTime: time, ...(type === 'Complete' ? { completionTime: time } : {}) };
  const name = { namespace: 'd', name: job?.metadata.name ?? '' };
  const body = { status: { ...times, conditions } };
  await sim.api.patch(jobs, name, { type: 'merge', body }, { subresource: 'status' });
}

test('each minute starts one job, named after it and owned', async () => {
  const sim = await start(1);
  await sim.advance(2 * MINUTE);
  const made = all(sim);
  assert.equal(made.length, 2);
  const [first] = made;
  const minute = Math.floor(Date.UTC(2026, 0, 1, 0, 1) / MINUTE);
  assert.equal(first?.metadata.name, `tick-${minute}`);
  assert.equal(first?.metadata.ownerReferences?.[0]?.kind, 'CronJob');
  assert.deepEqual(first?.metadata.labels, { a: 'b' });
  assert.deepEqual(first?.metadata.annotations, {
    'batch.kubernetes.io/cronjob-scheduled-timestamp': '2026-01-01T00:01:00Z',
  });
  const { active, lastScheduleTime } = status(sim);
  assert.equal(lastScheduleTime, '2026-01-01T00:02:00Z');
  assert.deepEqual(
    active?.map(({ uid }) => uid),
    made.map(({ metadata }) => metadata.uid),
  );
  assert.ok(sim.said.includes(`Normal SuccessfulCreate Created job tick-${minute}`));
  assert.ok(!sim.said.some((said) => said.includes('UnexpectedJob')));
  await sim.stop();
});

test('Forbid waits for the job before; Replace ends it', async () => {
  const sim = await start(2, { concurrencyPolicy: 'Forbid' });
  await sim.advance(3 * MINUTE);
  assert.equal(all(sim).length, 1);
  assert.ok(sim.said.some((said) => said.startsWith('Normal JobAlreadyActive')));
  await end(sim, all(sim)[0]);
  await sim.advance(MINUTE);
  assert.equal(all(sim).length, 2);
  const body = { spec: { concurrencyPolicy: 'Replace' } };
  await sim.api.patch(cronJobs, key, { type: 'merge', body });
  const [, before] = all(sim);
  await sim.advance(MINUTE);
  assert.equal(status(sim).active?.length, 1);
  assert.ok(!all(sim).some(({ metadata }) => metadata.uid === before?.metadata.uid));
  await sim.stop();
});

test('finished jobs leave the list, and the oldest go', async () => {
  const sim = await start(3, { successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 1 });
  for (let round = 0; round < 6; round++) {
    await sim.advance(MINUTE);
    await end(sim, all(sim).at(-1), round % 2 ? 'Failed' : 'Complete');
    await sim.advance(100);
  }
  assert.equal(all(sim).length, 2);
  assert.equal(status(sim).active, undefined);
  assert.equal(status(sim).lastSuccessfulTime, all(sim)[0]?.status?.completionTime);
  assert.ok(sim.said.some((said) => /SawCompletedJob .*condition: Failed$/.test(said)));
  await sim.stop();
});

test('a suspended one starts nothing; resumed, it starts only the latest', async () => {
  const sim = await start(4, { suspend: true });
  await sim.advance(10 * MINUTE);
  assert.equal(all(sim).length, 0);
  await sim.api.patch(cronJobs, key, { type: 'merge', body: { spec: { suspend: false } } });
  await sim.advance(100);
  assert.equal(all(sim).length, 1);
  assert.equal(status(sim).lastScheduleTime, '2026-01-01T00:10:00Z');
  await sim.stop();
});

test('a start past its deadline is left out', async () => {
  const sim = await start(5, { suspend: true, schedule: '0 * * * *', startingDeadlineSeconds: 10 });
  await sim.advance(65 * MINUTE);
  await sim.api.patch(cronJobs, key, { type: 'merge', body: { spec: { suspend: false } } });
  await sim.advance(1000);
  assert.equal(all(sim).length, 0);
  await sim.stop();
});

test('jobs that are not its starts and lost ones are told', async () => {
  const sim = await start(6);
  await sim.advance(MINUTE);
  const [job] = all(sim);
  const owner = job?.metadata.ownerReferences ?? [];
  const metadata = { namespace: 'd', name: 'tick-by-hand', ownerReferences: owner };
  await sim.api.create(jobs, { metadata });
  await sim.api.delete(jobs, { namespace: 'd', name: job?.metadata.name ?? '' });
  await sim.advance(100);
  assert.ok(sim.said.some((said) => said.startsWith('Warning UnexpectedJob')));
  assert.ok(sim.said.some((said) => said.startsWith('Normal MissingJob')));
  assert.equal(status(sim).active, undefined);
  await sim.stop();
});

test('an unknown time zone is told', async () => {
  const sim = await start(7, { timeZone: 'Mars/Olympus' });
  await sim.advance(2 * MINUTE);
  assert.equal(all(sim).length, 0);
  assert.ok(sim.said[0]?.startsWith('Warning UnknownTimeZone invalid timeZone: "Mars/Olympus"'));
  await sim.stop();
});

test('the annotation tells the zone', async () => {
  const sim = await start(8, { timeZone: 'Asia/Kolkata' });
  await sim.advance(MINUTE);
  const annotations = all(sim)[0]?.metadata.annotations ?? {};
  assert.deepEqual(Object.values(annotations), ['2026-01-01T05:31:00+05:30']);
  await sim.stop();
});
