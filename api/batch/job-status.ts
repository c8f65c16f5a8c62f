import type { FieldError } from '#api/field-error.ts';
import { invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { Job, KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkNotNegative, sameMeaning } from '#api/validate.ts';

type Status = NonNullable<Job['status']>;

const COUNTS = ['active', 'succeeded', 'failed', 'ready', 'terminating'] as const;

const holds = (status: Status, type: string): boolean =>
  status.conditions?.some((one) => one.type === type && one.status === 'True') ?? false;

/**
 * A status must not contradict itself, because controllers build on it; what the write leaves as
 * it was is not held against it. Source: KEP-4368.
 */
export function validateJobStatus(object: KubeObject, stored: KubeObject): Errors {
  const errors: Errors = [];
  const { spec, status = {} } = object as unknown as Job;
  const before = (stored as unknown as Job).status ?? {};
  for (const field of COUNTS) checkNotNegative(errors, `status.${field}`, status[field]);
  const changed = (...fields: (keyof Status)[]): boolean =>
    fields.some((field) => !sameMeaning(status[field], before[field]));
  if (changed('conditions', 'completionTime')) checkCompletion(errors, status);
  if (changed('conditions')) checkConditions(errors, status);
  if (changed('conditions', 'startTime', 'completionTime')) {
    checkTimes(errors, status, before, spec?.suspend ?? false);
  }
  if (isFinished(status)) checkNothingRuns(errors, status);
  if (
    changed('active', 'ready') &&
    status.ready !== undefined &&
    status.ready > (status.active ?? 0)
  ) {
    errors.push(invalid('status.ready', status.ready, 'cannot set more ready pods than active'));
  }
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

const isFinished = (status: Status): boolean =>
  holds(status, 'Complete') || holds(status, 'Failed');

/** Upstream shows no value for conditions that do not fit together. */
const contradiction = (rule: string): FieldError => ({
  reason: 'FieldValueInvalid',
  path: 'status.conditions',
  message: `Invalid value: ${rule}`,
});

/** What is complete has been completed at some time, and nothing else has. */
function checkCompletion(errors: Errors, status: Status): void {
  const complete = holds(status, 'Complete');
  if (complete && !status.completionTime) {
    const rule = 'completionTime is required for Complete jobs';
    errors.push(required('status.completionTime', rule));
  }
  if (!complete && status.completionTime) {
    const rule = 'cannot set completionTime when there is no Complete=True condition';
    errors.push(invalid('status.completionTime', status.completionTime, rule));
  }
}

/** An end is announced before it comes, and there is one of them. */
function checkConditions(errors: Errors, status: Status): void {
  const [complete, failed] = [holds(status, 'Complete'), holds(status, 'Failed')];
  const [failing, met] = [holds(status, 'FailureTarget'), holds(status, 'SuccessCriteriaMet')];
  const refuse = (rule: string): number => errors.push(contradiction(rule));
  if (failed && !failing) {
    refuse('cannot set Failed=True condition without the FailureTarget=true condition');
  }
  if (complete && !met) {
    refuse('cannot set Complete=True condition without the SuccessCriteriaMet=true condition');
  }
  if (complete && failed) refuse('cannot set Complete=True and Failed=true conditions');
  if (complete && failing) refuse('cannot set Complete=True and FailureTarget=true conditions');
  if (met && failing)
    refuse('cannot set SuccessCriteriaMet=true and FailureTarget=true conditions');
}

/** An end has a beginning, before it. */
function checkTimes(errors: Errors, status: Status, before: Status, suspended: boolean): void {
  const { startTime, completionTime } = status;
  if (isFinished(status) && !startTime && !suspended) {
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
    const shown = internalForm('UncountedPods', status.uncountedTerminatedPods);
    errors.push(invalid('status.uncountedTerminatedPods', shown, rule));
  }
}

/** What has ended has ended. */
function checkOnce(errors: Errors, status: Status, before: Status): void {
  for (const type of ['Complete', 'Failed', 'FailureTarget', 'SuccessCriteriaMet']) {
    if (holds(before, type) && !holds(status, type)) {
      const rule = `cannot disable the terminal ${type}=True condition`;
      errors.push(contradiction(rule));
    }
  }
}
