import type { Pod } from '#api/types.ts';
import {
  activeDeadlineMs,
  DEADLINE_EXCEEDED,
  graceOf,
  latest,
  LOST_EXIT_CODE,
  type PodContainer,
  podContainers,
  type PodObservation,
  reportedStatus,
  restarts,
  type Stop,
} from '#node-agent/pods/pod-observation.ts';
import { outdatedIn } from '#node-agent/pods/restart-all.ts';

/** What a pod's containers have come to, and whether it has to end for that. */

/** Main containers once begun in a sandbox say that its init containers are done. */
export function mainBegun(o: PodObservation, sandboxId: string): boolean {
  const names = new Set(o.pod.spec.containers.map((c) => c.name));
  const outdated = outdatedIn(o);
  return o.runtime.containers.some(
    (c) => c.sandboxId === sandboxId && names.has(c.name) && !outdated(c),
  );
}

/** True when every main container ended for good, or an init container failed for good. */
export function ranToEnd(o: PodObservation): boolean {
  const { pod, runtime } = o;
  const all = podContainers(pod);
  const outdated = outdatedIn(o);
  const outcome = (container: PodContainer): number | undefined => {
    const last = latest(runtime, container.spec.name);
    if (outdated(last)) return undefined;
    const code = last
      ? last.state === 'exited'
        ? last.exitCode
        : undefined
      : lostOutcome(pod, container.spec.name);
    return code === undefined || restarts(pod, container, code) ? undefined : code;
  };
  const initFailed = all.some((c) => c.kind === 'init' && (outcome(c) ?? 0) !== 0);
  return initFailed || all.filter((c) => c.kind === 'main').every((c) => outcome(c) !== undefined);
}

/** Exit code of a container that was reported as started, but that the runtime no longer knows. */
function lostOutcome(pod: Pod, name: string): number | undefined {
  const reported = reportedStatus(pod, name);
  if (!reported?.containerID) return undefined;
  return reported.state?.terminated?.exitCode ?? LOST_EXIT_CODE;
}

/** Whether and why the pod has to end. The first reason in this order wins. */
export function stopOf(o: PodObservation): Stop | undefined {
  if (o.order) return o.order;
  const graceSeconds = graceOf(o.pod);
  const phase = o.pod.status?.phase;
  if (phase === 'Failed' || phase === 'Succeeded')
    return { cause: 'finished', sinceMs: o.now, graceSeconds };
  const deadlineMs = activeDeadlineMs(o.pod);
  if (deadlineMs !== undefined && o.now >= deadlineMs) {
    return {
      cause: 'failed',
      sinceMs: deadlineMs,
      graceSeconds,
      reason: DEADLINE_EXCEEDED,
      message: 'Pod was active on the node longer than the specified deadline',
    };
  }
  if (!ranToEnd(o)) return undefined;
  const ends = o.runtime.containers.map((c) => c.finishedAtMs);
  return { cause: 'finished', sinceMs: Math.max(0, ...ends), graceSeconds };
}
