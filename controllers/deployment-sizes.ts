import { parseTime } from '#api/time.ts';
import type { Deployment, ReplicaSet } from '#api/types.ts';

/** How many pods each ReplicaSet of a Deployment should have. Numbers only; all pure. */

export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';

/** A ReplicaSet and the size it should get. */
export type Resize = { replicaSet: ReplicaSet; replicas: number };

export const wantedReplicas = (object: Deployment | ReplicaSet): number =>
  object.spec?.replicas ?? 1;

export const availableReplicas = (replicaSet: ReplicaSet): number =>
  replicaSet.status?.availableReplicas ?? 0;

export const isRollingUpdate = (deployment: Deployment): boolean =>
  deployment.spec?.strategy?.type !== 'Recreate';

export function sum(sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number): number {
  return sets.reduce((total, set) => total + of(set), 0);
}

export const isScaledUp = (set: ReplicaSet): boolean => wantedReplicas(set) > 0;

/** An absolute number, or a percentage of `total`. */
export function resolveCount(
  value: string | number | undefined,
  total: number,
  round: 'up' | 'down',
): number {
  if (typeof value === 'number') return value;
  const percent = /^(\d+)%$/.exec(value ?? '')?.[1];
  if (percent === undefined) return 0;
  const exact = (Number(percent) * total) / 100;
  return round === 'up' ? Math.ceil(exact) : Math.floor(exact);
}

/** How far a rolling update may go above and below the wanted number. */
export function rollingBounds(deployment: Deployment): { surge: number; unavailable: number } {
  if (!isRollingUpdate(deployment)) return { surge: 0, unavailable: 0 };
  const replicas = wantedReplicas(deployment);
  const { maxSurge, maxUnavailable } = deployment.spec?.strategy?.rollingUpdate ?? {};
  const surge = resolveCount(maxSurge as string | number | undefined, replicas, 'up');
  const down = resolveCount(maxUnavailable as string | number | undefined, replicas, 'down');
  // Both rounded to nothing would leave no way to move.
  const unavailable = surge === 0 && down === 0 ? 1 : down;
  return { surge, unavailable: replicas === 0 ? 0 : Math.min(unavailable, replicas) };
}

/** Size of the new ReplicaSet: as far up as the surge allows. */
export function newReplicaSetSize(
  deployment: Deployment,
  all: readonly ReplicaSet[],
  current: number,
): number {
  const wanted = wantedReplicas(deployment);
  if (!isRollingUpdate(deployment)) return wanted;
  const room = wanted + rollingBounds(deployment).surge - sum(all, wantedReplicas);
  if (room <= 0) return current;
  return current + Math.min(room, wanted - current);
}

/**
 * What a rolling update takes away from old ReplicaSets: unhealthy pods first, then as many
 * available ones as the bound on unavailability allows. Oldest sets give first.
 */
export function shrinkOld(
  deployment: Deployment,
  old: readonly ReplicaSet[],
  newSet: ReplicaSet,
): Resize[] {
  const minAvailable = wantedReplicas(deployment) - rollingBounds(deployment).unavailable;
  const all = [...old, newSet];
  const newUnavailable = wantedReplicas(newSet) - availableReplicas(newSet);
  const mayGo = sum(all, wantedReplicas) - minAvailable - newUnavailable;
  if (mayGo <= 0) return [];
  const sizes = new Map(old.map((set) => [set, wantedReplicas(set)]));
  const byAge = old.toSorted(olderFirst);
  let cleaned = 0;
  for (const set of byAge) {
    const size = wantedReplicas(set);
    const count = Math.min(mayGo - cleaned, size - availableReplicas(set));
    if (count <= 0) continue;
    sizes.set(set, size - count);
    cleaned += count;
  }
  // Equal in a consistent state; the lesser counts while a set's status lags behind its size.
  let spare = Math.min(sum(all, availableReplicas) - minAvailable, mayGo - cleaned);
  for (const set of byAge) {
    const size = sizes.get(set) ?? 0;
    const count = Math.min(size, spare);
    if (count <= 0) continue;
    sizes.set(set, size - count);
    spare -= count;
  }
  return changesOf(sizes);
}

function changesOf(sizes: ReadonlyMap<ReplicaSet, number>): Resize[] {
  return [...sizes]
    .filter(([set, size]) => size !== wantedReplicas(set))
    .map(([replicaSet, replicas]) => ({ replicaSet, replicas }));
}

/**
 * A Deployment was scaled (or is paused) in mid-rollout: shares the change among its ReplicaSets
 * in proportion to their sizes. Source: Deployment, "Proportional scaling".
 */
export function scaleAll(
  deployment: Deployment,
  old: readonly ReplicaSet[],
  newSet: ReplicaSet | undefined,
): Resize[] {
  const wanted = wantedReplicas(deployment);
  const all = newSet ? [...old, newSet] : [...old];
  const active = all.filter(isScaledUp);
  const only = active.length === 0 ? (newSet ?? latest(old)) : active[0];
  if (active.length <= 1) return only ? [{ replicaSet: only, replicas: wanted }] : [];
  if (newSet && isSaturated(deployment, newSet)) {
    return old.filter(isScaledUp).map((replicaSet) => ({ replicaSet, replicas: 0 }));
  }
  return isRollingUpdate(deployment) ? inProportion(deployment, active) : [];
}

function inProportion(deployment: Deployment, active: readonly ReplicaSet[]): Resize[] {
  const wanted = wantedReplicas(deployment);
  const { surge } = rollingBounds(deployment);
  const allowed = wanted > 0 ? wanted + surge : 0;
  const toAdd = allowed - sum(active, wantedReplicas);
  const sets = active.toSorted(
    (a, b) =>
      wantedReplicas(b) - wantedReplicas(a) || (toAdd > 0 ? olderFirst(b, a) : olderFirst(a, b)),
  );
  let added = 0;
  const resizes = sets.map((replicaSet): Resize => {
    const size = wantedReplicas(replicaSet);
    if (toAdd === 0) return { replicaSet, replicas: size };
    const share = shareOf(deployment, replicaSet, wanted + surge);
    const left = toAdd - added;
    const proportion = toAdd > 0 ? Math.min(share, left) : Math.max(share, left);
    added += proportion;
    return { replicaSet, replicas: size + proportion };
  });
  const [largest] = resizes;
  if (largest && toAdd !== 0) largest.replicas = Math.max(0, largest.replicas + toAdd - added);
  return resizes;
}

/** What one set gains if it keeps its part of the whole. */
function shareOf(deployment: Deployment, set: ReplicaSet, newTotal: number): number {
  const size = wantedReplicas(set);
  if (wantedReplicas(deployment) === 0) return -size;
  const annotated = Number(set.metadata.annotations?.[MAX_REPLICAS] ?? '0');
  const oldTotal = annotated || (deployment.status?.replicas ?? 0);
  if (!oldTotal) return 0;
  return Math.round((size * newTotal) / oldTotal) - size;
}

function isSaturated(deployment: Deployment, set: ReplicaSet): boolean {
  const wanted = wantedReplicas(deployment);
  return (
    set.metadata.annotations?.[DESIRED_REPLICAS] === String(wanted) &&
    wantedReplicas(set) === wanted &&
    availableReplicas(set) === wanted
  );
}

const createdAt = (object: ReplicaSet): number =>
  parseTime(object.metadata.creationTimestamp ?? '');

/** Creation order; the name decides within one second. */
export function olderFirst(a: ReplicaSet, b: ReplicaSet): number {
  return (
    (createdAt(a) || 0) - (createdAt(b) || 0) ||
    (a.metadata.name ?? '').localeCompare(b.metadata.name ?? '')
  );
}

const latest = (sets: readonly ReplicaSet[]): ReplicaSet | undefined =>
  sets.toSorted(olderFirst).at(-1);
