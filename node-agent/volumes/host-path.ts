import type { Stats } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ConfigError } from '#node-agent/config-error.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

const CHECKS: Record<string, { is: (stats: Stats) => boolean; a: string }> = {
  Directory: { is: (s) => s.isDirectory(), a: 'a directory' },
  DirectoryOrCreate: { is: (s) => s.isDirectory(), a: 'a directory' },
  File: { is: (s) => s.isFile(), a: 'a file' },
  FileOrCreate: { is: (s) => s.isFile(), a: 'a file' },
  Socket: { is: (s) => s.isSocket(), a: 'a socket file' },
  CharDevice: { is: (s) => s.isCharacterDevice(), a: 'a character device' },
  BlockDevice: { is: (s) => s.isBlockDevice(), a: 'a block device' },
};

/**
 * Makes a directory and those above it. Not by the platform's `recursive`: that never ends where a
 * file system lets nobody make any, such as /proc, and takes a thread with it.
 */
async function makeDirectories(path: string): Promise<void> {
  const missing: string[] = [];
  for (let at = path; !(await stat(at).catch(() => undefined)); at = dirname(at)) missing.push(at);
  for (const dir of missing.reverse()) {
    await mkdir(dir, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error; // another pod made it meanwhile
    });
  }
}

/** A path of the node itself. Source: Kubernetes documentation, "hostPath volume types". */
export const hostPathVolume: VolumeType = {
  plugin: 'host-path',
  live: false,
  readOnly: false,
  inMemory: false,
  handles: (volume) => volume.hostPath !== undefined,
  async prepare({ volume }) {
    const { path = '', type = '' } = volume.hostPath ?? {};
    const check = CHECKS[type];
    if (!check) return path;
    let stats = await stat(path).catch(() => undefined);
    if (!stats && type === 'DirectoryOrCreate') {
      await makeDirectories(path);
      stats = await stat(path);
    } else if (!stats && type === 'FileOrCreate') {
      await makeDirectories(dirname(path));
      await writeFile(path, '', { flag: 'a', mode: 0o644 });
      stats = await stat(path);
    }
    if (!stats || !check.is(stats))
      throw new ConfigError(`hostPath type check failed: ${path} is not ${check.a}`);
    return path;
  },
};
