import { execFile } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What a container can write at most; the file takes only what is written. */
const SIZE_BYTES = 8 * 1024 * 1024 * 1024;
const TIMEOUT_MS = 60_000;

/** By the folder of the pods they are for. */
const templates = new Map<string, Promise<string>>();

/**
 * Makes a disk for a container's writable layer: a sparse ext4 file, copied from one that was
 * formatted once, which takes a quarter of the time. Throws an Error with the program's own words.
 */
export async function makeWritableDisk(dir: string, path: string): Promise<void> {
  const template = templates.get(dir) ?? makeTemplate(join(dir, '..', 'writable-layer.ext4'));
  templates.set(dir, template);
  try {
    await run('cp', ['--sparse=always', '--reflink=auto', await template, path], {
      timeout: TIMEOUT_MS,
    });
    await fs.chmod(path, 0o600);
  } catch (error) {
    templates.delete(dir); // it may have been removed: the next container makes it again
    rmSync(path, { force: true });
    throw error;
  }
}

async function makeTemplate(path: string): Promise<string> {
  if (existsSync(path)) return path;
  const partial = `${path}.${process.pid}`;
  await fs.writeFile(partial, '', { mode: 0o600 });
  await fs.truncate(partial, SIZE_BYTES);
  // No journal: after a crash of the VM the layer is thrown away.
  const features = ['-O', '^has_journal,^resize_inode', '-E', 'lazy_itable_init=1,nodiscard'];
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-m', '0', ...features, partial], {
    timeout: TIMEOUT_MS,
  });
  renameSync(partial, path);
  return path;
}
