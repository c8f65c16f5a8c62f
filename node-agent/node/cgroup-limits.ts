import type { PodLimits } from '#node-agent/containers/container-resources.ts';

/** What bounds a group; absent members are left as they are. */
export type GroupLimits = Partial<PodLimits>;

/** One file of a group, in the hierarchy of its controller (on v2 there is only one). */
export type LimitFile = { controller: string; file: string; value: string };

/** A unit's property as D-Bus has it: name, type, value. */
export type UnitProperty = readonly [name: string, type: string, value: string];

/** The published conversion of v1 shares (2…262144) to v2 weight (1…10000). */
export const cpuWeight = (shares: number): number =>
  Math.min(10_000, 1 + Math.floor(((shares - 2) * 9999) / 262_142));

/** Shares that have this weight, for groups that were made before this process. */
export const sharesOfWeight = (weight: number): number =>
  2 + Math.ceil(((weight - 1) * 262_142) / 9999);

/** What to write into a group's files. A quota or memory that is absent beside its kin is unlimited. */
export function limitFiles(version: 1 | 2, limits: GroupLimits): LimitFile[] {
  const { cpuShares, cpuPeriodUs, cpuQuotaUs, memoryBytes, pids } = limits;
  const files: LimitFile[] = [];
  const set = (controller: string, file: string, value: string | number): void => {
    files.push({ controller, file: `${controller}.${file}`, value: String(value) });
  };
  if (cpuShares !== undefined) {
    if (version === 2) set('cpu', 'weight', cpuWeight(cpuShares));
    else set('cpu', 'shares', cpuShares);
  }
  if (cpuPeriodUs !== undefined) {
    if (version === 2) set('cpu', 'max', `${cpuQuotaUs ?? 'max'} ${cpuPeriodUs}`);
    else {
      set('cpu', 'cfs_period_us', cpuPeriodUs);
      set('cpu', 'cfs_quota_us', cpuQuotaUs ?? -1);
    }
  }
  if (memoryBytes !== undefined || cpuPeriodUs !== undefined) {
    if (version === 2) set('memory', 'max', memoryBytes ?? 'max');
    else set('memory', 'limit_in_bytes', memoryBytes ?? -1);
  }
  if (pids) set('pids', 'max', pids);
  return [...files, ...hugepageFiles(version, limits)];
}

/** systemd has no property for these. */
export function hugepageFiles(version: 1 | 2, { hugepages = [] }: GroupLimits): LimitFile[] {
  return hugepages.map(({ pageSize, limit }) => ({
    controller: 'hugetlb',
    file: `hugetlb.${pageSize}.${version === 2 ? 'max' : 'limit_in_bytes'}`,
    value: String(limit),
  }));
}

/** systemd's own word for "no limit". */
const INFINITY = String(2n ** 64n - 1n);
/** systemd rounds a quota up to this, microseconds per second of CPU. */
const QUOTA_STEP_US = 10_000;

/**
 * The same limits as properties of a slice. systemd writes them again whenever it looks at the unit,
 * so writing the files beside it would not last. Source: org.freedesktop.systemd1(5).
 */
export function sliceProperties(version: 1 | 2, limits: GroupLimits): UnitProperty[] {
  const { cpuShares, cpuPeriodUs, cpuQuotaUs, memoryBytes, pids } = limits;
  const properties: UnitProperty[] = [];
  const set = (name: string, value: number | string): void => {
    properties.push([name, 't', String(value)]);
  };
  if (cpuShares !== undefined) {
    if (version === 2) set('CPUWeight', cpuWeight(cpuShares));
    else set('CPUShares', cpuShares);
  }
  if (cpuPeriodUs !== undefined) {
    const perSecond = cpuQuotaUs === undefined ? undefined : (cpuQuotaUs * 1e6) / cpuPeriodUs;
    set('CPUQuotaPeriodUSec', cpuPeriodUs);
    set(
      'CPUQuotaPerSecUSec',
      perSecond === undefined ? INFINITY : Math.ceil(perSecond / QUOTA_STEP_US) * QUOTA_STEP_US,
    );
  }
  if (memoryBytes !== undefined || cpuPeriodUs !== undefined)
    set(version === 2 ? 'MemoryMax' : 'MemoryLimit', memoryBytes ?? INFINITY);
  if (pids) set('TasksMax', pids);
  return properties;
}

/** Without them systemd would not turn the controllers on for a slice. */
export const ACCOUNTING: readonly UnitProperty[] = [
  ['CPUAccounting', 'b', 'true'],
  ['MemoryAccounting', 'b', 'true'],
  ['IOAccounting', 'b', 'true'],
  ['TasksAccounting', 'b', 'true'],
];
