import { formatTime, parseTime } from '#api/time.ts';
import type { Job, Pod } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { pods as podResource } from '#client/resources.ts';
import {
  failsIndex,
  failuresBefore,
  isFailed,
  judgeFailure,
  limitsPerIndex,
} from '#controllers/job-failure.ts';
import {
  isIndexed,
  matchSuccessPolicy,
  parseIndexes,
  validIndexOf,
} from '#controllers/job-indexes.ts';
import { claim } from '#controllers/ownership.ts';
import { isActive, isTerminating } from '#controllers/pods.ts';

/** On pods that a job has yet to count. */
export const TRACKING = 'batch.kubernetes.io/job-tracking';

export type JobWorld = {
  job: Job;
  /** Pods that it manages, and orphans in its namespace. */
  pods: readonly Pod[];
};

export type JobCondition = NonNullable<NonNullable<Job['status']>['conditions']>[number];

/** Why a job ends, and how: first as an interim, then as a final condition. */
export type Ending = { failed: boolean; reason: string; message: string };

/** What the pods and the status together say. */
export type JobState = {
  adoptions: Action[];
  owned: readonly Pod[];
  active: readonly Pod[];
  terminating: readonly Pod[];
  /** Those that still carry the finalizer. */
  tracked: readonly Pod[];
  succeeded: number;
  succeededIndexes: ReadonlySet<number>;
  /** Only of jobs with a limit per index. */
  failedIndexes: ReadonlySet<number> | undefined;
  /** Failed pods that must stay until their index has a successor, which needs their counts. */
  lastFailed: ReadonlyMap<number, Pod>;
  ending: Ending | undefined;
  /** Until the active deadline, milliseconds. */
  deadlineInMs: number | undefined;
};

export const hasFinalizer = (pod: Pod): boolean =>
  pod.metadata.finalizers?.includes(TRACKING) ?? false;

export const isSuspended = (job: Job): boolean => job.spec?.suspend === true;

export const jobCondition = (job: Job, type: string): JobCondition | undefined =>
  job.status?.conditions?.find((one) => one.type === type && one.status === 'True');

export const isFinished = (job: Job): boolean =>
  jobCondition(job, 'Complete') !== undefined || jobCondition(job, 'Failed') !== undefined;

/** Pure. */
export function settleJob({ job, pods }: JobWorld, now: number): JobState {
  const selector = job.spec?.selector ?? {};
  const claims = claim(job, selector, pods, podResource, { finalizer: TRACKING });
  const { owned } = claims;
  const tracked = owned.filter(hasFinalizer);
  const active = owned.filter(isActive);
  const { succeeded: countedUids = [], failed: failedUids = [] } =
    job.status?.uncountedTerminatedPods ?? {};
  const noted = new Set([...countedUids, ...failedUids]);
  const fresh = tracked.filter(
    (pod) => !noted.has(pod.metadata.uid ?? '') && (!isIndexed(job) || validIndexOf(job, pod) >= 0),
  );
  const newFailed = fresh.filter((pod) => isFailed(job, pod) && judgeFailure(job, pod).counts);
  const succeededIndexes = succeededIndexesOf(job, tracked);
  const failedIndexes = failedIndexesOf(job, tracked);
  const newSucceeded = fresh.filter((pod) => pod.status?.phase === 'Succeeded').length;
  const succeeded = isIndexed(job)
    ? succeededIndexes.size
    : (job.status?.succeeded ?? 0) + newSucceeded + countedUids.length;
  const failed = (job.status?.failed ?? 0) + newFailed.length + failedUids.length;
  const deadlineInMs = deadlineOf(job, now);
  const state: JobState = {
    adoptions: claims.actions,
    owned,
    active,
    terminating: owned.filter(isTerminating),
    tracked,
    succeeded,
    succeededIndexes,
    failedIndexes,
    lastFailed: new Map(),
    ending: undefined,
    deadlineInMs,
  };
  const lastFailed = lastFailedOf(job, state);
  return { ...state, lastFailed, ending: endingOf(job, state, failed) };
}

function succeededIndexesOf(job: Job, tracked: readonly Pod[]): Set<number> {
  const indexes = parseIndexes(job.status?.completedIndexes, job.spec?.completions ?? 0);
  if (!isIndexed(job)) return indexes;
  for (const pod of tracked) {
    const index = validIndexOf(job, pod);
    if (index >= 0 && pod.status?.phase === 'Succeeded') indexes.add(index);
  }
  return indexes;
}

function failedIndexesOf(job: Job, tracked: readonly Pod[]): Set<number> | undefined {
  if (!limitsPerIndex(job)) return undefined;
  const indexes = parseIndexes(job.status?.failedIndexes, job.spec?.completions ?? 0);
  for (const pod of tracked) {
    const index = validIndexOf(job, pod);
    if (index >= 0 && isFailed(job, pod) && failsIndex(job, pod)) indexes.add(index);
  }
  return indexes;
}

function lastFailedOf(job: Job, state: JobState): Map<number, Pod> {
  const last = new Map<number, Pod>();
  const { failedIndexes, succeededIndexes, active } = state;
  if (!failedIndexes) return last;
  const running = new Set(active.map((pod) => validIndexOf(job, pod)));
  for (const pod of state.tracked) {
    const index = validIndexOf(job, pod);
    if (index < 0 || !isFailed(job, pod)) continue;
    if (succeededIndexes.has(index) || failedIndexes.has(index) || running.has(index)) continue;
    const before = last.get(index);
    if (!before || failuresBefore(before) <= failuresBefore(pod)) last.set(index, pod);
  }
  return last;
}

/** Milliseconds left; 0 = past it; undefined when the clock does not run. */
function deadlineOf(job: Job, now: number): number | undefined {
  const { activeDeadlineSeconds } = job.spec ?? {};
  const started = parseTime(job.status?.startTime ?? '');
  if (activeDeadlineSeconds === undefined || isSuspended(job)) return undefined;
  if (Number.isNaN(started)) return activeDeadlineSeconds * 1000;
  return Math.max(0, started + activeDeadlineSeconds * 1000 - now);
}

const failure = (reason: string, message: string): Ending => ({ failed: true, reason, message });

/** The first cause of failure, or of success, in upstream's order. */
function endingOf(job: Job, state: JobState, failed: number): Ending | undefined {
  const said = jobCondition(job, 'SuccessCriteriaMet') ?? jobCondition(job, 'FailureTarget');
  if (said) {
    const { reason = '', message = '' } = said;
    return { failed: said.type === 'FailureTarget', reason, message };
  }
  const message = failJobMessage(job, state.owned);
  if (message) return failure('PodFailurePolicy', message);
  if (failed > (job.spec?.backoffLimit ?? 6) || isPastRestarts(job, state.owned)) {
    return failure('BackoffLimitExceeded', 'Job has reached the specified backoff limit');
  }
  if (state.deadlineInMs === 0) {
    return failure('DeadlineExceeded', 'Job was active longer than specified deadline');
  }
  return isIndexed(job) ? indexedEnding(job, state) : simpleEnding(job, state);
}

function indexedEnding(job: Job, state: JobState): Ending | undefined {
  const { failedIndexes, succeededIndexes } = state;
  const { maxFailedIndexes, completions = 0 } = job.spec ?? {};
  if (failedIndexes && maxFailedIndexes !== undefined && failedIndexes.size > maxFailedIndexes) {
    const message = 'Job has exceeded the specified maximal number of failed indexes';
    return failure('MaxFailedIndexesExceeded', message);
  }
  const met = matchSuccessPolicy(job, succeededIndexes);
  const isOver = (failedIndexes?.size ?? 0) + succeededIndexes.size >= completions;
  if (failedIndexes && failedIndexes.size > 0 && isOver) {
    return failure('FailedIndexes', 'Job has failed indexes');
  }
  if (met) return { failed: false, reason: 'SuccessPolicy', message: met };
  return simpleEnding(job, state);
}

function simpleEnding(job: Job, { succeeded, active }: JobState): Ending | undefined {
  const { completions } = job.spec ?? {};
  const isComplete = completions === undefined ? succeeded > 0 : succeeded >= completions;
  if (!isComplete || active.length > 0) return undefined;
  const message = 'Reached expected number of succeeded pods';
  return { failed: false, reason: 'CompletionsReached', message };
}

function failJobMessage(job: Job, owned: readonly Pod[]): string {
  if (!job.spec?.podFailurePolicy) return '';
  for (const pod of owned) {
    const message = isFailed(job, pod) ? judgeFailure(job, pod).message : '';
    if (message) return message;
  }
  return '';
}

/** With OnFailure the same pod tries again, so its restarts count as failures. */
function isPastRestarts(job: Job, owned: readonly Pod[]): boolean {
  const { template, backoffLimit = 6 } = job.spec ?? {};
  if (template?.spec?.restartPolicy !== 'OnFailure') return false;
  let restarts = 0;
  for (const { status } of owned) {
    if (status?.phase !== 'Running' && status?.phase !== 'Pending') continue;
    const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
    for (const { restartCount } of all) restarts += restartCount;
  }
  return backoffLimit === 0 ? restarts > 0 : restarts >= backoffLimit;
}

/** A condition that begins now. */
export function newCondition(
  type: string,
  { reason, message, now }: { reason: string; message: string; now: number },
  status = 'True',
): JobCondition {
  const time = formatTime(now);
  return { type, status, lastProbeTime: time, lastTransitionTime: time, reason, message };
}
