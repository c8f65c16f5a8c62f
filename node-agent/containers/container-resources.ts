import { amountsOf, type Amounts, podAmounts } from '#api/pod-resources.ts';
import type { Container, Pod } from '#api/types.ts';
import { type LinuxContainerResources, MICROVM_HANDLER } from '#node-agent/runtime/service.ts';
import { type QosClass, qosClass } from '#node-agent/containers/qos.ts';

/** CFS period, microseconds, and the least quota the kernel takes. */
const PERIOD_US = 100_000;
const MIN_QUOTA_US = 1_000;
/** The least weight the kernel takes. */
const MIN_SHARES = 2;

/** Thousandths of a core as cgroup v1 CPU shares, also CRI's unit on cgroup v2. */
export const cpuShares = (milli: number): number =>
  Math.max(MIN_SHARES, Math.floor((milli * 1024) / 1000));

export const cpuQuota = (milli: number): number =>
  Math.max(MIN_QUOTA_US, Math.round((milli * PERIOD_US) / 1000));

/** What of a container's resources can be changed while it runs; -1 is unlimited. */
export type ContainerLimits = { cpuShares: number; cpuQuota: number; memoryLimitInBytes: number };

const UNLIMITED = -1;

/** The limits of a container as its resources say. */
export function containerLimits({ resources }: Pick<Container, 'resources'>): ContainerLimits {
  const limits = amountsOf(resources?.limits);
  const cpuLimit = limits.get('cpu');
  return {
    cpuShares: cpuShares(amountsOf(resources?.requests).get('cpu') ?? cpuLimit ?? 0),
    cpuQuota: cpuLimit ? cpuQuota(cpuLimit) : UNLIMITED,
    memoryLimitInBytes: limits.get('memory') || UNLIMITED,
  };
}

/** The limits of a container as its runtime reports them; undefined when it does not. */
export function reportedLimits(
  resources: LinuxContainerResources | null | undefined,
): ContainerLimits | undefined {
  if (!resources?.cpuShares) return undefined;
  const limit = (value: number | undefined): number => (value && value > 0 ? value : UNLIMITED);
  return {
    cpuShares: resources.cpuShares,
    cpuQuota: limit(resources.cpuQuota),
    memoryLimitInBytes: limit(resources.memoryLimitInBytes),
  };
}

export type ResourceFacts = {
  memoryCapacityBytes: number;
  cgroupVersion: 1 | 2;
  /** Sizes of huge pages that the kernel has, in the words of cgroups: `2MB`, `1GB`. */
  hugepageSizes: readonly string[];
  /** Whether groups bound swap. */
  swap: boolean;
};

/** What the kernel shall give and deny a container. */
export function containerResources(
  pod: Pod,
  container: Container,
  facts: ResourceFacts,
): LinuxContainerResources {
  const limits = amountsOf(container.resources?.limits);
  const requests = amountsOf(container.resources?.requests);
  const cpuRequest = requests.get('cpu') ?? limits.get('cpu');
  const cpuLimit = limits.get('cpu');
  const memoryLimit = limits.get('memory');
  return {
    cpuShares: cpuShares(cpuRequest ?? 0),
    cpuPeriod: PERIOD_US,
    ...(cpuLimit ? { cpuQuota: cpuQuota(cpuLimit) } : {}),
    ...(memoryLimit ? { memoryLimitInBytes: memoryLimit } : {}),
    oomScoreAdj: oomScoreAdj(
      qosClass(pod),
      requests.get('memory') ?? memoryLimit ?? 0,
      facts.memoryCapacityBytes,
    ),
    ...withHugepages(
      hugepageLimits(facts.hugepageSizes, limits, amountsOf(pod.spec.resources?.limits)),
    ),
    ...swapLimits(memoryLimit, facts),
  };
}

/** Containers do not swap, as the kubelet's NoSwap has it: with v1 only those with a limit can be told. */
function swapLimits(
  memoryLimit: number | undefined,
  { cgroupVersion, swap }: ResourceFacts,
): Pick<LinuxContainerResources, 'unified' | 'memorySwapLimitInBytes'> {
  if (cgroupVersion === 1)
    return swap && memoryLimit ? { memorySwapLimitInBytes: memoryLimit } : {};
  const unified = {
    // One process out of memory ends its container as a whole.
    ...(memoryLimit ? { 'memory.oom.group': '1' } : {}),
    ...(swap ? { 'memory.swap.max': '0' } : {}),
  };
  return Object.keys(unified).length > 0 ? { unified } : {};
}

export type HugepageLimit = { pageSize: string; limit: number };

const withHugepages = (list: HugepageLimit[]): Pick<LinuxContainerResources, 'hugepageLimits'> =>
  list.length > 0 ? { hugepageLimits: list } : {};

/** A limit for each size that the kernel has: who asks for none gets none. The first list that names a size wins. */
export function hugepageLimits(sizes: readonly string[], ...limits: Amounts[]): HugepageLimit[] {
  return sizes.map((pageSize) => {
    const name = `hugepages-${pageSize.replace(/B$/, 'i')}`;
    return { pageSize, limit: limits.find((list) => list.has(name))?.get(name) ?? 0 };
  });
}

/**
 * Who is killed first when the node runs out of memory.
 * Source: Kubernetes documentation, "Node-pressure eviction", node out of memory behavior.
 */
export function oomScoreAdj(
  qos: QosClass,
  memoryRequestBytes: number,
  memoryCapacityBytes: number,
): number {
  if (qos === 'Guaranteed') return -997;
  if (qos === 'BestEffort') return 1000;
  const score = 1000 - Math.floor((1000 * memoryRequestBytes) / memoryCapacityBytes);
  return Math.min(999, Math.max(3, score));
}

export type PodLimits = {
  cpuShares: number;
  /** Absent when some container is unlimited. */
  cpuQuotaUs?: number;
  cpuPeriodUs: number;
  memoryBytes?: number;
  pids?: number;
  hugepages?: HugepageLimit[];
};

/** Limits of the pod as a whole. */
export function podLimits(
  pod: Pod,
  pidsLimit: number | undefined,
  hugepageSizes: readonly string[] = [],
): PodLimits {
  const requests = podAmounts(pod.spec, 'requests');
  const limits = podAmounts(pod.spec, 'limits');
  const cpu = allLimit(pod, 'cpu') ? limits.get('cpu') : undefined;
  const memory = allLimit(pod, 'memory') ? limits.get('memory') : undefined;
  return {
    cpuShares: cpuShares(requests.get('cpu') ?? limits.get('cpu') ?? 0),
    cpuPeriodUs: PERIOD_US,
    ...(cpu ? { cpuQuotaUs: cpuQuota(cpu) } : {}),
    ...(memory ? { memoryBytes: memory } : {}),
    ...(pidsLimit ? { pids: pidsLimit } : {}),
    ...(hugepageSizes.length > 0 ? { hugepages: hugepageLimits(hugepageSizes, limits) } : {}),
  };
}

/**
 * The limits of the pod's cgroup on the host. A VM bounds its memory and processes itself, and its
 * guest those of each container: a bound of memory around it, too, would have the host kill it for
 * pages that the guest keeps.
 */
export function hostLimits(
  pod: Pod,
  node: {
    podPidsLimit: number | undefined;
    runtimeHandler: (pod: Pod) => string;
    resourceFacts: Pick<ResourceFacts, 'hugepageSizes'>;
  },
): PodLimits {
  const limits = podLimits(pod, node.podPidsLimit, node.resourceFacts.hugepageSizes);
  if (node.runtimeHandler(pod) !== MICROVM_HANDLER) return limits;
  const { memoryBytes: _, pids: __, ...others } = limits;
  return others;
}

/**
 * What the pod's containers may use together, without what its runtime needs: a VM is sized by it.
 * The requested memory is `memory.min`, as the kubelet gives it on cgroup v2, and the limit of its
 * processes `pids.max`.
 */
export function podResources(pod: Pod, podPidsLimit: number | undefined): LinuxContainerResources {
  const { overhead: _, ...spec } = pod.spec;
  const own = podLimits({ ...pod, spec }, undefined);
  const memory = podAmounts(spec, 'requests').get('memory');
  return {
    cpuShares: own.cpuShares,
    cpuPeriod: own.cpuPeriodUs,
    ...(own.cpuQuotaUs ? { cpuQuota: own.cpuQuotaUs } : {}),
    ...(own.memoryBytes ? { memoryLimitInBytes: own.memoryBytes } : {}),
    unified: {
      ...(memory ? { 'memory.min': String(memory) } : {}),
      ...(podPidsLimit ? { 'pids.max': String(podPidsLimit) } : {}),
    },
  };
}

function allLimit({ spec }: Pod, name: string): boolean {
  if (spec.resources?.limits?.[name] !== undefined) return true;
  const has = (amounts: Amounts): boolean => (amounts.get(name) ?? 0) > 0;
  return [...spec.containers, ...(spec.initContainers ?? [])].every((c) =>
    has(amountsOf(c.resources?.limits)),
  );
}
