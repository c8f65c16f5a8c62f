import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';

export type TreeUsage = { bytes: number; inodes: number };

/** Unit of `blocks` in a file's stats, whatever the filesystem's own is. */
const BLOCK_BYTES = 512;

/**
 * Disk space and inodes of a tree, on the one filesystem it begins on; hard links count once. What
 * vanishes meanwhile, or is not there at all, counts nothing.
 */
export async function treeUsage(dir: string): Promise<TreeUsage> {
  const total: TreeUsage = { bytes: 0, inodes: 0 };
  const linked = new Set<number>();
  const root = await lstat(dir).catch(() => undefined);
  if (!root) return total;
  const waiting = [dir];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const stats = await lstat(next).catch(() => undefined);
    if (!stats || stats.dev !== root.dev) continue;
    if (stats.nlink > 1 && !stats.isDirectory()) {
      if (linked.has(stats.ino)) continue;
      linked.add(stats.ino);
    }
    total.bytes += stats.blocks * BLOCK_BYTES;
    total.inodes++;
    if (!stats.isDirectory()) continue;
    const entries = await opendir(next).catch(() => undefined);
    if (!entries) continue;
    try {
      for await (const { name } of entries) waiting.push(join(next, name));
    } catch {
      // The directory went away while it was read.
    }
  }
  return total;
}
