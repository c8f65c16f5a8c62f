import { checkPodTemplate } from '#api/core/pod-validate.ts';
import { duplicate, invalid, notSupported, required, tooLong, tooMany } from '#api/field-error.ts';
import { matchesLabels } from '#api/labels.ts';
import { checkSuccessPolicy } from '#api/batch/success-policy.ts';
import type { Job, JobSpec, PodTemplateSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkImmutable, checkNotNegative, sameMeaning } from '#api/validate.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';

const MAX_INDEXED_PARALLELISM = 100_000;
const MAX_RULES = 20;
const MAX_EXIT_CODES = 255;
const MAX_MANAGED_BY = 63;
const RESTART_POLICIES = ['OnFailure', 'Never'];
const ACTIONS = ['Count', 'FailIndex', 'FailJob', 'Ignore'];

/** Source: batch/v1 JobSpec. */
export function validateJob(object: Job): Errors {
  const errors: Errors = [];
  const { spec } = object;
  if (!spec) return errors;
  checkJobSpec(errors, 'spec', spec);
  if (!spec.selector) errors.push(required('spec.selector'));
  else {
    checkLabelSelector(errors, 'spec.selector', spec.selector);
    const labels = spec.template?.metadata?.labels;
    if (!matchesLabels(spec.selector, labels ?? {})) {
      const rule = '`selector` does not match template `labels`';
      errors.push(invalid('spec.template.metadata.labels', labels ?? null, rule));
    }
  }
  return errors;
}

/** What jobs and the templates of CronJobs have in common. */
export function checkJobSpec(errors: Errors, path: string, spec: JobSpec): void {
  for (const field of [
    'parallelism',
    'completions',
    'activeDeadlineSeconds',
    'backoffLimit',
    'ttlSecondsAfterFinished',
    'backoffLimitPerIndex',
    'maxFailedIndexes',
  ] as const) {
    checkNotNegative(errors, `${path}.${field}`, spec[field]);
  }
  if (spec.managedBy !== undefined) checkManagedBy(errors, `${path}.managedBy`, spec.managedBy);
  checkMode(errors, path, spec);
  checkFailurePolicy(errors, `${path}.podFailurePolicy`, spec);
  checkSuccessPolicy(errors, `${path}.successPolicy`, spec);
  if (spec.podReplacementPolicy !== undefined) {
    checkReplacement(errors, `${path}.podReplacementPolicy`, spec);
  }
  const template: PodTemplateSpec = spec.template ?? {};
  checkPodTemplate(errors, `${path}.template`, template);
  checkRestart(errors, `${path}.template.spec.restartPolicy`, spec, template);
}

function checkManagedBy(errors: Errors, path: string, value: string): void {
  if (value.length > MAX_MANAGED_BY) {
    errors.push(tooLong(path, MAX_MANAGED_BY));
  }
  if (!/^[a-z0-9.-]+\/.+$/.test(value)) {
    const rule = 'must be a domain-prefixed path (such as "acme.io/foo")';
    errors.push(invalid(path, value, rule));
  }
}

function checkMode(errors: Errors, path: string, spec: JobSpec): void {
  const { completionMode: mode, completions, parallelism = 0 } = spec;
  if (mode !== undefined) {
    checkEnum(errors, `${path}.completionMode`, mode, ['NonIndexed', 'Indexed']);
  }
  if (mode === 'Indexed') {
    if (completions === undefined) {
      errors.push(required(`${path}.completions`, 'when completion mode is Indexed'));
    }
    if (parallelism > MAX_INDEXED_PARALLELISM) {
      const rule = `must be less than or equal to ${MAX_INDEXED_PARALLELISM} when completion mode is Indexed`;
      errors.push(invalid(`${path}.parallelism`, parallelism, rule));
    }
    if (
      spec.maxFailedIndexes !== undefined &&
      completions !== undefined &&
      spec.maxFailedIndexes > completions
    ) {
      const rule = 'must be less than or equal to completions';
      errors.push(invalid(`${path}.maxFailedIndexes`, spec.maxFailedIndexes, rule));
    }
    if (spec.maxFailedIndexes !== undefined && spec.backoffLimitPerIndex === undefined) {
      errors.push(required(`${path}.backoffLimitPerIndex`, 'when maxFailedIndexes is specified'));
    }
    return;
  }
  for (const field of ['backoffLimitPerIndex', 'maxFailedIndexes'] as const) {
    if (spec[field] === undefined) continue;
    const rule = 'requires indexed completion mode';
    errors.push(invalid(`${path}.${field}`, spec[field], rule));
  }
}

function checkReplacement(errors: Errors, path: string, spec: JobSpec): void {
  const policy = spec.podReplacementPolicy ?? '';
  if (spec.podFailurePolicy) checkEnum(errors, path, policy, ['Failed']);
  else checkEnum(errors, path, policy, ['Failed', 'TerminatingOrFailed']);
}

function checkRestart(
  errors: Errors,
  path: string,
  spec: JobSpec,
  template: PodTemplateSpec,
): void {
  const policy = template.spec?.restartPolicy ?? '';
  if (policy === '' || policy === 'Always') {
    errors.push(required(path, 'valid values: "OnFailure", "Never"'));
  } else if (!RESTART_POLICIES.includes(policy)) {
    errors.push(notSupported(path, policy, RESTART_POLICIES));
  } else if (spec.podFailurePolicy && policy !== 'Never') {
    const rule = 'only "Never" is supported when podFailurePolicy is specified';
    errors.push(invalid(path, policy, rule));
  }
}

type FailureRule = NonNullable<JobSpec['podFailurePolicy']>['rules'][number];

function checkFailurePolicy(errors: Errors, path: string, spec: JobSpec): void {
  const rules = spec.podFailurePolicy?.rules;
  if (!rules) return;
  if (rules.length > MAX_RULES) {
    errors.push(tooMany(`${path}.rules`, rules.length, MAX_RULES));
  }
  const { containers = [], initContainers = [] } = spec.template?.spec ?? {};
  const names = new Set([...containers, ...initContainers].map(({ name }) => name));
  for (const [i, rule] of rules.entries()) {
    const at = `${path}.rules[${i}]`;
    if (!rule.action) {
      const text = 'valid values: "Count", "FailIndex", "FailJob", "Ignore"';
      errors.push(required(`${at}.action`, text));
    } else checkEnum(errors, `${at}.action`, rule.action, ACTIONS);
    if (rule.action === 'FailIndex' && spec.backoffLimitPerIndex === undefined) {
      const text = 'requires the backoffLimitPerIndex to be set';
      errors.push(invalid(`${at}.action`, rule.action, text));
    }
    checkExitCodes(errors, `${at}.onExitCodes`, rule, names);
    for (const [j, pattern] of (rule.onPodConditions ?? []).entries()) {
      checkEnum(errors, `${at}.onPodConditions[${j}].status`, pattern.status, [
        'False',
        'True',
        'Unknown',
      ]);
    }
    if (rule.onExitCodes && rule.onPodConditions?.length) {
      const text = 'specifying both OnExitCodes and OnPodConditions is not supported';
      errors.push(invalid(at, null, text));
    }
    if (!rule.onExitCodes && !rule.onPodConditions?.length) {
      const text = 'specifying one of OnExitCodes and OnPodConditions is required';
      errors.push(invalid(at, null, text));
    }
  }
}

function checkExitCodes(
  errors: Errors,
  path: string,
  rule: FailureRule,
  names: ReadonlySet<string>,
): void {
  const requirement = rule.onExitCodes;
  if (!requirement) return;
  const { operator, containerName } = requirement;
  const values = requirement.values ?? [];
  if (!operator) errors.push(required(`${path}.operator`, 'valid values: "In", "NotIn"'));
  else checkEnum(errors, `${path}.operator`, operator, ['In', 'NotIn']);
  if (containerName !== undefined && !names.has(containerName)) {
    const text = 'must be one of the container or initContainer names in the pod template';
    errors.push(invalid(`${path}.containerName`, containerName, text));
  }
  if (values.length === 0) {
    errors.push(invalid(`${path}.values`, values, 'at least one value is required'));
  } else if (values.length > MAX_EXIT_CODES) {
    errors.push(tooMany(`${path}.values`, values.length, MAX_EXIT_CODES));
  }
  const seen = new Set<number>();
  for (const [i, value] of values.entries()) {
    const at = `${path}.values[${i}]`;
    if (operator === 'In' && value === 0) {
      errors.push(invalid(at, value, 'must not be 0 for the In operator'));
    }
    if (seen.has(value)) errors.push(duplicate(at, value));
    const before = values[i - 1];
    if (before !== undefined && value < before) {
      errors.push(invalid(`${path}.values`, values, 'must be ordered'));
      break;
    }
    seen.add(value);
  }
}

/** What pods were made from stays, unless none is running yet. */
export function validateJobUpdate(object: Job, old: Job): Errors {
  const errors: Errors = [];
  const now = object.spec ?? ({} as JobSpec);
  const before = old.spec ?? ({} as JobSpec);
  checkCompletions(errors, now, before);
  checkImmutable(errors, 'spec.selector', now.selector, before.selector);
  checkTemplate(errors, object, old);
  for (const field of [
    'completionMode',
    'podFailurePolicy',
    'backoffLimitPerIndex',
    'managedBy',
    'successPolicy',
  ] as const) {
    checkImmutable(errors, `spec.${field}`, now[field], before[field]);
  }
  return errors;
}

function checkCompletions(errors: Errors, now: JobSpec, before: JobSpec): void {
  const path = 'spec.completions';
  if (now.completionMode !== 'Indexed') {
    checkImmutable(errors, path, now.completions, before.completions);
    return;
  }
  if (now.completions === before.completions) return;
  if (now.completions === undefined) {
    errors.push(required(path, 'when completion mode is Indexed'));
  } else if (now.completions !== now.parallelism || before.completions !== before.parallelism) {
    const rule = 'can only be modified in tandem with spec.parallelism';
    errors.push(invalid(path, now.completions, rule));
  }
}

/** Of a suspended job that never ran, where its pods go may change. Source: KEP-2926. */
const SCHEDULING = ['nodeSelector', 'affinity', 'tolerations', 'schedulingGates'] as const;

function checkTemplate(errors: Errors, object: Job, old: Job): void {
  const now = object.spec?.template;
  const before = old.spec?.template;
  if (sameMeaning(now, before)) return;
  const waiting = old.spec?.suspend && !old.status?.startTime;
  if (waiting && now && before && sameMeaning(withScheduling(now, before), before)) return;
  if (waiting) errors.push(invalid('spec.template.spec', now?.spec ?? null, 'field is immutable'));
  else errors.push(invalid('spec.template', now ?? null, 'field is immutable'));
}

function withScheduling(now: PodTemplateSpec, before: PodTemplateSpec): PodTemplateSpec {
  const spec: Record<string, unknown> = { ...now.spec };
  for (const field of SCHEDULING) {
    const value = before.spec?.[field];
    if (value === undefined) delete spec[field];
    else spec[field] = value;
  }
  const { labels, annotations } = before.metadata ?? {};
  return {
    metadata: {
      ...now.metadata,
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
    },
    spec: spec as unknown as NonNullable<PodTemplateSpec['spec']>,
  };
}

/** A job of a CronJob gets its selector when it is made. */
export function checkJobTemplateSelector(errors: Errors, path: string, spec: JobSpec): void {
  if (spec.selector) {
    errors.push(invalid(`${path}.selector`, spec.selector, '`selector` will be auto-generated'));
  }
  if (spec.manualSelector) {
    errors.push(notSupported(`${path}.manualSelector`, true, ['nil', 'false']));
  }
}
