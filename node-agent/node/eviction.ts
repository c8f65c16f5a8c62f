import { amountsOf, podAmounts } from '#api/pod-resources.ts';
import type { Pod } from '#api/types.ts';
import { isMirror, isStatic } from '#node-agent/pods/static-pods.ts';
import type { Amount, Signal, Threshold } from '#node-agent/node/eviction-thresholds.ts';

/** How long a condition stays after it was last true. Source: evictionPressureTransitionPeriod. */
export const TRANSITION_MS = 5 * 60_000;
/** Pods of this priority keep the node or the cluster alive. Source: system-critical priority. */
export const CRITICAL_PRIORITY = 2_000_000_000;

export type Pressure = 'MemoryPressure' | 'DiskPressure' | 'PIDPressure';
export type Resource = 'memory' | 'ephemeral-storage' | 'inodes' | 'pids';

const MEANING: Readonly<Record<Signal, { pressure: Pressure; resource: Resource }>> = {
  'memory.available': { pressure: 'MemoryPressure', resource: 'memory' },
  'nodefs.available': { pressure: 'DiskPressure', resource: 'ephemeral-storage' },
  'nodefs.inodesFree': { pressure: 'DiskPressure', resource: 'inodes' },
  'imagefs.available': { pressure: 'DiskPressure', resource: 'ephemeral-storage' },
  'imagefs.inodesFree': { pressure: 'DiskPressure', resource: 'inodes' },
  'pid.available': { pressure: 'PIDPressure', resource: 'pids' },
};

export type Measures = Partial<Record<Signal, { available: number; capacity: number }>>;

/** What was seen before; the next plan goes on from it. */
export type PressureState = {
  /** By threshold: met since. */
  metSinceMs: ReadonlyMap<Threshold, number>;
  lastSeenMs: ReadonlyMap<Pressure, number>;
};
export const NO_PRESSURE: PressureState = { metSinceMs: new Map(), lastSeenMs: new Map() };

export type PressureVerdict = {
  state: PressureState;
  conditions: ReadonlySet<Pressure>;
  /** The first threshold that asks for something to be done now, and what is left. */
  due?: { threshold: Threshold; resource: Resource; available: number; least: number } | undefined;
};

const amountOf = (amount: Amount, capacity: number): number =>
  'share' in amount ? amount.share * capacity : amount.value;

/** Which pressures there are, and whether something has to be freed now. Pure. */
export function judgePressure(
  thresholds: readonly Threshold[],
  measures: Measures,
  before: PressureState,
  now: number,
): PressureVerdict {
  const metSinceMs = new Map<Threshold, number>();
  const lastSeenMs = new Map(before.lastSeenMs);
  for (const threshold of thresholds) {
    const measure = measures[threshold.signal];
    if (!measure || measure.capacity === 0) continue;
    const { available, capacity } = measure;
    const since = before.metSinceMs.get(threshold);
    const least = amountOf(threshold.least, capacity);
    const extra = threshold.reclaim ? amountOf(threshold.reclaim, capacity) : 0;
    if (available >= least + (since === undefined ? 0 : extra)) continue;
    metSinceMs.set(threshold, since ?? now);
    lastSeenMs.set(MEANING[threshold.signal].pressure, now);
  }
  const conditions = new Set<Pressure>();
  for (const [pressure, at] of lastSeenMs) {
    if (now - at < TRANSITION_MS) conditions.add(pressure);
    else lastSeenMs.delete(pressure);
  }
  const [threshold] = [...metSinceMs]
    .filter(([{ graceMs }, since]) => now - since >= graceMs)
    .map(([one]) => one)
    // Memory goes first: a node without it does nothing else either.
    .sort(
      (a, b) => Number(b.signal === 'memory.available') - Number(a.signal === 'memory.available'),
    );
  const measure = threshold && measures[threshold.signal];
  return {
    state: { metSinceMs, lastSeenMs },
    conditions,
    due: measure && {
      threshold,
      resource: MEANING[threshold.signal].resource,
      available: measure.available,
      least: amountOf(threshold.least, measure.capacity),
    },
  };
}

/** What a pod uses of what can run short; containers by name. */
export type Usage = {
  memoryBytes: number;
  diskBytes: number;
  inodes: number;
  pids: number;
  containers: ReadonlyMap<string, { memoryBytes: number; diskBytes: number; logBytes?: number }>;
  /** Of emptyDir volumes, by name. */
  emptyDirBytes: ReadonlyMap<string, number>;
};

export type Candidate = { pod: Pod; usage: Usage };
export type Eviction = { pod: Pod; message: string; graceSeconds: number };

/** Static pods and those of the highest priorities are not evicted. */
export const isCritical = (pod: Pod): boolean =>
  isStatic(pod) || isMirror(pod) || (pod.spec.priority ?? 0) >= CRITICAL_PRIORITY;

/**
 * Who has to go first: those that use more than they asked for, then by priority, then by how much
 * more. Source: Kubernetes documentation, "Node-pressure eviction", pod selection.
 */
export function rank(candidates: readonly Candidate[], resource: Resource): Candidate[] {
  const used = ({ usage }: Candidate): number =>
    resource === 'memory'
      ? usage.memoryBytes
      : resource === 'ephemeral-storage'
        ? usage.diskBytes
        : resource === 'inodes'
          ? usage.inodes
          : usage.pids;
  const asked = ({ pod }: Candidate): number =>
    resource === 'inodes' || resource === 'pids'
      ? 0
      : (podAmounts(pod.spec, 'requests').get(resource) ?? 0);
  const over = (c: Candidate): number => used(c) - asked(c);
  const exceeds = (c: Candidate): number => (resource === 'pids' ? 0 : Number(over(c) > 0));
  const priority = ({ pod }: Candidate): number => pod.spec.priority ?? 0;
  return candidates
    .filter(({ pod }) => !isCritical(pod))
    .sort((a, b) => exceeds(b) - exceeds(a) || priority(a) - priority(b) || over(b) - over(a));
}

/** The one pod to evict for a threshold that is due; undefined when none may go. */
export function chooseVictim(
  due: NonNullable<PressureVerdict['due']>,
  candidates: readonly Candidate[],
  maxGraceSeconds = 0,
): Eviction | undefined {
  const { resource, threshold, available, least } = due;
  const [first] = rank(candidates, resource);
  if (!first) return undefined;
  const { pod, usage } = first;
  const bytes = resource === 'memory' || resource === 'ephemeral-storage';
  const amount = bytes ? binary : String;
  const parts = [
    `The node was low on resource: ${resource}. `,
    `Threshold quantity: ${amount(Math.round(least))}, available: ${amount(available)}. `,
  ];
  for (const { name, resources } of bytes ? pod.spec.containers : []) {
    const own = usage.containers.get(name);
    const used = resource === 'memory' ? own?.memoryBytes : own?.diskBytes;
    const asked = amountsOf(resources?.requests).get(resource) ?? 0;
    if (used === undefined || used <= asked) continue;
    parts.push(
      `Container ${name} was using ${binary(used)}, request is ${binary(asked)}, ` +
        `has larger consumption of ${resource}. `,
    );
  }
  const soft = threshold.graceMs > 0;
  const wished = pod.spec.terminationGracePeriodSeconds ?? 30;
  return {
    pod,
    message: parts.join(''),
    graceSeconds: soft ? Math.min(wished, maxGraceSeconds) : 0,
  };
}

/** Why a pod that uses more local storage than it may has to go; undefined while it does not. */
export function exceededLimit({ pod, usage }: Candidate): string | undefined {
  for (const { name, emptyDir } of pod.spec.volumes ?? []) {
    const limit = amountsOf(emptyDir?.sizeLimit ? { limit: emptyDir.sizeLimit } : {}).get('limit');
    const used = usage.emptyDirBytes.get(name) ?? 0;
    if (limit && used > limit)
      return `Usage of EmptyDir volume "${name}" exceeds the limit "${emptyDir?.sizeLimit}". `;
  }
  const whole = podAmounts(pod.spec, 'limits').get('ephemeral-storage');
  const all = pod.spec.containers.every((c) => c.resources?.limits?.['ephemeral-storage']);
  if (whole && all && usage.diskBytes > whole)
    return `Pod ephemeral local storage usage exceeds the total limit of containers ${binary(whole)}. `;
  for (const { name, resources } of pod.spec.containers) {
    const text = resources?.limits?.['ephemeral-storage'];
    const limit = amountsOf(resources?.limits).get('ephemeral-storage');
    if (limit && (usage.containers.get(name)?.diskBytes ?? 0) > limit)
      return `Container ${name} exceeded its local ephemeral storage limit "${text}". `;
  }
  return undefined;
}

/** Whether local storage of a pod has any limit, so that it is worth measuring. */
export const hasStorageLimit = ({ spec }: Pod): boolean =>
  (spec.volumes ?? []).some((v) => v.emptyDir?.sizeLimit && !v.emptyDir.medium) ||
  spec.containers.some((c) => c.resources?.limits?.['ephemeral-storage']);

/** `92Mi`: bytes in the largest binary unit that leaves a whole number. */
function binary(bytes: number): string {
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti'];
  let [value, unit] = [Math.round(bytes), 0];
  while (value >= 1024 && unit < units.length - 1 && (value % 1024 === 0 || value >= 10 * 1024)) {
    value = Math.floor(value / 1024);
    unit++;
  }
  return `${value}${units[unit]}`;
}
