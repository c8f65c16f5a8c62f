import { execFile } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { ConfigError } from '#node-agent/config-error.ts';
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

/** Mounts huge pages of a size, unless something is mounted there. Throws with mount's own words. */
export async function mountHugepages(dir: string, pageBytes: number): Promise<void> {
  if (isMountPoint(dir)) return;
  await run('mount', ['-t', 'hugetlbfs', '-o', `pagesize=${pageBytes}`, 'nodev', dir]);
}

/**
 * Makes a directory a place from which mounts spread to containers and back, as volumes with mount
 * propagation need. Safe to repeat. Throws with mount's own words.
 */
export async function makeShared(dir: string): Promise<void> {
  if (!isMounted(dir)) await run('mount', ['--rbind', dir, dir]);
  await run('mount', ['--make-rshared', dir]);
}

const NFS_HELPERS = ['/sbin/mount.nfs', '/usr/sbin/mount.nfs'];
/** A server that does not answer must not hold a pod for ever. */
const NFS_MS = 2 * 60_000;

/** Mounts an NFS export. Throws ConfigError without the helper, else with mount's own words. */
export async function mountNfs(
  dir: string,
  { server, path, options }: { server: string; path: string; options: readonly string[] },
): Promise<void> {
  if (isMounted(dir)) return;
  if (!NFS_HELPERS.some((helper) => existsSync(helper)))
    throw new ConfigError(
      `${NFS_HELPERS[0]} is not installed on this node: ` +
        'install the NFS client (nfs-common or nfs-utils) to mount NFS volumes',
    );
  mkdirSync(dir, { recursive: true });
  const flags = options.length > 0 ? ['-o', options.join(',')] : [];
  await run('mount', ['-t', 'nfs', ...flags, `${server}:${path}`, dir], { timeout: NFS_MS });
}

/** A mount as containerd describes it. */
export type SnapshotMount = { type: string; source: string; options: readonly string[] };

/** What an image brings along is to be read, not run. */
const IMAGE_OPTIONS = ['ro', 'nodev', 'nosuid', 'noexec'];
const LOWER = 'lowerdir=';

/** Mounts an image's snapshot at `dir`, read-only. Throws with mount's own words. */
export async function mountSnapshot(mounts: readonly SnapshotMount[], dir: string): Promise<void> {
  if (isMounted(dir)) return;
  for (const { type, source, options } of mounts) {
    const lower = options.find((option) => option.startsWith(LOWER))?.slice(LOWER.length);
    const dirs = lower?.split(':') ?? [];
    // One page has to hold all layers: they are named from the directory that holds them.
    const base = commonDir(dirs);
    const own = options.filter((option) => !option.startsWith(LOWER) && option !== 'rw');
    const short = dirs.map((one) => one.slice(base.length).replace(/^\//, ''));
    const all = [...new Set([...own, ...IMAGE_OPTIONS])];
    if (lower !== undefined) all.push(`${LOWER}${short.join(':')}`);
    const args = ['-t', type === 'bind' ? 'none' : type, '-o', all.join(','), source, dir];
    await run('mount', args, { cwd: base || '/' });
  }
}

/** The directory that all paths are below; '' when there is none but the root. */
function commonDir(paths: readonly string[]): string {
  const [first, ...rest] = paths.map((path) => path.split('/').slice(0, -1));
  if (!first) return '';
  const differs = first.findIndex((part, i) => rest.some((other) => other[i] !== part));
  return (differs < 0 ? first : first.slice(0, differs)).join('/');
}

/** Mounts what is open as `fd` at `target`, whatever its name leads to by now. */
export async function bindOpen(fd: number, target: string): Promise<void> {
  await run('mount', ['--no-canonicalize', '--bind', `/proc/${process.pid}/fd/${fd}`, target]);
}

/** Unmounts everything at or below `dir`. */
export async function unmountAll(dir: string): Promise<void> {
  // The common case is nothing to do; reading the table is cheaper than starting a program.
  if (!readFileSync('/proc/self/mountinfo', 'utf8').includes(dir)) return;
  await unmountBelow([dir]);
}
