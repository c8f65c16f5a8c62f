import assert from 'node:assert/strict';
import { test } from 'node:test';
import { validateJobStatus } from '#api/batch/job-status.ts';
import type { KubeObject } from '#api/types.ts';

const job = (status: object, spec: object = {}): KubeObject =>
  ({ metadata: { name: 'j' }, spec, status }) as unknown as KubeObject;
const problems = (status: object, before: object = {}, spec: object = {}): string[] =>
  validateJobStatus(job(status, spec), job(before, spec)).map((e) => `${e.path}: ${e.message}`);
const holds = (...types: string[]): object[] => types.map((type) => ({ type, status: 'True' }));

const times = { startTime: '2024-01-01T00:00:00Z', completionTime: '2024-01-01T00:01:00Z' };
const complete = { ...times, conditions: holds('SuccessCriteriaMet', 'Complete'), succeeded: 1 };

test('a job comes to an end in steps', () => {
  assert.deepEqual(problems(complete), []);
  assert.deepEqual(problems({ conditions: holds('Complete') }), [
    'status.completionTime: Required value: completionTime is required for Complete jobs',
    'status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition',
    'status.startTime: Required value: startTime is required for finished job',
  ]);
  const { startTime } = times;
  assert.deepEqual(problems({ startTime, conditions: holds('Failed', 'FailureTarget') }), []);
  assert.match(problems({ startTime, conditions: holds('Failed') })[0] ?? '', /FailureTarget/);
});

test('a job completes once, and for good', () => {
  assert.match(problems({ completionTime: times.completionTime })[0] ?? '', /no Complete=True/);
  const again = { ...complete, completionTime: '2024-01-01T00:02:00Z' };
  assert.match(problems(again, complete)[0] ?? '', /cannot be modified/);
  assert.match(
    problems({ ...times, conditions: [] }, complete).join(),
    /cannot disable the terminal/,
  );
  const backwards = { ...complete, completionTime: '2023-01-01T00:00:00Z' };
  assert.match(problems(backwards)[0] ?? '', /cannot be set before startTime/);
});

test('what a write leaves alone is not held against it', () => {
  const odd = { completionTime: times.completionTime };
  assert.deepEqual(problems({ ...odd, active: 1 }, odd), []);
});

test('counts fit together', () => {
  assert.deepEqual(problems({ active: -1 }), [
    'status.active: Invalid value: -1: must be greater than or equal to 0',
  ]);
  assert.match(problems({ active: 1, ready: 2 })[0] ?? '', /more ready pods than active/);
});
