import { checkPodTemplate, checkRestartAlways } from '#api/core/pod-validate.ts';
import { forbidden, invalid, required } from '#api/field-error.ts';
import { matchesLabels } from '#api/labels.ts';
import type { LabelSelector, PodTemplateSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkNotNegative, NOT_NEGATIVE } from '#api/validate.ts';
import { checkLabelSelector, isEmptySelector } from '#api/validate-labels.ts';

type Workload = {
  selector?: LabelSelector | undefined;
  template?: PodTemplateSpec | undefined;
};

/** Words that differ between workloads. */
export type WorkloadWords = {
  /** What is said of a selector that selects everything. */
  emptySelector: string;
  /** What is said of a deadline in the template. */
  deadline: 'forbidden' | 'invalid';
};

const MISMATCH = '`selector` does not match template `labels`';

/**
 * Selector and template of a controller that keeps pods running: they have to fit together.
 * Source: apps/v1 DeploymentSpec, ReplicaSetSpec, StatefulSetSpec, DaemonSetSpec.
 */
export function checkSelectorAndTemplate(
  errors: Errors,
  path: string,
  spec: Workload,
  words: WorkloadWords,
): void {
  const { selector, template } = spec;
  const at = `${path}.selector`;
  const before = errors.length;
  if (!selector) errors.push(required(at));
  else checkLabelSelector(errors, at, selector);
  const readable = !selector || errors.length === before;
  if (selector && isEmptySelector(selector)) {
    errors.push(invalid(at, selector, words.emptySelector));
  }
  if (!readable) errors.push(invalid(at, selector, 'invalid label selector'));
  else if (template) checkTemplate(errors, `${path}.template`, selector, template, words);
}

function checkTemplate(
  errors: Errors,
  path: string,
  selector: LabelSelector | undefined,
  template: PodTemplateSpec,
  words: WorkloadWords,
): void {
  const labels = template.metadata?.labels;
  // Without a selector nothing matches; an empty one has been refused.
  if (!selector || (!isEmptySelector(selector) && !matchesLabels(selector, labels ?? {}))) {
    errors.push(invalid(`${path}.metadata.labels`, labels ?? null, MISMATCH));
  }
  checkPodTemplate(errors, path, template);
  checkRestartAlways(errors, path, template.spec);
  const seconds = template.spec?.activeDeadlineSeconds;
  if (seconds === undefined) return;
  const deadline = `${path}.spec.activeDeadlineSeconds`;
  if (words.deadline === 'invalid') {
    errors.push(invalid(deadline, seconds, 'must not be specified'));
  } else {
    errors.push(forbidden(deadline, 'activeDeadlineSeconds in ReplicaSet is not Supported'));
  }
}

const PERCENT = /^[0-9]+%$/;
const PERCENT_MESSAGE =
  "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/** A count or a share (`25%`). */
export function checkCountOrPercent(errors: Errors, path: string, value: unknown): void {
  if (typeof value === 'string') {
    if (!PERCENT.test(value)) errors.push(invalid(path, value, PERCENT_MESSAGE));
  } else if (typeof value === 'number' && value < 0) {
    errors.push(invalid(path, value, NOT_NEGATIVE));
  }
}

export function checkAtMostAll(errors: Errors, path: string, value: unknown): void {
  if (typeof value === 'string' && PERCENT.test(value) && Number(value.slice(0, -1)) > 100) {
    errors.push(invalid(path, value, 'must not be greater than 100%'));
  }
}

/** Zero, as a count or a share. */
export const isZeroCount = (value: unknown): boolean =>
  value === undefined ||
  value === 0 ||
  (typeof value === 'string' && PERCENT.test(value) && Number(value.slice(0, -1)) === 0);

/** Replica counts of a status: none negative, none above `replicas`. */
export function checkReplicaCounts(
  errors: Errors,
  status: Readonly<Record<string, unknown>>,
  fields: readonly string[],
): void {
  const count = (field: string): number => Number(status[field] ?? 0);
  for (const field of ['replicas', ...fields]) {
    checkNotNegative(errors, `status.${field}`, count(field));
  }
  for (const field of fields) {
    if (count(field) > count('replicas')) {
      const rule = 'cannot be greater than status.replicas';
      errors.push(invalid(`status.${field}`, count(field), rule));
    }
  }
  if (fields.includes('availableReplicas') && count('availableReplicas') > count('readyReplicas')) {
    const rule = 'cannot be greater than readyReplicas';
    errors.push(invalid('status.availableReplicas', count('availableReplicas'), rule));
  }
}

/** Collisions of generated names are only ever counted up. */
export function checkCollisions(
  errors: Errors,
  now: number | undefined,
  before: number | undefined,
): void {
  checkNotNegative(errors, 'status.collisionCount', now);
  if (before !== undefined && (now ?? 0) < before) {
    errors.push(invalid('status.collisionCount', now ?? 0, 'cannot be decremented'));
  }
}
