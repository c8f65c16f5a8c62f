import { isDeepStrictEqual } from 'node:util';
import { addAmounts, type Amounts, amountsOf, podAmounts } from '#api/pod-resources.ts';
import type { Container, Pod } from '#api/types.ts';
import {
  type ContainerLimits,
  containerLimits,
} from '#node-agent/containers/container-resources.ts';
import {
  type ContainerRecord,
  latest,
  type PodContainer,
  type PodObservation,
  podContainers,
  reportedStatus,
} from '#node-agent/pods/pod-observation.ts';

/** What each container of a pod has been granted, by name. */
export type Allocation = ReadonlyMap<string, Container['resources']>;

/** What can be changed in a living container. */
const RESIZABLE = ['cpu', 'memory'] as const;

const sized = ({ kind }: PodContainer): boolean => kind !== 'ephemeral';

/** What a pod asks for, by container. */
export const wishOf = (pod: Pod): Allocation =>
  new Map(
    podContainers(pod)
      .filter(sized)
      .map(({ spec }) => [spec.name, spec.resources]),
  );

/**
 * What the pod has been granted, as far as its status tells; for containers that have not run yet,
 * what they ask for. So an agent that starts anew takes nothing back and grants nothing unseen.
 */
export function reportedAllocation(pod: Pod): Allocation {
  return new Map(
    podContainers(pod)
      .filter(sized)
      .map(({ spec }) => [spec.name, reportedStatus(pod, spec.name)?.resources ?? spec.resources]),
  );
}

/** Whether two allocations mean the same amounts of what can be resized. */
export function sameAllocation(a: Allocation, b: Allocation): boolean {
  const amounts = (of: Allocation): unknown =>
    [...of].map(([name, resources]) => [
      name,
      ...[resources?.requests, resources?.limits].map((list) => {
        const all = amountsOf(list);
        return RESIZABLE.map((resource) => all.get(resource) ?? 0);
      }),
    ]);
  return isDeepStrictEqual(amounts(a), amounts(b));
}

/** The pod with the resources it has been granted instead of those it asks for. */
export function withAllocation(pod: Pod, allocation: Allocation): Pod {
  if (sameAllocation(wishOf(pod), allocation)) return pod;
  const granted = (containers: readonly Container[]): Container[] =>
    containers.map((container) => {
      const { resources: _, ...rest } = container;
      const resources = allocation.get(container.name);
      return resources ? { ...rest, resources } : rest;
    });
  const { containers, initContainers } = pod.spec;
  return {
    ...pod,
    spec: {
      ...pod.spec,
      containers: granted(containers),
      ...(initContainers ? { initContainers: granted(initContainers) } : {}),
    },
  };
}

export type ResizePending = { reason: 'Deferred' | 'Infeasible'; message: string };

/**
 * Whether a node can grant what a pod asks for now: undefined for yes. `others` are the other pods
 * with what they have been granted. Source: KEP-1287 in-place update of pod resources.
 */
export function judgeResize(
  pod: Pod,
  others: readonly Pod[],
  allocatable: Amounts,
): ResizePending | undefined {
  const asked = podAmounts(pod.spec, 'requests');
  const used: Amounts = new Map();
  for (const other of others) addAmounts(used, podAmounts(other.spec, 'requests'));
  let deferred: ResizePending | undefined;
  for (const name of RESIZABLE) {
    const capacity = allocatable.get(name);
    const amount = asked.get(name) ?? 0;
    if (capacity === undefined) continue;
    if (amount > capacity) {
      return {
        reason: 'Infeasible',
        message: `Node didn't have enough capacity: ${name}, requested: ${amount}, capacity: ${capacity}`,
      };
    }
    const taken = used.get(name) ?? 0;
    if (taken + amount <= capacity) continue;
    deferred ??= {
      reason: 'Deferred',
      message: `Node didn't have enough resource: ${name}, requested: ${amount}, used: ${taken}, capacity: ${capacity}`,
    };
  }
  return deferred;
}

/** A running container whose limits are not yet those it has been granted. */
export type UnsizedContainer = {
  container: PodContainer;
  record: ContainerRecord;
  limits: ContainerLimits;
  /** Its resizePolicy asks for a restart. */
  restart: boolean;
};

export function unsizedContainers(o: PodObservation): UnsizedContainer[] {
  return podContainers(o.pod)
    .filter(sized)
    .flatMap((container): UnsizedContainer[] => {
      const record = latest(o.runtime, container.spec.name);
      const have = record && (o.resize?.sent.get(record.id) ?? record.limits);
      if (record?.state !== 'running' || !have) return [];
      const limits = containerLimits(container.spec);
      if (isDeepStrictEqual(limits, have)) return [];
      return [{ container, record, limits, restart: asksForRestart(container, have, limits) }];
    });
}

function asksForRestart(
  { spec }: PodContainer,
  have: ContainerLimits,
  want: ContainerLimits,
): boolean {
  const policy = (name: string): boolean =>
    spec.resizePolicy?.find((p) => p.resourceName === name)?.restartPolicy === 'RestartContainer';
  const cpu = have.cpuShares !== want.cpuShares || have.cpuQuota !== want.cpuQuota;
  const memory = have.memoryLimitInBytes !== want.memoryLimitInBytes;
  return (cpu && policy('cpu')) || (memory && policy('memory'));
}
