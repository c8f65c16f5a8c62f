import { isDeepStrictEqual } from 'node:util';
import { parseCronSchedule } from '#api/batch/cron-schedule.ts';
import { formatTime, parseTime } from '#api/time.ts';
import type { CronJob, Job } from '#api/types.ts';
import type { Action, Outcome } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { cronJobs, jobs } from '#client/resources.ts';
import { lastDue, nextTime, zoneOffset, type ZoneOffset } from '#controllers/cron-times.ts';
import { isFinished, jobCondition } from '#controllers/job-state.ts';
import { controllerReference } from '#controllers/ownership.ts';

const SCHEDULED_AT = 'batch.kubernetes.io/cronjob-scheduled-timestamp';
/** A little after the full minute, for clocks that differ. */
const LATE_MS = 100;
/** More missed starts than this are worth a warning. */
const MANY_MISSED = 100;
const MINUTE_MS = 60_000;

export type CronJobWorld = {
  cronJob: CronJob;
  /** Jobs that it manages. */
  owned: readonly Job[];
};

type Status = NonNullable<CronJob['status']>;
type Reference = NonNullable<Status['active']>[number];

/** What the status should say of the jobs that are there, and what is to be told about them. */
type Review = { status: Status; said: Action[] };

type Note = { type: 'Normal' | 'Warning'; reason: string; message: string };

const say = (about: CronJob, note: Note): Action => ({ type: 'event', about, note });

const nameOf = (job: Job): string => job.metadata.name ?? '';

/** Starts what is due and removes old jobs. Pure. Source: batch/v1 CronJob. */
export function planCronJob(world: CronJobWorld, now: number): Plan {
  const { cronJob } = world;
  const review = reviewJobs(world);
  const cleaning = cleanHistory(world);
  const before = [...review.said, ...cleaning];
  if (cronJob.metadata.deletionTimestamp) return { actions: before };
  const zone = cronJob.spec?.timeZone ?? '';
  const offset = zoneOffset(zone);
  if (!offset) {
    const message = `invalid timeZone: ${JSON.stringify(zone)}: unknown time zone ${zone}`;
    return {
      actions: [...before, say(cronJob, { type: 'Warning', reason: 'UnknownTimeZone', message })],
    };
  }
  if (cronJob.spec?.suspend) return { actions: before };
  const started = startDue(world, review.status, { now, offset });
  return { ...started, actions: [...before, ...started.actions] };
}

type When = { now: number; offset: ZoneOffset };

function startDue(world: CronJobWorld, status: Status, when: When): Plan {
  const { cronJob } = world;
  const { now, offset } = when;
  const parsed = parseCronSchedule(cronJob.spec?.schedule ?? '');
  if (!parsed.ok) {
    const message = `unparseable schedule: ${JSON.stringify(cronJob.spec?.schedule)} : ${parsed.error}`;
    return { actions: [say(cronJob, { type: 'Warning', reason: 'UnparseableSchedule', message })] };
  }
  const { schedule } = parsed;
  const earliestMs = earliestOf(cronJob, now);
  const due = lastDue(schedule, { earliestMs, now, offset });
  const next = nextTime(schedule, Math.max(now, due?.atMs ?? earliestMs), offset);
  const requeue = next === undefined ? {} : { requeueAfterMs: next + LATE_MS - now };
  if (!due) return { actions: [], ...requeue };
  const actions: Action[] = [];
  if (due.missed > MANY_MISSED) {
    const message =
      'too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew';
    actions.push(say(cronJob, { type: 'Warning', reason: 'TooManyMissedTimes', message }));
  }
  const { startingDeadlineSeconds: deadline } = cronJob.spec ?? {};
  if (deadline !== undefined && due.atMs + deadline * 1000 < now) {
    const at = new Date(due.atMs).toUTCString().replace('GMT', '+0000');
    const message = `Missed scheduled time to start a job: ${at}`;
    actions.push(say(cronJob, { type: 'Warning', reason: 'MissSchedule', message }));
    return { actions, ...requeue };
  }
  actions.push(...startAt(world, status, { ...when, atMs: due.atMs }));
  return { actions, ...requeue };
}

/** Starts before the last one, or before the deadline, are of no interest. */
function earliestOf(cronJob: CronJob, now: number): number {
  const { lastScheduleTime } = cronJob.status ?? {};
  const earliest = parseTime(lastScheduleTime ?? cronJob.metadata.creationTimestamp ?? '');
  const deadline = cronJob.spec?.startingDeadlineSeconds;
  return deadline === undefined ? earliest : Math.max(earliest, now - deadline * 1000);
}

function startAt(world: CronJobWorld, status: Status, when: When & { atMs: number }): Action[] {
  const { cronJob, owned } = world;
  const job = jobAt(cronJob, when);
  if (owned.some((one) => nameOf(one) === nameOf(job))) return [];
  const policy = cronJob.spec?.concurrencyPolicy;
  const active = status.active ?? [];
  if (policy === 'Forbid' && active.length > 0) {
    const message =
      'Not starting job because prior execution is running and concurrency policy is Forbid';
    return [say(cronJob, { type: 'Normal', reason: 'JobAlreadyActive', message })];
  }
  const uids = new Set(active.map(({ uid }) => uid));
  const replaced = policy === 'Replace' ? owned.filter((one) => uids.has(one.metadata.uid)) : [];
  return [
    ...replaced.map((one) => deleteJob(cronJob, one)),
    {
      type: 'create',
      resource: jobs,
      object: job,
      // We made it before, and could not write that down.
      ifExists: 'ignore',
      announce: {
        about: cronJob,
        success: { type: 'Normal', reason: 'SuccessfulCreate', message: 'Created job {name}' },
        failure: {
          type: 'Warning',
          reason: 'FailedCreate',
          message: 'Error creating job: {error}',
        },
      },
    },
  ];
}

function jobAt(cronJob: CronJob, { atMs, offset }: When & { atMs: number }): Job {
  const { metadata = {}, spec } = cronJob.spec?.jobTemplate ?? {};
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      // Of the minute, so that one start makes one job, whoever tries.
      name: `${cronJob.metadata.name}-${Math.floor(atMs / MINUTE_MS)}`,
      namespace: cronJob.metadata.namespace ?? '',
      ...(metadata.labels ? { labels: metadata.labels } : {}),
      annotations: { ...metadata.annotations, [SCHEDULED_AT]: zonedTime(atMs, offset(atMs)) },
      ownerReferences: [controllerReference(cronJob)],
    },
    ...(spec ? { spec } : {}),
  };
}

/** RFC 3339 with the zone's offset. */
function zonedTime(atMs: number, offsetMs: number): string {
  const wall = formatTime(atMs + offsetMs);
  if (offsetMs === 0) return wall;
  const minutes = Math.abs(offsetMs) / MINUTE_MS;
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const sign = offsetMs < 0 ? '-' : '+';
  return `${wall.slice(0, -1)}${sign}${two(minutes / 60)}:${two(minutes % 60)}`;
}

function deleteJob(cronJob: CronJob, job: Job): Action {
  const { namespace, uid = '' } = job.metadata;
  const name = nameOf(job);
  return {
    type: 'delete',
    resource: jobs,
    key: { namespace, name },
    uid,
    propagationPolicy: 'Background',
    announce: {
      about: cronJob,
      success: { type: 'Normal', reason: 'SuccessfulDelete', message: 'Deleted job {name}' },
      failure: { type: 'Warning', reason: 'FailedDelete', message: 'Deleted job: {error}' },
    },
  };
}

/** Finished jobs above the limits go, the oldest first. */
function cleanHistory({ cronJob, owned }: CronJobWorld): Action[] {
  const { successfulJobsHistoryLimit: good = 3, failedJobsHistoryLimit: bad = 1 } =
    cronJob.spec ?? {};
  const oldest = (type: string, limit: number): Job[] => {
    const ended = owned
      .filter((job) => jobCondition(job, type) && !job.metadata.deletionTimestamp)
      .sort(earlierFirst);
    return ended.slice(0, Math.max(0, ended.length - limit));
  };
  const surplus = [...oldest('Complete', good), ...oldest('Failed', bad)];
  return surplus.map((job) => deleteJob(cronJob, job));
}

function earlierFirst(a: Job, b: Job): number {
  const began = (job: Job): number => parseTime(job.status?.startTime ?? '') || Infinity;
  const first = began(a);
  const second = began(b);
  if (first !== second) return first - second;
  return nameOf(a) < nameOf(b) ? -1 : 1;
}

/** Compares the list of active jobs with the jobs that there are. */
function reviewJobs({ cronJob, owned }: CronJobWorld): Review {
  const said: Action[] = [];
  const listed = cronJob.status?.active ?? [];
  const byUid = new Map(owned.map((job) => [job.metadata.uid, job]));
  const active: Reference[] = [];
  const status: Status = { ...cronJob.status };
  for (const reference of listed) {
    const job = byUid.get(reference.uid);
    if (!job) {
      const message = `Active job went missing: ${reference.name}`;
      said.push(say(cronJob, { type: 'Normal', reason: 'MissingJob', message }));
    } else if (isFinished(job)) {
      const how = jobCondition(job, 'Complete') ? 'Complete' : 'Failed';
      const message = `Saw completed job: ${nameOf(job)}, condition: ${how}`;
      said.push(say(cronJob, { type: 'Normal', reason: 'SawCompletedJob', message }));
      noteSuccess(status, job);
    } else active.push(reference);
  }
  const known = new Set(listed.map(({ uid }) => uid));
  for (const job of owned) {
    if (known.has(job.metadata.uid)) continue;
    if (isFinished(job)) noteSuccess(status, job);
    else if (isStartOf(cronJob, job)) active.push(referenceTo(job));
    else {
      const message = `Saw a job that the controller did not create or forgot: ${nameOf(job)}`;
      said.push(say(cronJob, { type: 'Warning', reason: 'UnexpectedJob', message }));
    }
  }
  if (active.length > 0) status.active = active;
  else delete status.active;
  return { status, said };
}

function noteSuccess(status: Status, job: Job): void {
  const { completionTime } = job.status ?? {};
  if (!completionTime || !jobCondition(job, 'Complete')) return;
  const before = parseTime(status.lastSuccessfulTime ?? '') || 0;
  if (parseTime(completionTime) > before) status.lastSuccessfulTime = completionTime;
}

/** We start jobs under names that tell their minute. */
const isStartOf = (cronJob: CronJob, job: Job): boolean => startOf(cronJob, job) !== undefined;

function startOf(cronJob: CronJob, job: Job): number | undefined {
  const prefix = `${cronJob.metadata.name}-`;
  const minute = nameOf(job).startsWith(prefix) ? nameOf(job).slice(prefix.length) : '';
  const annotated = parseTime(job.metadata.annotations?.[SCHEDULED_AT] ?? '');
  if (!/^\d+$/.test(minute) || Number.isNaN(annotated)) return undefined;
  return Math.floor(annotated / MINUTE_MS) === Number(minute) ? annotated : undefined;
}

function referenceTo(job: Job): Reference {
  const { namespace = '', uid = '', resourceVersion = '' } = job.metadata;
  const { apiVersion = 'batch/v1', kind = 'Job' } = job;
  return { apiVersion, kind, namespace, name: nameOf(job), uid, resourceVersion };
}

/** Writes down which jobs are active and when the last was started. Pure. */
export function reportCronJob(world: CronJobWorld, outcome: Outcome, now: number): Action[] {
  const { cronJob, owned } = world;
  const { status } = reviewJobs(world);
  const began = owned.flatMap((job) => startOf(cronJob, job) ?? []);
  const made = outcome.failures.length > 0 ? undefined : madeNow(world, status, now);
  const last = Math.max(0, ...began, made ?? 0);
  if (last > (parseTime(status.lastScheduleTime ?? '') || 0)) {
    status.lastScheduleTime = formatTime(last);
  }
  if (isDeepStrictEqual(status, cronJob.status ?? {})) return [];
  return [{ type: 'updateStatus', resource: cronJobs, object: { ...cronJob, status } }];
}

function madeNow(world: CronJobWorld, status: Status, now: number): number | undefined {
  const { cronJob } = world;
  const offset = zoneOffset(cronJob.spec?.timeZone ?? '');
  if (!offset || cronJob.spec?.suspend || cronJob.metadata.deletionTimestamp) return undefined;
  const { actions } = startDue(world, status, { now, offset });
  const made = actions.find((action) => action.type === 'create');
  return made ? startOf(cronJob, made.object as Job) : undefined;
}
