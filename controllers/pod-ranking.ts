import { parseTime } from '#api/time.ts';
import type { Pod } from '#api/types.ts';
import { isReady, readySince } from '#controllers/pods.ts';

const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';
const PHASES: Readonly<Record<string, number>> = { Pending: 0, Unknown: 1, Running: 2 };

/**
 * Active pods in the order in which they are given up: unassigned, pending, not ready, cheap ones
 * first, then those that share their node with most siblings, then the ready-for-shortest, those
 * that restarted most, and the youngest. Source: ReplicaSet, "Scaling a ReplicaSet".
 *
 * @param siblings active pods of all replica sets of the same owner, by whom nodes are crowded
 */
export function rankForDeletion(
  pods: readonly Pod[],
  siblings: readonly Pod[],
  now: number,
): Pod[] {
  const onNode = new Map<string, number>();
  for (const pod of siblings) {
    const node = pod.spec.nodeName ?? '';
    onNode.set(node, (onNode.get(node) ?? 0) + 1);
  }
  const crowd = (pod: Pod): number => onNode.get(pod.spec.nodeName ?? '') ?? 0;
  return pods.toSorted((a, b) => {
    const order =
      Number(Boolean(a.spec.nodeName)) - Number(Boolean(b.spec.nodeName)) ||
      phase(a) - phase(b) ||
      Number(isReady(a)) - Number(isReady(b)) ||
      deletionCost(a) - deletionCost(b) ||
      crowd(b) - crowd(a);
    if (order) return order;
    if (isReady(a) && isReady(b)) {
      const byReady = compareAges(readySince(a), readySince(b), now);
      if (byReady) return byReady;
    }
    return (
      restarts(b) - restarts(a) ||
      compareAges(createdAt(a), createdAt(b), now) ||
      (a.metadata.uid ?? '').localeCompare(b.metadata.uid ?? '')
    );
  });
}

const phase = (pod: Pod): number => PHASES[pod.status?.phase ?? ''] ?? 0;

function deletionCost(pod: Pod): number {
  const text = pod.metadata.annotations?.[DELETION_COST] ?? '0';
  return /^(0|-?[1-9]\d{0,9})$/.test(text) ? Number(text) : 0;
}

function restarts(pod: Pod): number {
  const all = [
    ...(pod.status?.initContainerStatuses ?? []),
    ...(pod.status?.containerStatuses ?? []),
  ];
  return Math.max(0, ...all.map((status) => status.restartCount));
}

const createdAt = (pod: Pod): number => parseTime(pod.metadata.creationTimestamp ?? '');

/**
 * Younger first, but ages of the same power of two count as equal, so that chance (the uid) rather
 * than a second's difference decides among old pods. An unknown time counts as youngest.
 */
function compareAges(a: number, b: number, now: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(b)) - Number(Number.isNaN(a));
  const rank = (time: number): number => {
    const ageNs = Math.max(0, now - time) * 1e6;
    return ageNs < 1 ? -1 : Math.floor(Math.log2(ageNs));
  };
  return rank(a) - rank(b);
}
