import assert from 'node:assert/strict';
import { test } from 'node:test';
import { daemonSet } from '#api/apps/daemon-set.ts';
import { deployment } from '#api/apps/deployment.ts';
import { replicaSet } from '#api/apps/replica-set.ts';
import { statefulSet } from '#api/apps/stateful-set.ts';
import { cronJob } from '#api/batch/cron-job.ts';
import { job } from '#api/batch/job.ts';
import { asCreated, createErrors, updateErrors } from '#api/kind-probe.ts';
import type { Deployment, Job } from '#api/types.ts';

const template = (labels: object = { app: 'a' }, spec: object = {}) => ({
  metadata: { labels },
  spec: { containers: [{ name: 'c', image: 'i' }], ...spec },
});
const workload = (spec: object = {}) => ({
  metadata: { name: 'w' },
  spec: { selector: { matchLabels: { app: 'a' } }, template: template(), ...spec },
});
const task = (spec: object = {}) => ({
  metadata: { name: 'w', uid: 'u' },
  spec: { template: template({}, { restartPolicy: 'Never' }), ...spec },
});

const SELECTING = [deployment, replicaSet, statefulSet, daemonSet] as const;

test('every workload selects the pods that it makes', () => {
  for (const kind of SELECTING) {
    assert.deepEqual(createErrors(kind, workload()), [], kind.kind);
    const astray = createErrors(kind, workload({ template: template({ app: 'b' }) }));
    assert.equal(astray.length, 1, kind.kind);
    assert.match(astray[0] ?? '', /^spec\.template\.metadata\.labels: Invalid value: /);
    const never = template(undefined, { restartPolicy: 'Never' });
    const [once] = createErrors(kind, workload({ template: never }));
    assert.match(once ?? '', /^spec\.template\.spec\.restartPolicy: Unsupported value: "Never"/);
  }
});

test('selectors stay as they are', () => {
  const labels = { app: 'a', more: 'b' };
  const other = workload({ selector: { matchLabels: labels }, template: template(labels) });
  for (const kind of [deployment, replicaSet, daemonSet]) {
    const [error] = updateErrors(kind, workload(), other);
    assert.match(error ?? '', /^spec\.selector: Invalid value: .*: field is immutable$/, kind.kind);
  }
  const [error] = updateErrors(statefulSet, workload(), workload({ serviceName: 's' }));
  assert.match(error ?? '', /^spec: Forbidden: updates to statefulset spec for fields other than/);
});

test('what a deployment gets, and how its bounds fit', () => {
  const { spec } = asCreated<Deployment>(deployment, workload());
  assert.equal(spec?.replicas, 1);
  assert.equal(spec?.revisionHistoryLimit, 10);
  assert.deepEqual(spec?.strategy, {
    type: 'RollingUpdate',
    rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' },
  });
  const rollingUpdate = { maxSurge: 0, maxUnavailable: 0 };
  const [error] = createErrors(deployment, workload({ strategy: { rollingUpdate } }));
  assert.match(error ?? '', /maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0/);
});

test('a job names its pods after itself', () => {
  const { metadata, spec } = asCreated<Job>(job, task());
  assert.deepEqual(spec?.selector?.matchLabels, { 'batch.kubernetes.io/controller-uid': 'u' });
  assert.equal(spec?.template.metadata?.labels?.['job-name'], 'w');
  assert.equal(metadata.labels?.['batch.kubernetes.io/job-name'], 'w');
  assert.deepEqual(createErrors(job, task()), []);
});

test('what a job is refused for', () => {
  for (const [spec, start] of [
    [
      { parallelism: -1 },
      'spec.parallelism: Invalid value: -1: must be greater than or equal to 0',
    ],
    [{ completionMode: 'Indexed' }, 'spec.completions: Required value: when completion mode is'],
    [{ template: template({}) }, 'spec.template.spec.restartPolicy: Required value'],
  ] as const) {
    const errors = createErrors(job, task({ parallelism: 1, ...spec }));
    assert.ok(errors[0]?.startsWith(start), `${errors[0]}\n  should start ${start}`);
  }
});

test('a cron job needs a schedule', () => {
  const cron = (schedule: string) => ({
    metadata: { name: 'w' },
    spec: { schedule, jobTemplate: { spec: task().spec } },
  });
  assert.deepEqual(createErrors(cronJob, cron('*/5 * * * *')), []);
  assert.match(createErrors(cronJob, cron('hourly'))[0] ?? '', /^spec\.schedule: Invalid value/);
  assert.match(createErrors(cronJob, cron(''))[0] ?? '', /^spec\.schedule: Required value/);
});
