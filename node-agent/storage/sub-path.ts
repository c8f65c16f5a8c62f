import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, realpath, rm } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { ConfigError } from '#node-agent/config-error.ts';
import { bindOpen, isMounted, unmountAll } from '#node-agent/storage/mounts.ts';

/** Opens a place without looking into it; `O_PATH` of Linux, which Node does not name. */
const O_PATH = 0o10000000;
const STEP = O_PATH | constants.O_NOFOLLOW;
const NEW_DIRECTORY_MODE = 0o750;

export type SubPath = { path: string; readOnly: boolean; subPath: string };

/**
 * A path inside a volume, which links in the volume may lead to but not out of. What does not exist
 * becomes a directory, where the volume can be written to. With `bindAt` the place is opened step by
 * step without following links and mounted there, so that nobody who can write to the volume can
 * exchange it between this look and the start of the container. Throws ConfigError.
 */
export async function resolveSubPath(of: SubPath, bindAt?: string): Promise<string> {
  const { subPath } = of;
  const clean = normalize(subPath);
  if (clean.startsWith('/') || clean.split('/').includes('..'))
    throw new ConfigError(`subPath "${subPath}" must be relative and stay inside the volume`);
  const root = await realpath(of.path);
  const path = join(root, clean);
  // Links of the volume's author (..data of a ConfigMap) are followed here; the walk then takes none.
  const real = (await realpath(path).catch(() => undefined)) ?? (await missing(of, root, clean));
  if (!isInside(real, root)) throw leadsOut(subPath);
  const fd = openInside(root, real === root ? '' : real.slice(root.length + 1), subPath);
  try {
    if (!bindAt) return real;
    await bind(fd, bindAt);
    return bindAt;
  } finally {
    closeSync(fd);
  }
}

const leadsOut = (subPath: string): ConfigError =>
  new ConfigError(`subPath "${subPath}" leads out of the volume`);

const isInside = (path: string, root: string): boolean =>
  path === root || path.startsWith(root === '/' ? root : `${root}/`);

/** Where a new directory is to be made. */
async function missing(of: SubPath, root: string, clean: string): Promise<string> {
  if (of.readOnly) throw new ConfigError(`subPath "${of.subPath}" does not exist in the volume`);
  const parts = clean.split('/');
  for (let count = parts.length - 1; count > 0; count--) {
    const found = await realpath(join(root, ...parts.slice(0, count))).catch(() => undefined);
    if (found) return join(found, ...parts.slice(count));
  }
  return join(root, clean);
}

/** Opens what is at `relative`, one name after another from the root, making what is not there. */
function openInside(root: string, relative: string, subPath: string): number {
  let fd = openSync(root, O_PATH);
  const mode = fstatSync(fd).mode & 0o7777;
  for (const name of relative.split('/').filter(Boolean)) {
    // A name below an open directory: openat(2) in the words that Node has.
    const at = join(`/proc/self/fd/${fd}`, name);
    let next: number | undefined;
    try {
      next = openOrMake(at, mode);
      if (fstatSync(next).isSymbolicLink()) throw leadsOut(subPath);
    } catch (error) {
      if (next !== undefined) closeSync(next);
      throw error;
    } finally {
      closeSync(fd);
    }
    fd = next;
  }
  return fd;
}

/** A new directory is as open as its volume, so that whoever may write there may write here too. */
function openOrMake(path: string, mode: number): number {
  try {
    return openSync(path, STEP);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  mkdirSync(path, { mode: NEW_DIRECTORY_MODE });
  const fd = openSync(path, STEP);
  if (fstatSync(fd).isDirectory()) chmodSync(`/proc/self/fd/${fd}`, mode);
  return fd;
}

/** Mounts what is open at `target`; an earlier attempt's mount there is replaced. */
async function bind(fd: number, target: string): Promise<void> {
  if (isMounted(target)) await unmountAll(target);
  await rm(target, { recursive: true, force: true });
  await mkdir(dirname(target), { recursive: true, mode: NEW_DIRECTORY_MODE });
  if (fstatSync(fd).isDirectory()) await mkdir(target, { mode: NEW_DIRECTORY_MODE });
  else writeFileSync(target, '');
  await bindOpen(fd, target);
  if (readlinkSync(`/proc/self/fd/${fd}`).endsWith(' (deleted)'))
    throw new ConfigError(`${target}: the subPath was removed while it was being mounted`);
}
