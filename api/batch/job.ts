import { batchRules } from '#api/batch/batch-rules.ts';
import { defaultJob, prepareJob } from '#api/batch/job-prepare.ts';
import { validateJobStatus } from '#api/batch/job-status.ts';
import { validateJob, validateJobUpdate } from '#api/batch/job-validate.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { workloadWarnings } from '#api/core/pod-warnings.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, selectorColumn, templateColumns, text } from '#api/meta/columns.ts';
import { humanDuration } from '#api/meta/duration.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { Job } from '#api/types.ts';

/** Source: batch/v1 Job. */
export const job = defineKind<Job>({
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  plural: 'jobs',
  singular: 'job',
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1Job',
  fieldRules: [batchRules, ...podRules],
  generation: 'spec',
  orphanByDefault: true,
  subresources: { status: { type: 'status', validateUpdate: validateJobStatus } },
  selectableFields: { 'status.successful': (object) => String(object.status?.succeeded ?? 0) },
  ageColumn: false,
  columns: [
    text('Status', state, 'Status of the job.'),
    text('Completions', completions, 'V1JobStatus.succeeded'),
    text('Duration', duration, 'Time required to complete the job.'),
    AGE,
    ...templateColumns<Job>((object) => object.spec?.template),
    selectorColumn<Job>((object) => object.spec?.selector, 'V1JobSpec.selector'),
  ],

  defaults: defaultJob,
  prepareForCreate: prepareJob,
  prepareForUpdate: keepStatus,
  warnings: workloadWarnings,
  validate: validateJob,
  validateUpdate: validateJobUpdate,
});

const holds = (object: Job, type: string): boolean =>
  object.status?.conditions?.some((one) => one.type === type && one.status === 'True') ?? false;

function state(object: Job): string {
  if (holds(object, 'Complete')) return 'Complete';
  if (holds(object, 'Failed')) return 'Failed';
  if (object.metadata.deletionTimestamp) return 'Terminating';
  if (holds(object, 'Suspended')) return 'Suspended';
  if (holds(object, 'FailureTarget')) return 'FailureTarget';
  if (holds(object, 'SuccessCriteriaMet')) return 'SuccessCriteriaMet';
  return 'Running';
}

function completions(object: Job): string {
  const done = object.status?.succeeded ?? 0;
  const { completions: wanted, parallelism = 0 } = object.spec ?? {};
  if (wanted !== undefined) return `${done}/${wanted}`;
  return parallelism > 1 ? `${done}/1 of ${parallelism}` : `${done}/1`;
}

function duration(object: Job, now: number): string {
  const { startTime, completionTime } = object.status ?? {};
  if (!startTime) return '';
  const end = completionTime ? Date.parse(completionTime) : now;
  return humanDuration(end - Date.parse(startTime));
}
