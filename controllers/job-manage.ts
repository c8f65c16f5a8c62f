import type { Container, Job, Pod } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { pods as podResource } from '#client/resources.ts';
import {
  backoffLeft,
  failureAnnotations,
  failuresBefore,
  failuresInARow,
  finishedAt,
  limitsPerIndex,
  replacesOnlyFailed,
} from '#controllers/job-failure.ts';
import { INDEX_ANNOTATION, isIndexed, validIndexOf } from '#controllers/job-indexes.ts';
import { hasFinalizer, isSuspended, type JobState, TRACKING } from '#controllers/job-state.ts';
import { removeFinalizer } from '#controllers/ownership.ts';
import { createOwned, deleteOwned } from '#controllers/pod-actions.ts';
import { rankForDeletion } from '#controllers/pod-ranking.ts';
import { podFromTemplate } from '#controllers/pods.ts';

/** Most pods created or deleted by one plan. Source: upstream's MaxPodCreateDeletePerSync. */
const MAX_BURST = 500;
const INDEX_ENV = 'JOB_COMPLETION_INDEX';

export type Management = {
  create: readonly Pod[];
  /** Deleted by choice: not failures, so the finalizer goes first. */
  release: readonly Pod[];
  /** Deleted because the job is over: counted afterwards. */
  stop: readonly Pod[];
  requeueAfterMs?: number;
};

const NOTHING: Management = { create: [], release: [], stop: [] };

/** Which pods come and go. Pure. */
export function manage(job: Job, state: JobState, now: number): Management {
  const { active, ending, terminating } = state;
  if (ending) return { ...NOTHING, stop: active };
  if (job.metadata.deletionTimestamp) return NOTHING;
  if (isSuspended(job)) return { ...NOTHING, release: active.slice(0, MAX_BURST) };
  const wanted = wantedActive(job, state);
  const surplus = surplusOf(job, active, { count: active.length - wanted, now });
  if (surplus.length > 0) return { ...NOTHING, release: surplus.slice(0, MAX_BURST) };
  const waiting = replacesOnlyFailed(job) ? terminating.length : 0;
  const missing = Math.min(wanted - waiting - active.length, MAX_BURST);
  if (missing <= 0) return NOTHING;
  return grow(job, state, { missing, now });
}

function grow(
  job: Job,
  state: JobState,
  { missing, now }: { missing: number; now: number },
): Management {
  if (!limitsPerIndex(job)) {
    const { count, lastMs } = failuresInARow(job, state.owned);
    const waitMs = backoffLeft(count, lastMs, now);
    if (waitMs > 0) return { ...NOTHING, requeueAfterMs: waitMs };
  }
  if (!isIndexed(job)) {
    return { ...NOTHING, create: Array.from({ length: missing }, () => podOf(job)) };
  }
  const pending = pendingIndexes(job, state, missing);
  const waits = new Map(pending.map((index) => [index, waitOf(state.lastFailed.get(index), now)]));
  const ready = pending.filter((index) => waits.get(index) === 0);
  const requeue =
    ready.length < pending.length
      ? { requeueAfterMs: Math.min(...[...waits.values()].filter((ms) => ms > 0)) }
      : {};
  const create = ready.map((index) => indexedPod(job, index, state.lastFailed.get(index)));
  return { ...NOTHING, create, ...requeue };
}

const waitOf = (last: Pod | undefined, now: number): number =>
  last ? backoffLeft(failuresBefore(last) + 1, finishedAt(last), now) : 0;

function wantedActive(job: Job, { succeeded, active }: JobState): number {
  const { completions, parallelism = 1 } = job.spec ?? {};
  // A work queue: after the first success whoever runs may finish, and nobody new is started.
  if (completions === undefined) return succeeded > 0 ? active.length : parallelism;
  return Math.max(0, Math.min(completions - succeeded, parallelism));
}

/** Second pods of an index and those without a place go whatever is wanted. */
function surplusOf(
  job: Job,
  active: readonly Pod[],
  { count, now }: { count: number; now: number },
): Pod[] {
  const ranked = rankForDeletion(active, [], now);
  if (!isIndexed(job)) return ranked.slice(0, Math.max(0, count));
  const surplus = new Set<Pod>();
  const kept = new Map<number, Pod>();
  // Those that would be deleted last are the ones to keep.
  for (const pod of ranked.toReversed()) {
    const index = validIndexOf(job, pod);
    if (index < 0 || kept.has(index)) surplus.add(pod);
    else kept.set(index, pod);
  }
  for (const pod of ranked) {
    if (surplus.size >= count) break;
    surplus.add(pod);
  }
  return [...surplus];
}

function pendingIndexes(job: Job, state: JobState, count: number): number[] {
  const taken = new Set([
    ...state.succeededIndexes,
    ...(state.failedIndexes ?? []),
    ...state.active.map((pod) => validIndexOf(job, pod)),
    ...(replacesOnlyFailed(job) ? state.terminating.map((pod) => validIndexOf(job, pod)) : []),
  ]);
  const pending: number[] = [];
  const completions = job.spec?.completions ?? 0;
  for (let index = 0; index < completions && pending.length < count; index++) {
    if (!taken.has(index)) pending.push(index);
  }
  return pending;
}

function podOf(job: Job): Pod {
  const pod = podFromTemplate(job.spec?.template ?? {}, job);
  const finalizers = [...new Set([...(pod.metadata.finalizers ?? []), TRACKING])];
  return { ...pod, metadata: { ...pod.metadata, finalizers } };
}

/** Knows its index by annotation, label, environment and host name. */
function indexedPod(job: Job, index: number, last: Pod | undefined): Pod {
  const pod = podOf(job);
  const { metadata, spec } = pod;
  const text = String(index);
  const failures = limitsPerIndex(job) ? failureAnnotations(job, last) : {};
  return {
    ...pod,
    metadata: {
      ...metadata,
      generateName: `${job.metadata.name}-${index}-`,
      annotations: { ...metadata.annotations, [INDEX_ANNOTATION]: text, ...failures },
      labels: { ...metadata.labels, [INDEX_ANNOTATION]: text },
    },
    spec: {
      ...spec,
      hostname: `${job.metadata.name}-${index}`,
      containers: spec.containers.map(withIndex),
      ...(spec.initContainers ? { initContainers: spec.initContainers.map(withIndex) } : {}),
    },
  };
}

function withIndex(container: Container): Container {
  if (container.env?.some((one) => one.name === INDEX_ENV)) return container;
  const fieldPath = `metadata.labels['${INDEX_ANNOTATION}']`;
  const own = { name: INDEX_ENV, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } };
  return { ...container, env: [...(container.env ?? []), own] };
}

/** The management as actions. */
export function managingActions(job: Job, { create, release, stop }: Management): Action[] {
  const actions: Action[] = [];
  const tracked = release.filter(hasFinalizer);
  if (tracked.length > 0) {
    const freed = tracked.map((pod) => removeFinalizer(pod, podResource, TRACKING));
    actions.push({ type: 'together', actions: freed });
  }
  const victims = [...release, ...stop];
  if (victims.length > 0) {
    actions.push({ type: 'together', actions: victims.map((pod) => deleteOwned(pod, job)) });
  }
  if (create.length > 0) {
    actions.push({ type: 'slowStart', actions: create.map((pod) => createOwned(pod, job)) });
  }
  return actions;
}
