import { parseTime } from '#api/time.ts';
import type { Job, JobSpec, Pod } from '#api/types.ts';
import { isIndexed } from '#controllers/job-indexes.ts';
import { podCondition } from '#controllers/pods.ts';

/** When a job's pod counts as failed, and what follows from it. Pure. */

const FAILURES = 'batch.kubernetes.io/job-index-failure-count';
const IGNORED_FAILURES = 'batch.kubernetes.io/job-index-ignored-failure-count';
/** Wait after the first failure in a row; it doubles with each more. */
const BACKOFF_MS = 10_000;
const MAX_BACKOFF_MS = 600_000;

/** Replacements are made only for pods that are over, not for those that are on their way out. */
export const replacesOnlyFailed = (job: Job): boolean =>
  job.spec?.podReplacementPolicy === 'Failed' || job.spec?.podFailurePolicy !== undefined;

export const limitsPerIndex = (job: Job): boolean =>
  isIndexed(job) && job.spec?.backoffLimitPerIndex !== undefined;

export function isFailed(job: Job, pod: Pod): boolean {
  const phase = pod.status?.phase;
  if (phase === 'Failed') return true;
  if (pod.metadata.deletionTimestamp === undefined) return false;
  // A pod that is deleted may never get to say how it ended.
  return replacesOnlyFailed(job) ? phase === 'Pending' : phase !== 'Succeeded';
}

type Rule = NonNullable<JobSpec['podFailurePolicy']>['rules'][number];

export type Judgement = {
  /** FailJob, FailIndex, Ignore, Count; '' when no rule fits. */
  action: string;
  /** Why the job fails, of a FailJob rule. */
  message: string;
  /** Whether the failure counts towards the limits. */
  counts: boolean;
};

const UNJUDGED: Judgement = { action: '', message: '', counts: true };

/** What the first fitting rule of the pod failure policy says. Source: KEP-3329. */
export function judgeFailure(job: Job, pod: Pod): Judgement {
  for (const [index, rule] of (job.spec?.podFailurePolicy?.rules ?? []).entries()) {
    const { action } = rule;
    if (action === 'FailIndex' && !limitsPerIndex(job)) continue;
    const message = rule.onExitCodes
      ? exitCodeMatch(pod, rule, index)
      : conditionMatch(pod, rule, index);
    if (message === undefined) continue;
    return { action, message: action === 'FailJob' ? message : '', counts: action !== 'Ignore' };
  }
  return UNJUDGED;
}

function exitCodeMatch(pod: Pod, rule: Rule, index: number): string | undefined {
  const { containerName, operator, values = [] } = rule.onExitCodes ?? {};
  const statuses = [
    ...(pod.status?.containerStatuses ?? []),
    ...(pod.status?.initContainerStatuses ?? []),
  ];
  for (const { name, state } of statuses) {
    const code = state?.terminated?.exitCode ?? 0;
    if (code === 0 || (containerName !== undefined && containerName !== name)) continue;
    if (values.includes(code) !== (operator === 'In')) continue;
    const which = `pod ${pod.metadata.namespace}/${pod.metadata.name}`;
    const how = `exit code ${code} matching ${rule.action} rule at index ${index}`;
    return `Container ${name} for ${which} failed with ${how}`;
  }
  return undefined;
}

function conditionMatch(pod: Pod, rule: Rule, index: number): string | undefined {
  for (const { type, status = 'True' } of rule.onPodConditions ?? []) {
    if (podCondition(pod, type)?.status !== status) continue;
    const which = `Pod ${pod.metadata.namespace}/${pod.metadata.name}`;
    return `${which} has condition ${type} matching ${rule.action} rule at index ${index}`;
  }
  return undefined;
}

const countAt = (pod: Pod | undefined, name: string): number =>
  Number(pod?.metadata.annotations?.[name] ?? '0') || 0;

/** Failures of the pod's index, ignored ones included, before this pod. */
export const failuresBefore = (pod: Pod): number =>
  countAt(pod, FAILURES) + countAt(pod, IGNORED_FAILURES);

/** Has this failure used up its index? */
export function failsIndex(job: Job, pod: Pod): boolean {
  const { action, counts } = judgeFailure(job, pod);
  if (action === 'FailIndex') return true;
  return counts && countAt(pod, FAILURES) >= (job.spec?.backoffLimitPerIndex ?? 0);
}

/** Annotations by which the next pod of an index knows of the failures before it. */
export function failureAnnotations(job: Job, last: Pod | undefined): Record<string, string> {
  let failures = countAt(last, FAILURES);
  let ignored = countAt(last, IGNORED_FAILURES);
  if (last && judgeFailure(job, last).counts) failures += 1;
  else if (last) ignored += 1;
  return {
    [FAILURES]: String(failures),
    ...(ignored > 0 ? { [IGNORED_FAILURES]: String(ignored) } : {}),
  };
}

/** When the pod was over, milliseconds; NaN when nothing tells. */
export function finishedAt(pod: Pod): number {
  const ends = (pod.status?.containerStatuses ?? []).map((status) =>
    parseTime(status.state?.terminated?.finishedAt ?? ''),
  );
  const known = ends.filter((ms) => !Number.isNaN(ms));
  if (known.length > 0 && known.length === ends.length) return Math.max(...known);
  const ready = podCondition(pod, 'Ready');
  const turned = parseTime(ready?.status === 'False' ? (ready.lastTransitionTime ?? '') : '');
  if (!Number.isNaN(turned)) return turned;
  const grace = (pod.metadata.deletionGracePeriodSeconds ?? 0) * 1000;
  return parseTime(pod.metadata.deletionTimestamp ?? '') - grace;
}

/** Milliseconds to wait after failures in a row, of which the last was at `lastMs`. */
export function backoffLeft(failures: number, lastMs: number, now: number): number {
  if (failures === 0 || Number.isNaN(lastMs)) return 0;
  const wait = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1));
  return Math.max(0, lastMs + wait - now);
}

/** Failures since the last success, told by the pods that are still there. */
export function failuresInARow(job: Job, pods: readonly Pod[]): { count: number; lastMs: number } {
  const ends = (test: (pod: Pod) => boolean): number[] =>
    pods
      .filter(test)
      .map(finishedAt)
      .filter((ms) => !Number.isNaN(ms));
  const lastSuccess = Math.max(0, ...ends((pod) => pod.status?.phase === 'Succeeded'));
  const since = ends((pod) => isFailed(job, pod)).filter((ms) => ms > lastSuccess);
  return { count: since.length, lastMs: Math.max(0, ...since) };
}
