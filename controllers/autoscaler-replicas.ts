import { parseQuantity, quantityMilli } from '#api/quantity.ts';
import { parseTime } from '#api/time.ts';
import type { Pod } from '#api/types.ts';
import { podCondition } from '#controllers/pods.ts';

/** How many replicas a resource metric asks for. Numbers only; pure. */

/** One pod's use of one resource, in thousandths of its unit. */
export type PodUse = { milli: number; timestampMs: number; windowMs: number };

export type Uses = ReadonlyMap<string, PodUse>;

export type ResourceTarget = {
  /** cpu, memory. */
  resource: string;
  /** Only this container counts; all when unset. */
  container?: string;
  /** Percent of the request, or thousandths per pod. */
  wanted: { utilization: number } | { averageMilli: number };
  /** Shares by which usage may differ before anything happens. */
  tolerance: { up: number; down: number };
};

export type ReplicaAnswer = {
  replicas: number;
  /** Percent of requests, when that is what the target counts. */
  utilization?: number;
  /** Thousandths per pod. */
  averageMilli: number;
};

/** Source: --horizontal-pod-autoscaler-cpu-initialization-period, -initial-readiness-delay. */
const CPU_INITIALIZATION_MS = 300_000;
const READINESS_DELAY_MS = 30_000;

/** A metric that cannot be judged; the message reaches the user in a condition. */
export class MetricError extends Error {}

type Groups = { ready: number; unready: Set<string>; missing: Set<string>; ignored: Set<string> };
type Ratio = { ratio: number; utilization?: number; averageMilli: number };

/**
 * desired = ceil(current × usage / target), with care for pods that are new, unready or unmeasured.
 * Throws MetricError. Source: "Horizontal Pod Autoscaling", Algorithm details.
 */
export function replicasFor(
  current: number,
  target: ResourceTarget,
  { pods, uses, now }: { pods: readonly Pod[]; uses: Uses; now: number },
): ReplicaAnswer {
  if (pods.length === 0) {
    throw new MetricError('no pods returned by selector while calculating replica count');
  }
  const groups = groupPods(pods, uses, target.resource, now);
  const counted = new Map<string, number>();
  for (const [name, use] of uses) {
    if (!groups.ignored.has(name) && !groups.unready.has(name)) counted.set(name, use.milli);
  }
  if (counted.size === 0) {
    throw new MetricError('did not receive metrics for targeted pods (pods might be unready)');
  }
  const requests = 'utilization' in target.wanted ? requestsOf(pods, target) : new Map();
  const first = ratioOf(counted, requests, target);
  const answer = (replicas: number): ReplicaAnswer => ({
    replicas,
    ...(first.utilization === undefined ? {} : { utilization: first.utilization }),
    averageMilli: first.averageMilli,
  });
  const mayCountUnready = groups.unready.size > 0 && first.ratio > 1;
  if (!mayCountUnready && groups.missing.size === 0) {
    if (isTolerable(first.ratio, target)) return answer(current);
    return answer(Math.ceil(first.ratio * groups.ready));
  }
  assume(counted, requests, { groups, target, ratio: first.ratio });
  const second = ratioOf(counted, requests, target).ratio;
  const turned = (first.ratio < 1 && second > 1) || (first.ratio > 1 && second < 1);
  if (isTolerable(second, target) || turned) return answer(current);
  const replicas = Math.ceil(second * counted.size);
  // Assumptions must not turn growth into shrinking, nor the other way round.
  const against = (second < 1 && replicas > current) || (second > 1 && replicas < current);
  return answer(against ? current : replicas);
}

/** Unmeasured pods count against the change: idle when growing, at the full target when shrinking. */
function assume(
  counted: Map<string, number>,
  requests: ReadonlyMap<string, number>,
  { groups, target, ratio }: { groups: Groups; target: ResourceTarget; ratio: number },
): void {
  const { wanted } = target;
  for (const name of groups.missing) {
    if (ratio > 1) counted.set(name, 0);
    else if (ratio < 1) {
      const full =
        'utilization' in wanted
          ? ((requests.get(name) ?? 0) * Math.max(100, wanted.utilization)) / 100
          : wanted.averageMilli;
      counted.set(name, full);
    }
  }
  if (ratio > 1) for (const name of groups.unready) counted.set(name, 0);
}

function isTolerable(ratio: number, { tolerance }: ResourceTarget): boolean {
  return 1 - tolerance.down <= ratio && ratio <= 1 + tolerance.up;
}

function ratioOf(
  counted: ReadonlyMap<string, number>,
  requests: ReadonlyMap<string, number>,
  { wanted }: ResourceTarget,
): Ratio {
  let used = 0;
  let requested = 0;
  let count = 0;
  for (const [name, milli] of counted) {
    const request = requests.get(name);
    if ('utilization' in wanted && request === undefined) continue;
    used += milli;
    requested += request ?? 0;
    count += 1;
  }
  if ('averageMilli' in wanted) {
    const averageMilli = Math.floor(used / count);
    return { ratio: averageMilli / wanted.averageMilli, averageMilli };
  }
  if (requested === 0) throw new MetricError('no metrics returned matched known pods');
  const utilization = Math.trunc((used * 100) / requested);
  const averageMilli = Math.floor(used / count);
  return { ratio: utilization / wanted.utilization, utilization, averageMilli };
}

function groupPods(pods: readonly Pod[], uses: Uses, resource: string, now: number): Groups {
  const groups: Groups = { ready: 0, unready: new Set(), missing: new Set(), ignored: new Set() };
  for (const pod of pods) {
    const name = pod.metadata.name ?? '';
    const use = uses.get(name);
    if (pod.metadata.deletionTimestamp || pod.status?.phase === 'Failed') groups.ignored.add(name);
    else if (pod.status?.phase === 'Pending') groups.unready.add(name);
    else if (!use) groups.missing.add(name);
    else if (resource === 'cpu' && isStarting(pod, use, now)) groups.unready.add(name);
    else groups.ready += 1;
  }
  return groups;
}

/** A starting pod's CPU use says nothing about its load. */
function isStarting(pod: Pod, use: PodUse, now: number): boolean {
  const condition = podCondition(pod, 'Ready');
  const startMs = parseTime(pod.status?.startTime ?? '');
  if (!condition || Number.isNaN(startMs)) return true;
  const changedMs = parseTime(condition.lastTransitionTime ?? '') || 0;
  if (startMs + CPU_INITIALIZATION_MS > now) {
    return condition.status === 'False' || use.timestampMs < changedMs + use.windowMs;
  }
  return condition.status === 'False' && startMs + READINESS_DELAY_MS > changedMs;
}

/** Requests in thousandths per pod. Throws when a container that counts has none. */
function requestsOf(pods: readonly Pod[], target: ResourceTarget): Map<string, number> {
  const { resource, container: only } = target;
  const requests = new Map<string, number>();
  for (const pod of pods) {
    const name = pod.metadata.name ?? '';
    const whole = pod.spec.resources?.requests?.[resource];
    if (only === undefined && whole !== undefined) {
      requests.set(name, quantityMilli(parseQuantity(whole)));
      continue;
    }
    const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
    let sum = 0;
    for (const container of [...pod.spec.containers, ...sidecars]) {
      if (only !== undefined && container.name !== only) continue;
      const request = container.resources?.requests?.[resource];
      if (request === undefined) {
        const where = `container ${container.name} of Pod ${name}`;
        throw new MetricError(`missing request for ${resource} in ${where}`);
      }
      sum += quantityMilli(parseQuantity(request));
    }
    requests.set(name, sum);
  }
  return requests;
}
