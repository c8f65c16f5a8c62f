import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { sha256 } from '#base/sha256.ts';
import { errorText, type Log } from '#base/log.ts';
import { amountsOf } from '#api/pod-resources.ts';
import { cpuShares, type ResourceFacts } from '#node-agent/containers/container-resources.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { CgroupDriver } from '#node-agent/node/cgroup-layout.ts';
import type { GroupLimits } from '#node-agent/node/cgroup-limits.ts';
import { type Cgroups, openCgroups } from '#node-agent/node/cgroups.ts';
import { type Capacity, meminfo, type Reserved } from '#node-agent/node/node-facts.ts';
import { missingForSystemd } from '#node-agent/node/systemd-units.ts';

const MOUNT = '/sys/fs/cgroup';

/** The runtime's own word counts: two drivers on a machine would each undo what the other does. */
export const chooseDriver = (
  asked: CgroupDriver | undefined,
  runtimes: CgroupDriver | undefined,
): CgroupDriver => runtimes ?? asked ?? 'cgroupfs';

/** What of the node's groups a later start, or `gantry down`, must know. */
type CgroupRecord = { driver: CgroupDriver; root: string };

const recordFile = (rootDir: string): string => join(rootDir, 'cgroups.json');

function readRecord(rootDir: string): CgroupRecord | undefined {
  try {
    return JSON.parse(readFileSync(recordFile(rootDir), 'utf8')) as CgroupRecord;
  } catch {
    return undefined; // nothing ran here yet
  }
}

/** Own to this node of this data directory: several clusters can share a machine. */
export function ownRoot(nodeName: string, rootDir: string): string {
  const hash = sha256(resolve(rootDir)).slice(0, 8);
  return `gantry/${nodeName}-${hash}`;
}

type Where = { nodeName: string; rootDir: string; log: Log };

/**
 * Opens the groups of a node's pods. Throws ConfigError where systemd cannot be asked, and while pods
 * of an earlier start are in groups of another kind: they could be bounded no more.
 */
export function openNodeCgroups(
  { nodeName, rootDir, log }: Where,
  driver: CgroupDriver,
  root?: string,
): Cgroups {
  const missing = driver === 'systemd' ? missingForSystemd() : undefined;
  if (missing) throw new ConfigError(`--cgroup-driver systemd: ${missing}`);
  const wanted = { driver, root: root ?? (driver === 'systemd' ? '' : ownRoot(nodeName, rootDir)) };
  const before = readRecord(rootDir);
  if (before && (before.driver !== driver || before.root !== wanted.root)) {
    const count = openCgroups({ ...before, log }).pods().length;
    if (count > 0)
      throw new ConfigError(
        `${count} pods of this node have cgroups of the driver ${before.driver}; end them with ` +
          `"gantry down" before the node starts with ${driver}`,
      );
  }
  mkdirSync(rootDir, { recursive: true });
  writeFileSync(recordFile(rootDir), JSON.stringify(wanted));
  return openCgroups({ ...wanted, log });
}

/** Removes the groups of a node that is taken down. */
export async function removeNodeCgroups({ nodeName, rootDir, log }: Where): Promise<void> {
  const record = readRecord(rootDir) ?? {
    driver: 'cgroupfs' as const,
    root: ownRoot(nodeName, rootDir),
  };
  await openCgroups({ ...record, log })
    .removeAll()
    .catch((error: unknown) =>
      log.warn('could not remove the cgroups of the node', { error: errorText(error) }),
    );
}

/**
 * What all pods may use together: all but what is reserved. Source: Kubernetes documentation,
 * "Enforcing Node Allocatable".
 */
export function nodeLimits({ capacity }: Capacity, reserved: readonly Reserved[]): GroupLimits {
  const has = amountsOf(capacity);
  const left = (name: string): number =>
    reserved.reduce((rest, list) => rest - (amountsOf(list).get(name) ?? 0), has.get(name) ?? 0);
  return { cpuShares: cpuShares(left('cpu')), memoryBytes: Math.max(0, left('memory')) };
}

/** What the kernel can bound here. */
export function readResourceFacts({ version }: Pick<Cgroups, 'version'>): ResourceFacts {
  const controllers = readIfThere(join(MOUNT, 'cgroup.controllers'));
  const hugetlb =
    version === 2 ? /\bhugetlb\b/.test(controllers) : existsSync(join(MOUNT, 'hugetlb'));
  return {
    memoryCapacityBytes: meminfo().totalBytes,
    cgroupVersion: version,
    hugepageSizes: hugetlb ? pageSizes() : [],
    swap:
      version === 1
        ? existsSync(join(MOUNT, 'memory/memory.memsw.limit_in_bytes'))
        : readdirSync(MOUNT).some((name) => existsSync(join(MOUNT, name, 'memory.swap.max'))),
  };
}

/** `hugepages-2048kB` is `2MB` in the words of cgroups. */
function pageSizes(dir = '/sys/kernel/mm/hugepages'): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir).flatMap((folder) => {
    const kib = Number(/^hugepages-(\d+)kB$/.exec(folder)?.[1] ?? 0);
    if (kib === 0) return [];
    if (kib % 1024 ** 2 === 0) return [`${kib / 1024 ** 2}GB`];
    return [kib % 1024 === 0 ? `${kib / 1024}MB` : `${kib}KB`];
  });
}

function readIfThere(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}
