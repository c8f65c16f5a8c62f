import { parseDuration } from '#api/time.ts';
import type { Pod } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { CRITICAL_PRIORITY } from '#node-agent/node/eviction.ts';
import { graceOf } from '#node-agent/pods/pod-observation.ts';

/** Pods of this priority and more, up to the next period, get so long when the machine goes down. */
export type ShutdownPeriod = { priority: number; graceSeconds: number };

export type ShutdownFlags = {
  /** Durations: for all pods, and how much of it is for critical ones at the end. */
  gracePeriod?: string | undefined;
  gracePeriodCriticalPods?: string | undefined;
  /** `0=20,1000=30,2000000000=10`: seconds by priority, instead of the two above. */
  gracePeriodByPodPriority?: string | undefined;
};

/** What pods that ended for it say of themselves. Source: the kubelet's node shutdown. */
export const TERMINATED = 'Terminated';
export const TERMINATED_MESSAGE = 'Pod was terminated in response to imminent node shutdown.';

const BY_PRIORITY = '--shutdown-grace-period-by-pod-priority';

/** The periods, lowest priority first; none when nothing was asked for. Throws ConfigError. */
export function shutdownPeriods(flags: ShutdownFlags): ShutdownPeriod[] {
  const { gracePeriod, gracePeriodCriticalPods, gracePeriodByPodPriority: list } = flags;
  const allSeconds = wholeSeconds('--shutdown-grace-period', gracePeriod);
  const critical = '--shutdown-grace-period-critical-pods';
  const criticalSeconds = wholeSeconds(critical, gracePeriodCriticalPods);
  if (list) {
    if (allSeconds + criticalSeconds > 0)
      throw new ConfigError(
        `${BY_PRIORITY} stands instead of --shutdown-grace-period, not beside it`,
      );
    return readList(list);
  }
  if (criticalSeconds > allSeconds)
    throw new ConfigError(`${critical} is a part of --shutdown-grace-period and cannot be longer`);
  if (allSeconds === 0) return [];
  return [
    { priority: 0, graceSeconds: allSeconds - criticalSeconds },
    { priority: CRITICAL_PRIORITY, graceSeconds: criticalSeconds },
  ];
}

function wholeSeconds(flag: string, text: string | undefined): number {
  if (text === undefined || text === '') return 0;
  const ms = parseDuration(text);
  if (ms === undefined || ms < 0 || (ms > 0 && ms < 1000))
    throw new ConfigError(`${flag} takes a duration of a second or more, like 30s, not "${text}"`);
  return Math.floor(ms / 1000);
}

function readList(list: string): ShutdownPeriod[] {
  const periods = list.split(',').map((part) => {
    const [, priority, seconds] = /^(-?\d+)=(\d+)$/.exec(part.trim()) ?? [];
    if (priority === undefined || seconds === undefined)
      throw new ConfigError(`${BY_PRIORITY} takes a list like 0=20,1000=30, not "${part}"`);
    return { priority: Number(priority), graceSeconds: Number(seconds) };
  });
  return periods.sort((a, b) => a.priority - b.priority);
}

/** How long the machine has to wait in all. */
export const totalSeconds = (periods: readonly ShutdownPeriod[]): number =>
  periods.reduce((sum, { graceSeconds }) => sum + graceSeconds, 0);

export type ShutdownGroup = {
  /** The next group begins when all its pods are gone, at the latest after this. */
  graceSeconds: number;
  pods: { pod: Pod; graceSeconds: number }[];
};

/**
 * Who ends when: groups one after another, less important pods first; those without pods are left
 * out. A pod below the lowest period belongs to it. Source: the kubelet's node shutdown.
 */
export function shutdownPlan(
  pods: readonly Pod[],
  periods: readonly ShutdownPeriod[],
): ShutdownGroup[] {
  const members = periods.map((): Pod[] => []);
  for (const pod of pods) {
    const priority = pod.spec.priority ?? 0;
    const index = periods.findLastIndex((period) => period.priority <= priority);
    members[Math.max(0, index)]?.push(pod);
  }
  return periods.flatMap(({ graceSeconds }, index) => {
    const group = members[index] ?? [];
    if (group.length === 0) return [];
    const each = group.map((pod) => ({ pod, graceSeconds: Math.min(graceOf(pod), graceSeconds) }));
    return [{ graceSeconds, pods: each }];
  });
}
