import { chmod, lchown, lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

const SET_GID = 0o2000;

/**
 * Gives a volume to a pod's fsGroup: the group owns everything, may read and write it, and new files
 * inherit it. With `onlyIfNeeded` a volume whose root is right already is left alone.
 * Source: API documentation of PodSecurityContext.fsGroup and .fsGroupChangePolicy.
 */
export async function giveToGroup(
  path: string,
  gid: number | undefined,
  access: 'writable' | 'read-only',
  { onlyIfNeeded = false }: { onlyIfNeeded?: boolean } = {},
): Promise<void> {
  if (gid === undefined) return;
  const bits = access === 'writable' ? 0o660 : 0o440;
  const root = await lstat(path);
  const wanted = bits | 0o110 | SET_GID;
  if (onlyIfNeeded && root.gid === gid && (root.mode & wanted) === wanted) return;
  await give(path, gid, bits);
}

async function give(path: string, gid: number, bits: number): Promise<void> {
  const stats = await lstat(path);
  await lchown(path, stats.uid, gid);
  if (stats.isSymbolicLink()) return;
  const extra = stats.isDirectory() ? bits | 0o110 | SET_GID : bits;
  await chmod(path, (stats.mode & 0o7777) | extra);
  if (!stats.isDirectory()) return;
  for (const name of await readdir(path)) await give(join(path, name), gid, bits);
}
