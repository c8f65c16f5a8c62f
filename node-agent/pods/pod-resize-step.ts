import { backoffMs } from '#base/backoff.ts';
import { errorText } from '#base/log.ts';
import {
  containerResources,
  hostLimits,
  type PodLimits,
} from '#node-agent/containers/container-resources.ts';
import { identityOf } from '#node-agent/pods/pod-files.ts';
import type { PodStep } from '#node-agent/pods/pod-plan.ts';
import { type StepContext, tell } from '#node-agent/pods/pod-steps.ts';
import { qosClass } from '#node-agent/containers/qos.ts';

const BACKOFF = { initialMs: 2_000, maxMs: 60_000 };

/** Gives running containers, and the pod around them, the limits they have been granted. */
export async function resizeContainers(
  ctx: StepContext,
  { containers }: Extract<PodStep, { step: 'resize' }>,
): Promise<void> {
  const { pod, memory, services } = ctx;
  const { runtime, runtimes, cgroups, resourceFacts, clock } = services;
  const identity = identityOf(pod);
  const target = hostLimits(pod, services);
  const setPod = async (limits: PodLimits): Promise<void> =>
    cgroups?.update(identity.uid, qosClass(pod), limits);
  try {
    // A pod has to be the roomier of both while its containers change.
    await setPod(roomier(memory.podLimits ?? target, target));
    for (const { record, container, limits } of containers) {
      const resources = { ...containerResources(pod, container.spec, resourceFacts), ...limits };
      await runtime.updateContainerResources(record.id, resources);
      memory.resized.set(record.id, limits);
      await runtimes.refreshContainer(record.id, identity);
    }
    await setPod(target);
    memory.podLimits = target;
    memory.resizeFailure = undefined;
    const names = containers.map(({ container }) => container.spec.name).join(', ');
    const message = `Pod resize completed: containers ${names}`;
    tell(ctx, { type: 'Normal', reason: 'ResizeCompleted', message });
  } catch (error) {
    const message = errorText(error);
    const count = (memory.resizeFailure?.count ?? 0) + 1;
    const retryAtMs = clock.now() + backoffMs(count, BACKOFF);
    if (count === 1) tell(ctx, { type: 'Warning', reason: 'ResizeError', message });
    memory.resizeFailure = { message, retryAtMs, count };
  }
}

/** Limits that hold back neither the one nor the other; absent means unlimited. */
function roomier(a: PodLimits, b: PodLimits): PodLimits {
  const both = (of: 'cpuQuotaUs' | 'memoryBytes'): Partial<PodLimits> => {
    const [x, y] = [a[of], b[of]];
    return x === undefined || y === undefined ? {} : { [of]: Math.max(x, y) };
  };
  return {
    cpuShares: Math.max(a.cpuShares, b.cpuShares),
    cpuPeriodUs: b.cpuPeriodUs,
    ...both('cpuQuotaUs'),
    ...both('memoryBytes'),
    ...(b.pids === undefined ? {} : { pids: b.pids }),
  };
}
