import { batchRules } from '#api/batch/batch-rules.ts';
import { parseCronSchedule } from '#api/batch/cron-schedule.ts';
import { checkJobSpec, checkJobTemplateSelector } from '#api/batch/job-validate.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { madePodsNameWarnings, templateWarnings } from '#api/core/pod-warnings.ts';
import { invalid, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, integer, NONE, selectorColumn, templateColumns, text } from '#api/meta/columns.ts';
import { humanAge } from '#api/meta/duration.ts';
import { ownedStatus, STATUS } from '#api/meta/status-part.ts';
import type { CronJob, JobSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkLabels } from '#api/validate-labels.ts';
import { checkAnnotations } from '#api/validate-meta.ts';
import { checkNotNegative, checkRequiredEnum } from '#api/validate.ts';
import { maxLength } from '#api/validate-names.ts';

type Spec = NonNullable<CronJob['spec']>;

/** Jobs add a dash and ten digits to the name. */
const MAX_NAME = 52;
const POLICIES = ['Allow', 'Forbid', 'Replace'];
const NO_ZONE_IN_SCHEDULE = 'cannot use TZ or CRON_TZ in schedule, use timeZone field instead';

/** Source: batch/v1 CronJob. */
export const cronJob = defineKind<CronJob>({
  group: 'batch',
  version: 'v1',
  kind: 'CronJob',
  plural: 'cronjobs',
  singular: 'cronjob',
  shortNames: ['cj'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1CronJob',
  fieldRules: [batchRules, ...podRules],
  generation: 'spec',
  subresources: { status: STATUS },
  ageColumn: false,
  columns: [
    text('Schedule', (object) => object.spec?.schedule ?? '', 'V1CronJobSpec.schedule'),
    text('Timezone', (object) => object.spec?.timeZone ?? NONE, 'V1CronJobSpec.timeZone'),
    { ...text('Suspend', suspended, 'V1CronJobSpec.suspend'), type: 'boolean' },
    integer('Active', (object) => object.status?.active?.length ?? 0, 'V1CronJobStatus.active'),
    text(
      'Last Schedule',
      (object, now) =>
        object.status?.lastScheduleTime ? humanAge(object.status.lastScheduleTime, now) : NONE,
      'V1CronJobStatus.lastScheduleTime',
    ),
    AGE,
    ...templateColumns<CronJob>((object) => object.spec?.jobTemplate?.spec?.template),
    selectorColumn<CronJob>(
      (object) => object.spec?.jobTemplate?.spec?.selector,
      'V1JobSpec.selector',
    ),
  ],
  ...ownedStatus(),

  defaults(object) {
    object.spec ??= {} as Spec;
    object.status ??= {};
    const { spec } = object;
    spec.schedule ??= '';
    if (!spec.concurrencyPolicy) spec.concurrencyPolicy = 'Allow';
    spec.suspend ??= false;
    spec.successfulJobsHistoryLimit ??= 3;
    spec.failedJobsHistoryLimit ??= 1;
    spec.jobTemplate ??= {};
    spec.jobTemplate.metadata ??= {};
    spec.jobTemplate.spec ??= {} as JobSpec;
    spec.jobTemplate.spec.template ??= {};
    defaultPodTemplate(spec.jobTemplate.spec.template);
  },
  warnings(object, old) {
    const path = 'spec.jobTemplate.spec.template';
    const template = object.spec?.jobTemplate?.spec?.template;
    const before = old?.spec?.jobTemplate?.spec?.template;
    const names = old ? [] : madePodsNameWarnings(object);
    return [...names, ...templateWarnings(path, template, before)];
  },
  validate(object) {
    const errors: Errors = [];
    const spec = object.spec ?? ({} as Spec);
    checkSchedule(errors, 'spec.schedule', spec.schedule ?? '');
    checkNotNegative(errors, 'spec.startingDeadlineSeconds', spec.startingDeadlineSeconds);
    if (spec.timeZone !== undefined) checkTimeZone(errors, 'spec.timeZone', spec.timeZone);
    checkRequiredEnum(errors, 'spec.concurrencyPolicy', spec.concurrencyPolicy, POLICIES);
    const { labels, annotations } = spec.jobTemplate?.metadata ?? {};
    const path = 'spec.jobTemplate';
    if (annotations) checkAnnotations(errors, `${path}.annotations`, annotations);
    if (labels) checkLabels(errors, `${path}.labels`, labels);
    const jobSpec = spec.jobTemplate?.spec ?? ({} as JobSpec);
    checkJobSpec(errors, `${path}.spec`, jobSpec);
    checkJobTemplateSelector(errors, `${path}.spec`, jobSpec);
    for (const field of ['successfulJobsHistoryLimit', 'failedJobsHistoryLimit'] as const) {
      checkNotNegative(errors, `spec.${field}`, spec[field]);
    }
    return errors;
  },
  validateCreate(object) {
    const { name = '' } = object.metadata;
    return name.length > MAX_NAME ? [invalid('metadata.name', name, maxLength(MAX_NAME))] : [];
  },
});

function suspended(object: CronJob): string {
  return object.spec?.suspend ? 'True' : 'False';
}

function checkSchedule(errors: Errors, path: string, schedule: string): void {
  if (schedule === '') {
    errors.push(required(path));
    return;
  }
  const result = parseCronSchedule(schedule);
  if (schedule.includes('TZ')) errors.push(invalid(path, schedule, NO_ZONE_IN_SCHEDULE));
  else if (!result.ok) errors.push(invalid(path, schedule, result.error));
}

function checkTimeZone(errors: Errors, path: string, zone: string): void {
  if (zone === '') {
    errors.push(invalid(path, zone, 'timeZone must be nil or non-empty string'));
  } else if (zone.toLowerCase() === 'local') {
    errors.push(
      invalid(
        path,
        zone,
        'timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones',
      ),
    );
  } else if (!isTimeZone(zone)) {
    errors.push(invalid(path, zone, `unknown time zone ${zone}`));
  }
}

function isTimeZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}
