import { execFile } from 'node:child_process';
import { lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { mountsBelow, unmountBelow } from '#node-agent/runtime/containerd-processes.ts';

const run = promisify(execFile);

/** True when a file system begins at `dir`. */
export function isMountPoint(dir: string): boolean {
  try {
    return lstatSync(dir).dev !== lstatSync(dirname(dir)).dev;
  } catch {
    return false;
  }
}

/** Mount points at or below `dir`, first mounted first. */
export const mountsIn = (dir: string): string[] =>
  mountsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), [dir]);

/** True when something is mounted at `dir` itself, be it of the same file system (a bind mount). */
export const isMounted = (dir: string): boolean => mountsIn(dir).includes(dir);

/** Mounts a tmpfs, unless something is mounted there. Throws with mount's own words. */
export async function mountTmpfs(
  dir: string,
  options: { sizeBytes?: number; mode?: number } = {},
): Promise<void> {
  if (isMountPoint(dir)) return;
  mkdirSync(dir, { recursive: true });
  const { sizeBytes, mode = 0o755 } = options;
  const flags = [
    `mode=${mode.toString(8)}`,
    ...(sizeBytes === undefined ? [] : [`size=${sizeBytes}`]),
  ];
  await run('mount', ['-t', 'tmpfs', '-o', flags.join(','), 'tmpfs', dir]);
}

/**
 * Makes a directory a place from which mounts spread to containers and back, as volumes with mount
 * propagation need. Safe to repeat. Throws with mount's own words.
 */
export async function makeShared(dir: string): Promise<void> {
  if (!isMounted(dir)) await run('mount', ['--rbind', dir, dir]);
  await run('mount', ['--make-rshared', dir]);
}

/** Unmounts everything at or below `dir`. */
export async function unmountAll(dir: string): Promise<void> {
  // The common case is nothing to do; reading the table is cheaper than starting a program.
  if (!readFileSync('/proc/self/mountinfo', 'utf8').includes(dir)) return;
  await unmountBelow([dir]);
}
