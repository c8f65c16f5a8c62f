import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

const MOUNT = '/sys/fs/cgroup';
/** v1 hierarchies in which VMs are counted and limited. */
const V1_CONTROLLERS = ['cpu', 'cpuacct', 'memory', 'pids'];
/** Of sandboxes that no pod cgroup was named for. */
const DEFAULT_PARENT = '/gantry-microvm';

export const vmCgroup = (parent: string | undefined, sandboxId: string): string =>
  join(parent || DEFAULT_PARENT, `vm-${sandboxId.slice(0, 24)}`);

/** Makes the group in which a VM's process runs, below its pod's, which has the limits. */
export function makeVmCgroup(path: string): void {
  for (const dir of hierarchies()) mkdirSync(join(dir, path), { recursive: true });
}

/** Removes the group; one in which a process still dies is left to the node agent's own sweep. */
export function removeVmCgroup(path: string): void {
  for (const dir of hierarchies()) {
    try {
      rmdirSync(join(dir, path));
    } catch {
      continue; // gone already, or busy for a moment longer
    }
  }
}

/** True when the kernel of the host killed for lack of memory in this group. */
export function ranOutOfMemory(path: string): boolean {
  const files = [
    join(MOUNT, path, 'memory.events'),
    join(MOUNT, 'memory', path, 'memory.oom_control'),
  ];
  return files.some((file) => {
    try {
      return /^oom_kill [1-9]/m.test(readFileSync(file, 'utf8'));
    } catch {
      return false; // the other version of cgroups
    }
  });
}

function hierarchies(): string[] {
  if (existsSync(join(MOUNT, 'cgroup.controllers'))) return [MOUNT];
  return readdirSync(MOUNT)
    .filter((name) => V1_CONTROLLERS.includes(name))
    .map((name) => join(MOUNT, name));
}
