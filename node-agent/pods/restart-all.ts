import {
  type ContainerRecord,
  latest,
  type PodObservation,
  podContainers,
  restartRule,
} from '#node-agent/pods/pod-observation.ts';
import type { Pod } from '#api/types.ts';

/**
 * RestartAllContainers: a container's exit may ask for all containers of its pod, init containers
 * first, to run anew in the same sandbox. Nothing is remembered for it: what was made before that
 * exit is outdated. Source: KEP-5532.
 */
const ACTION = 'RestartAllContainers';

/** Whether some rule of the pod may ask for it. */
export const mayRestartAll = (pod: Pod): boolean =>
  podContainers(pod).some(({ spec }) => spec.restartPolicyRules?.some((r) => r.action === ACTION));

/** When an exit last asked for it, milliseconds; undefined for never. */
function askedAtMs({ pod, runtime }: PodObservation): number | undefined {
  let at: number | undefined;
  for (const { spec } of podContainers(pod)) {
    if (!spec.restartPolicyRules) continue;
    for (const record of runtime.containers) {
      if (record.name !== spec.name || record.state !== 'exited') continue;
      if (restartRule(spec, record.exitCode)?.action !== ACTION) continue;
      at = Math.max(at ?? 0, record.finishedAtMs);
    }
  }
  return at;
}

/** Tells which attempts have to be followed by another one, whatever they came to. */
export function outdatedIn(o: PodObservation): (record: ContainerRecord | undefined) => boolean {
  const at = mayRestartAll(o.pod) ? askedAtMs(o) : undefined;
  return (record) => at !== undefined && record !== undefined && record.createdAtMs <= at;
}

/** Outdated containers that still run: nothing begins before they have ended. */
export function outdatedRunning(o: PodObservation) {
  const outdated = outdatedIn(o);
  return podContainers(o.pod).flatMap(({ kind, spec }) => {
    const record = latest(o.runtime, spec.name);
    const ends = kind !== 'ephemeral' && record?.state === 'running' && outdated(record);
    return ends ? [{ kind, record }] : [];
  });
}
