import type { LinuxContainerResources } from '#node-agent/runtime/service.ts';

/** How large the VM of a pod is. */
export type VmSize = { memoryMib: number; vcpus: number };

/** Memory of pods whose containers have no limits. */
export const DEFAULT_MEMORY_MIB = 512;
/** What the guest's kernel and agent need beside the containers. Measured: docs/microvms.md. */
export const GUEST_KERNEL_MIB = 64;
/** Sizes are multiples of it, so that pods of about one size share a template. */
const STEP_MIB = 64;
/** Below, the kernel does not boot. */
const LEAST_MIB = 128;
const MIB = 1024 * 1024;
/** CPU shares of one core, as CRI counts them. */
const SHARES_PER_CPU = 1024;

/**
 * The VM for a pod's limits: what its containers may use, and the guest's own share on top. Without
 * a limit the default, or what the pod requests (`memory.min`) where that is more.
 */
export function vmSize(resources: LinuxContainerResources, hostCpus: number): VmSize {
  const { memoryLimitInBytes = 0, cpuQuota = 0, cpuPeriod = 0, cpuShares = 0 } = resources;
  const requested = Number(resources.unified?.['memory.min'] ?? 0) / MIB;
  const memory =
    memoryLimitInBytes > 0
      ? memoryLimitInBytes / MIB
      : Math.max(DEFAULT_MEMORY_MIB - GUEST_KERNEL_MIB, requested);
  const cpus =
    cpuQuota > 0 && cpuPeriod > 0 ? cpuQuota / cpuPeriod : Math.ceil(cpuShares / SHARES_PER_CPU);
  return {
    memoryMib: Math.max(LEAST_MIB, Math.ceil((memory + GUEST_KERNEL_MIB) / STEP_MIB) * STEP_MIB),
    vcpus: Math.min(Math.max(1, hostCpus), Math.max(1, Math.ceil(cpus))),
  };
}
