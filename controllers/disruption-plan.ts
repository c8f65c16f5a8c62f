import { formatTime, parseTime } from '#api/time.ts';
import type { Pod, PodDisruptionBudget } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { podDisruptionBudgets } from '#client/resources.ts';
import { resolveCount } from '#controllers/deployment-sizes.ts';
import { isReady } from '#controllers/pods.ts';
import { isSameStatus } from '#controllers/same-status.ts';

/** An eviction that was granted must show as a deletion within this time. Source: upstream. */
const DELETION_TIMEOUT_MS = 120_000;

export type BudgetWorld = {
  budget: PodDisruptionBudget;
  /** Pods that its selector picks. */
  pods: readonly Pod[];
  /** Wanted sizes of the controllers of these pods; undefined when one is not known yet. */
  scale: number | undefined;
};

type Status = NonNullable<PodDisruptionBudget['status']>;
type Condition = NonNullable<Status['conditions']>[number];
type Need = { expected: number; desired: number };

/** Recomputes how many pods may be evicted. Pure. Source: policy/v1 PodDisruptionBudget. */
export function planBudget(world: BudgetWorld, now: number): Plan {
  const { budget, pods } = world;
  const said: Action[] = [];
  if (pods.length === 0) {
    const note = { type: 'Normal', reason: 'NoPods', message: 'No matching pods found' } as const;
    if (budget.status?.observedGeneration !== budget.metadata.generation) {
      said.push({ type: 'event', about: budget, note });
    }
  }
  const { disrupted, overdue, recheckInMs } = disruptedPods(world, now);
  const { namespace, name } = budget.metadata;
  for (const pod of overdue) {
    const message = `Pod was expected by PDB ${namespace}/${name} to be deleted but it wasn't`;
    said.push({
      type: 'event',
      about: pod,
      note: { type: 'Warning', reason: 'NotDeleted', message },
    });
  }
  const status = statusOf(world, disrupted, now);
  const requeue = recheckInMs === undefined ? {} : { requeueAfterMs: recheckInMs };
  if (isSameStatus(status, budget.status)) {
    return { actions: said, ...requeue };
  }
  const object = { ...budget, status };
  const write: Action = { type: 'updateStatus', resource: podDisruptionBudgets, object };
  return { actions: [write, ...said], ...requeue };
}

type Disrupted = { disrupted: Record<string, string>; overdue: Pod[]; recheckInMs?: number };

/** Evictions that were granted, and whose pods do not show it yet. */
function disruptedPods({ budget, pods }: BudgetWorld, now: number): Disrupted {
  const noted = (budget.status?.disruptedPods ?? {}) as Record<string, string>;
  const disrupted: Record<string, string> = {};
  const overdue: Pod[] = [];
  const waits: number[] = [];
  for (const pod of pods) {
    const at = noted[pod.metadata.name ?? ''];
    if (at === undefined || pod.metadata.deletionTimestamp) continue;
    const leftMs = parseTime(at) + DELETION_TIMEOUT_MS - now;
    if (leftMs > 0) {
      disrupted[pod.metadata.name ?? ''] = at;
      waits.push(leftMs);
    } else overdue.push(pod);
  }
  return { disrupted, overdue, ...(waits.length > 0 ? { recheckInMs: Math.min(...waits) } : {}) };
}

function needOf({ budget, pods, scale }: BudgetWorld): Need | undefined {
  const { minAvailable, maxUnavailable } = budget.spec ?? {};
  if (maxUnavailable !== undefined) {
    if (scale === undefined) return undefined;
    const most = resolveCount(maxUnavailable as string | number, scale, 'up');
    return { expected: scale, desired: Math.max(0, scale - most) };
  }
  if (typeof minAvailable === 'number') return { expected: pods.length, desired: minAvailable };
  if (minAvailable === undefined) return { expected: 0, desired: 0 };
  if (scale === undefined) return undefined;
  return { expected: scale, desired: resolveCount(minAvailable as string, scale, 'up') };
}

function statusOf(world: BudgetWorld, disrupted: Record<string, string>, now: number): Status {
  const { budget, pods } = world;
  const need = needOf(world);
  const old: Partial<Status> = budget.status ?? {};
  const { disruptedPods: _, ...rest } = old;
  if (!need) {
    // As long as we do not know, nobody may go.
    const conditions = withCondition(old.conditions, now, {
      status: 'False',
      reason: 'SyncFailed',
      message: 'the controllers of the selected pods were not found',
      observedGeneration: budget.metadata.generation ?? 0,
    });
    const counts = { currentHealthy: 0, desiredHealthy: 0, expectedPods: 0 };
    return { ...counts, ...rest, disruptionsAllowed: 0, conditions };
  }
  const { expected, desired } = need;
  const healthy = pods.filter(
    (pod) =>
      !pod.metadata.deletionTimestamp &&
      disrupted[pod.metadata.name ?? ''] === undefined &&
      isReady(pod),
  ).length;
  const allowed = expected <= 0 ? 0 : Math.max(0, healthy - desired);
  const observedGeneration = budget.metadata.generation ?? 0;
  const conditions = withCondition(old.conditions, now, {
    status: allowed > 0 ? 'True' : 'False',
    reason: allowed > 0 ? 'SufficientPods' : 'InsufficientPods',
    message: '',
    observedGeneration,
  });
  return {
    ...rest,
    currentHealthy: healthy,
    desiredHealthy: desired,
    expectedPods: expected,
    disruptionsAllowed: allowed,
    ...(Object.keys(disrupted).length > 0
      ? { disruptedPods: disrupted as unknown as NonNullable<Status['disruptedPods']> }
      : {}),
    observedGeneration,
    conditions,
  };
}

function withCondition(
  conditions: readonly Condition[] | undefined,
  now: number,
  next: Omit<Condition, 'type' | 'lastTransitionTime'>,
): Condition[] {
  const before = conditions?.find((one) => one.type === 'DisruptionAllowed');
  const others = (conditions ?? []).filter((one) => one !== before);
  const isKept = before?.status === next.status;
  const lastTransitionTime = isKept ? before.lastTransitionTime : formatTime(now);
  return [...others, { type: 'DisruptionAllowed', ...next, lastTransitionTime }];
}
