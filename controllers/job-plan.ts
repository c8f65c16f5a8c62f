import { isDeepStrictEqual } from 'node:util';
import { formatTime } from '#api/time.ts';
import type { Job, Pod } from '#api/types.ts';
import type { Action, Outcome } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { jobs, pods as podResource } from '#client/resources.ts';
import { isFailed, judgeFailure } from '#controllers/job-failure.ts';
import { formatIndexes, isIndexed, validIndexOf } from '#controllers/job-indexes.ts';
import { type Management, manage, managingActions } from '#controllers/job-manage.ts';
import {
  isFinished,
  isSuspended,
  jobCondition,
  type JobCondition,
  type JobState,
  type JobWorld,
  newCondition,
  settleJob,
  TRACKING,
} from '#controllers/job-state.ts';
import { removeFinalizer } from '#controllers/ownership.ts';
import { isReady } from '#controllers/pods.ts';
import { isSameStatus } from '#controllers/same-status.ts';

/** Most pods in the status at a time, so that it stays below 20 KB. */
const MAX_UNCOUNTED = 500;

type Status = NonNullable<Job['status']>;
type Uncounted = { succeeded: string[]; failed: string[] };

/** Ended pods on their way into the counts: noted by uid, then freed, then counted. */
type Tracking = { uncounted: Uncounted; free: readonly Pod[]; succeeded: number; failed: number };

/**
 * Starts, replaces and counts a job's pods. Pure. Each ended pod is first noted in the status, then
 * loses its finalizer, and is then counted, so that none is counted twice or forgotten.
 * Source: KEP-2307.
 */
export function planJob(world: JobWorld, now: number): Plan {
  const { job } = world;
  const state = settleJob(world, now);
  if (state.adoptions.length > 0) return { actions: state.adoptions };
  if (isFinished(job)) return { actions: freeing(state.tracked) };
  const managed = manage(job, state, now);
  const tracking = track(job, state, managed);
  const waits = [managed.requeueAfterMs, state.ending ? undefined : state.deadlineInMs];
  const known = waits.filter((ms) => ms !== undefined);
  const requeue = known.length > 0 ? { requeueAfterMs: Math.min(...known) } : {};
  const acting = managingActions(job, managed);
  if (!isTracking(job, tracking)) return { actions: acting, ...requeue };
  const writing = writeStatus(job, nextStatus(job, state, { tracking, now }));
  return { actions: [...writing, ...freeing(tracking.free), ...acting], ...requeue };
}

function freeing(pods: readonly Pod[]): Action[] {
  if (pods.length === 0) return [];
  const actions = pods.map((pod) => removeFinalizer(pod, podResource, TRACKING));
  return [{ type: 'together', actions }];
}

const uncountedOf = (job: Job): Uncounted => ({
  succeeded: [...(job.status?.uncountedTerminatedPods?.succeeded ?? [])],
  failed: [...(job.status?.uncountedTerminatedPods?.failed ?? [])],
});

const isTracking = (job: Job, { free, uncounted }: Tracking): boolean =>
  free.length > 0 || !isDeepStrictEqual(uncounted, uncountedOf(job));

function track(job: Job, state: JobState, managed: Management): Tracking {
  const withFinalizer = new Set(state.tracked.map((pod) => pod.metadata.uid ?? ''));
  const noted = uncountedOf(job);
  const uncounted: Uncounted = {
    succeeded: noted.succeeded.filter((uid) => withFinalizer.has(uid)),
    failed: noted.failed.filter((uid) => withFinalizer.has(uid)),
  };
  const succeeded = noted.succeeded.length - uncounted.succeeded.length;
  const failed = noted.failed.length - uncounted.failed.length;
  // Active pods are stopped before anyone counts them.
  const isBusy = managed.stop.length > 0;
  const free: Pod[] = [];
  for (const pod of state.tracked) {
    if (uncounted.succeeded.length + uncounted.failed.length >= MAX_UNCOUNTED) break;
    if (free.length >= MAX_UNCOUNTED || !mayFree(job, state, pod)) continue;
    if (isBusy && managed.stop.includes(pod)) continue;
    free.push(pod);
    note(job, state, { pod, uncounted });
  }
  return { uncounted, free, succeeded, failed };
}

function mayFree(job: Job, { ending, lastFailed }: JobState, pod: Pod): boolean {
  if (job.metadata.deletionTimestamp || ending || pod.status?.phase === 'Succeeded') return true;
  return isFailed(job, pod) && lastFailed.get(validIndexOf(job, pod)) !== pod;
}

function note(
  job: Job,
  { ending }: JobState,
  { pod, uncounted }: { pod: Pod; uncounted: Uncounted },
): void {
  const { uid = '' } = pod.metadata;
  if (pod.status?.phase === 'Succeeded' && !uncounted.failed.includes(uid)) {
    // Indexes cannot be counted twice, so they need no uids.
    if (!isIndexed(job) && !uncounted.succeeded.includes(uid)) uncounted.succeeded.push(uid);
    return;
  }
  // Whatever has not ended when the job fails has failed with it; success needed it no more.
  const isStopped = ending !== undefined && pod.status?.phase !== 'Failed';
  if (isStopped ? !ending.failed : !isFailed(job, pod)) return;
  const hasPlace = !isIndexed(job) || validIndexOf(job, pod) >= 0;
  if (!hasPlace || uncounted.failed.includes(uid) || !judgeFailure(job, pod).counts) return;
  uncounted.failed.push(uid);
}

type Next = {
  tracking: Tracking;
  now: number;
  /** What was done and does not show in the pods yet. */
  done?: Management;
};

function nextStatus(job: Job, state: JobState, { tracking, now, done }: Next): Status {
  const { uncounted } = tracking;
  const old = job.status ?? {};
  const gone = done ? [...done.release, ...done.stop] : [];
  const active = state.active.length + (done?.create.length ?? 0) - gone.length;
  const ready =
    state.active.filter((pod) => isReady(pod)).length - gone.filter((pod) => isReady(pod)).length;
  const { conditions: _, uncountedTerminatedPods: __, ...rest } = old;
  const status: Status = {
    ...rest,
    active,
    ready,
    terminating: state.terminating.length + gone.length,
    succeeded: isIndexed(job)
      ? state.succeededIndexes.size
      : (old.succeeded ?? 0) + tracking.succeeded,
    failed: (old.failed ?? 0) + tracking.failed,
    uncountedTerminatedPods: {
      ...(uncounted.succeeded.length > 0 ? { succeeded: uncounted.succeeded } : {}),
      ...(uncounted.failed.length > 0 ? { failed: uncounted.failed } : {}),
    },
  };
  if (isIndexed(job)) {
    const indexes = formatIndexes(state.succeededIndexes);
    if (indexes) status.completedIndexes = indexes;
    else delete status.completedIndexes;
    if (state.failedIndexes) status.failedIndexes = formatIndexes(state.failedIndexes);
  }
  if (!isSuspended(job)) status.startTime ??= formatTime(now);
  const conditions = conditionsAfter(job, state, { status, tracking, now });
  if (conditions.length > 0) status.conditions = conditions;
  return status;
}

type Ends = { status: Status; tracking: Tracking; now: number };

function conditionsAfter(job: Job, state: JobState, ends: Ends): JobCondition[] {
  const conditions = [...(job.status?.conditions ?? [])];
  const { ending } = state;
  const { status, now } = ends;
  if (!ending) {
    if (!job.metadata.deletionTimestamp) suspendOrResume(job, conditions, ends);
    return conditions;
  }
  const { reason, message, failed } = ending;
  const interim = failed ? 'FailureTarget' : 'SuccessCriteriaMet';
  if (!jobCondition(job, interim)) conditions.push(newCondition(interim, { reason, message, now }));
  if (!isQuiet(state, ends)) return conditions;
  conditions.push(newCondition(failed ? 'Failed' : 'Complete', { reason, message, now }));
  if (!failed) status.completionTime = formatTime(now);
  return conditions;
}

/** Every pod is over and counted: only now may the job say that it is. */
function isQuiet({ tracked }: JobState, { status, tracking }: Ends): boolean {
  const { uncounted } = tracking;
  const open = uncounted.succeeded.length + uncounted.failed.length;
  return open === 0 && tracked.length === 0 && !status.active && !status.terminating;
}

function suspendOrResume(job: Job, conditions: JobCondition[], { status, now }: Ends): void {
  const at = conditions.findIndex((one) => one.type === 'Suspended');
  const suspend = isSuspended(job);
  if ((conditions[at]?.status === 'True') === suspend) return;
  const [reason, message] = suspend
    ? ['JobSuspended', 'Job suspended']
    : ['JobResumed', 'Job resumed'];
  const condition = newCondition('Suspended', { reason, message, now }, suspend ? 'True' : 'False');
  if (at < 0) conditions.push(condition);
  else conditions[at] = condition;
  // The active deadline counts from the last start.
  if (!suspend) status.startTime = formatTime(now);
}

/** What is left to write down after a plan was tried. Pure. */
export function reportJob(world: JobWorld, outcome: Outcome, now: number): readonly Action[] {
  const { job } = world;
  const state = settleJob(world, now);
  if (state.adoptions.length > 0 || isFinished(job)) return [];
  const managed = manage(job, state, now);
  const tracking = track(job, state, managed);
  // The plan has written the status itself; what it did besides will show up in the pods.
  if (isTracking(job, tracking)) return [];
  const isDone = outcome.failures.length === 0;
  const next = nextStatus(job, state, { tracking, now, ...(isDone ? { done: managed } : {}) });
  return writeStatus(job, next);
}

function writeStatus(job: Job, status: Status): Action[] {
  if (isSameStatus(status, job.status)) return [];
  const said = [...announcements(job, status)];
  return [{ type: 'updateStatus', resource: jobs, object: { ...job, status } }, ...said];
}

function* announcements(job: Job, status: Status): Generator<Action> {
  for (const { type, status: value, reason = '', message = '' } of status.conditions ?? []) {
    const before = job.status?.conditions?.find((one) => one.type === type);
    if (before?.status === value) continue;
    const say = (kind: 'Normal' | 'Warning', why: string, text: string): Action => ({
      type: 'event',
      about: job,
      note: { type: kind, reason: why, message: text },
    });
    if (type === 'Complete') yield say('Normal', 'Completed', 'Job completed');
    else if (type === 'Failed') yield say('Warning', reason, message);
    else if (type === 'Suspended') {
      yield say('Normal', value === 'True' ? 'Suspended' : 'Resumed', message);
    }
  }
}
