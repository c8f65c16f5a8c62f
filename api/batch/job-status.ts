import { invalid, required } from '#api/field-error.ts';
import type { Job, KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkNotNegative } from '#api/validate.ts';

type Status = NonNullable<Job['status']>;

const COUNTS = ['active', 'succeeded', 'failed', 'ready', 'terminating'] as const;

const holds = (status: Status, type: string): boolean =>
  status.conditions?.some((one) => one.type === type && one.status === 'True') ?? false;

/** A status must not contradict itself, because controllers build on it. Source: KEP-4368. */
export function validateJobStatus(object: KubeObject, stored: KubeObject): Errors {
  const errors: Errors = [];
  const { spec, status = {} } = object as unknown as Job;
  const before = (stored as unknown as Job).status ?? {};
  for (const field of COUNTS) checkNotNegative(errors, `status.${field}`, status[field]);
  const complete = holds(status, 'Complete');
  const failed = holds(status, 'Failed');
  checkEnd(errors, status, before);
  if (complete && failed) {
    const rule = 'cannot set Complete=True and Failed=True conditions';
    errors.push(invalid('status.conditions', status.conditions, rule));
  }
  if (complete && !status.completionTime) {
    const rule = 'completionTime is required for Complete jobs';
    errors.push(required('status.completionTime', rule));
  }
  if (status.completionTime && !complete) {
    const rule = 'completionTime can only be set when the Complete=True condition is set';
    errors.push(invalid('status.completionTime', status.completionTime, rule));
  }
  if (complete || failed) checkNothingRuns(errors, status);
  if (spec?.completions !== undefined && (status.succeeded ?? 0) > spec.completions) {
    // More than wanted may finish, but not be waited for.
    const rule = 'must not exceed spec.completions';
    if (spec.completionMode === 'Indexed') {
      errors.push(invalid('status.succeeded', status.succeeded, rule));
    }
  }
  checkOnce(errors, status, before);
  return errors;
}

/** An ending has a beginning, before it. */
function checkEnd(errors: Errors, status: Status, before: Status): void {
  const { startTime, completionTime } = status;
  if (completionTime && !startTime) {
    errors.push(required('status.startTime', 'startTime is required for finished job'));
  }
  if (startTime && completionTime && Date.parse(completionTime) < Date.parse(startTime)) {
    const rule = 'completionTime cannot be set before startTime';
    errors.push(invalid('status.completionTime', completionTime, rule));
  }
  if (before.completionTime && completionTime !== before.completionTime) {
    const rule = 'completionTime cannot be modified';
    errors.push(invalid('status.completionTime', completionTime ?? null, rule));
  }
}

function checkNothingRuns(errors: Errors, status: Status): void {
  for (const field of ['active', 'terminating', 'ready'] as const) {
    if ((status[field] ?? 0) > 0) {
      const rule = `${field}>0 is invalid for finished job`;
      errors.push(invalid(`status.${field}`, status[field], rule));
    }
  }
  const { succeeded = [], failed = [] } = status.uncountedTerminatedPods ?? {};
  if (succeeded.length + failed.length > 0) {
    const rule = 'uncountedTerminatedPods needs to be empty for finished job';
    errors.push(invalid('status.uncountedTerminatedPods', status.uncountedTerminatedPods, rule));
  }
}

/** What has ended has ended. */
function checkOnce(errors: Errors, status: Status, before: Status): void {
  for (const type of ['Complete', 'Failed', 'FailureTarget', 'SuccessCriteriaMet']) {
    if (holds(before, type) && !holds(status, type)) {
      const rule = `cannot disable the terminal ${type}=True condition`;
      errors.push(invalid('status.conditions', status.conditions ?? null, rule));
    }
  }
}
