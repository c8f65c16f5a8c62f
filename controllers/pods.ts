import { formatTime, parseTime } from '#api/time.ts';
import type { KubeObject, Pod, PodCondition, PodTemplateSpec } from '#api/types.ts';
import { controllerReference } from '#controllers/ownership.ts';

/** Still running or yet to run, and not on its way out. */
export function isActive(pod: Pod): boolean {
  return !isTerminal(pod) && pod.metadata.deletionTimestamp === undefined;
}

/** All containers have ended and none will be restarted. */
export function isTerminal(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** Still running, but asked to go. */
export function isTerminating(pod: Pod): boolean {
  return !isTerminal(pod) && pod.metadata.deletionTimestamp !== undefined;
}

export function podCondition(pod: Pod, type: string): PodCondition | undefined {
  return pod.status?.conditions?.find((condition) => condition.type === type);
}

export function isReady(pod: Pod): boolean {
  return podCondition(pod, 'Ready')?.status === 'True';
}

/** When the pod became ready, milliseconds; NaN when it is not or does not say. */
export function readySince(pod: Pod): number {
  const condition = podCondition(pod, 'Ready');
  if (condition?.status !== 'True') return Number.NaN;
  return parseTime(condition.lastTransitionTime ?? '');
}

/** Milliseconds until a ready pod counts as available: 0 = is, Infinity = not ready. */
export function availableInMs(pod: Pod, minReadySeconds: number, now: number): number {
  if (!isReady(pod)) return Number.POSITIVE_INFINITY;
  if (minReadySeconds === 0) return 0;
  const since = readySince(pod);
  if (Number.isNaN(since)) return Number.POSITIVE_INFINITY;
  return Math.max(0, since + minReadySeconds * 1000 - now);
}

/** When the next ready pod becomes available, if minReadySeconds makes any wait. */
export function nextAvailableMs(
  pods: readonly Pod[],
  minReadySeconds: number,
  now: number,
): number | undefined {
  if (minReadySeconds === 0) return undefined;
  const waits = pods
    .filter(isActive)
    .map((pod) => availableInMs(pod, minReadySeconds, now))
    .filter((ms) => ms > 0 && ms !== Number.POSITIVE_INFINITY);
  return waits.length > 0 ? Math.min(...waits) : undefined;
}

/** A pod of the template, managed by `owner`, whose name the server completes. */
export function podFromTemplate(template: PodTemplateSpec, owner: KubeObject): Pod {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      generateName: `${owner.metadata.name}-`,
      namespace: owner.metadata.namespace ?? '',
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
      ...(finalizers ? { finalizers } : {}),
      ownerReferences: [controllerReference(owner)],
    },
    spec: template.spec ?? { containers: [] },
  };
}

export const NODE_INDEX = 'node';

/** Index values: the node a pod is bound to. */
export const nodeIndex = (pod: Pod): string[] => (pod.spec.nodeName ? [pod.spec.nodeName] : []);

/** The conditions with one set; its transition time moves only when its status changes. */
export function withCondition(
  pod: Pod,
  condition: { type: string; status: string; reason: string; message: string },
  now: number,
): PodCondition[] {
  const before = podCondition(pod, condition.type);
  const isKept = before?.status === condition.status;
  const kept = isKept ? before.lastTransitionTime : undefined;
  const lastTransitionTime = kept ?? formatTime(now);
  const others = (pod.status?.conditions ?? []).filter((one) => one.type !== condition.type);
  return [...others, { ...condition, lastTransitionTime }];
}
