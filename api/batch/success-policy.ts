import { invalid, required, tooLong, tooMany } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { Job } from '#api/types.ts';
import { checkNotNegative, type Errors } from '#api/validate.ts';

type JobSpec = NonNullable<Job['spec']>;
type Rule = NonNullable<JobSpec['successPolicy']>['rules'][number];

const MAX_RULES = 20;
const MAX_INDEXES_BYTES = 64 * 1024;

/** When an indexed job counts as done. Source: batch/v1 SuccessPolicy. */
export function checkSuccessPolicy(errors: Errors, path: string, spec: JobSpec): void {
  const { successPolicy, completionMode, completions = 0 } = spec;
  if (!successPolicy) return;
  if (completionMode !== 'Indexed') {
    const shown = internalForm('SuccessPolicy', successPolicy);
    errors.push(invalid(path, shown, 'requires indexed completion mode'));
    return;
  }
  const rules = successPolicy.rules ?? [];
  if (rules.length === 0) {
    const text = 'at least one rules must be specified when the successPolicy is specified';
    errors.push(required(`${path}.rules`, text));
  }
  if (rules.length > MAX_RULES) errors.push(tooMany(`${path}.rules`, rules.length, MAX_RULES));
  for (const [i, rule] of rules.entries()) {
    checkRule(errors, `${path}.rules[${i}]`, rule, completions);
  }
}

function checkRule(errors: Errors, path: string, rule: Rule, completions: number): void {
  const { succeededIndexes: indexes, succeededCount: count } = rule;
  if (indexes === undefined && count === undefined) {
    const text = 'at least one of succeededCount or succeededIndexes must be specified';
    errors.push(required(path, text));
  }
  let total = 0;
  if (indexes !== undefined) {
    const at = `${path}.succeededIndexes`;
    if (indexes.length > MAX_INDEXES_BYTES) errors.push(tooLong(at, MAX_INDEXES_BYTES));
    const counted = countIndexes(indexes, completions);
    if (typeof counted === 'number') total = counted;
    else errors.push(invalid(at, indexes, `error parsing succeededIndexes: ${counted}`));
  }
  if (count === undefined) return;
  const at = `${path}.succeededCount`;
  const atMost = (limit: number, what: string): void => {
    if (count <= limit) return;
    errors.push(invalid(at, count, `must be less than or equal to ${limit} (${what})`));
  };
  checkNotNegative(errors, at, count);
  atMost(completions, 'the number of specified completions');
  if (indexes === undefined) return;
  atMost(total, 'the number of indexes in the specified succeededIndexes field');
}

/** How many indexes `1,3-5` names; a text says what is wrong with it. */
function countIndexes(text: string, completions: number): number | string {
  let total = 0;
  let last = -1;
  for (const fragment of text === '' ? [] : text.split(',')) {
    const limits = fragment.split('-');
    if (limits.length > 2) {
      return `the fragment ${JSON.stringify(fragment)} violates the requirement that an index interval can have at most two parts separated by '-'`;
    }
    for (const limit of limits) {
      const shown = JSON.stringify(limit);
      if (!/^[+-]?\d+$/.test(limit)) return `cannot convert string to integer for index: ${shown}`;
      if (Number(limit) >= completions) return `too large index: ${shown}`;
    }
    const [first = 0, end = first] = limits.map(Number);
    if (limits.length > 1 && first >= end) return notIncreasing(first, end);
    if (last >= first) return notIncreasing(last, first);
    total += end - first + 1;
    last = end;
  }
  return total;
}

const notIncreasing = (before: number, now: number): string =>
  `non-increasing order, previous: ${before}, current: ${now}`;
