import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { processStat } from '#base/process-stat.ts';

const run = promisify(execFile);

/** One process as /proc shows it. */
export type ProcessInfo = { pid: number; parent: number; state: string; command: string[] };

/** Every process of this machine; those that end while being read are left out. */
export function listProcesses(): ProcessInfo[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readProcess(Number(name)) ?? []);
}

/** Undefined when there is no such process, or only its zombie. */
export function readProcess(pid: number): ProcessInfo | undefined {
  try {
    const stat = processStat(pid);
    if (!stat || stat.state === 'Z') return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    return { pid, parent: stat.parent, state: stat.state, command };
  } catch {
    return undefined;
  }
}

/** `root` and everything below it, children after their parents. */
export function withDescendants(root: number, processes: readonly ProcessInfo[]): number[] {
  const found = [root];
  for (let i = 0; i < found.length; i++) {
    for (const process of processes) if (process.parent === found[i]) found.push(process.pid);
  }
  return found;
}

/** Sends a signal; false when the process is gone already. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Mount points at or below any of `dirs`, the deepest last, from a mountinfo text. */
export function mountsBelow(mountinfo: string, dirs: readonly string[]): string[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4])
    .filter((point) => point !== undefined)
    .map((point) =>
      point.replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .filter((point) => dirs.some((dir) => point === dir || point.startsWith(`${dir}/`)));
}

/** Unmounts all at or below `dirs`, last mounted first; what is busy is detached. */
export async function unmountBelow(dirs: readonly string[]): Promise<void> {
  const mounted = (): string[] => mountsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), dirs);
  for (const point of mounted().reverse()) {
    try {
      await run('umount', [point]).catch(() => run('umount', ['-l', point]));
    } catch (error) {
      // A program that an ended agent has left may have been quicker.
      if (mounted().includes(point)) throw error;
    }
  }
}
