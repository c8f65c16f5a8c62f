import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { chmod, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ConfigError } from '#node-agent/config-error.ts';
import { isMounted } from '#node-agent/storage/mounts.ts';

const execute = promisify(execFile);

/** A file system is made or checked in so long at most. */
const DISK_MS = 10 * 60_000;
const FS_TYPE = 'ext4';
const LOST = 'lost+found';
/** Source: fsck(8): errors were found and corrected. */
const CORRECTED = 1;

/** Runs a program of the machine. Throws ConfigError when it is not there, else with its own words. */
async function run(program: string, ...args: readonly string[]): Promise<string> {
  try {
    return (await execute(program, args, { timeout: DISK_MS })).stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new ConfigError(
        `${program} is not installed on this node: install e2fsprogs or xfsprogs`,
      );
    throw error;
  }
}

const exitCode = (error: unknown): unknown => (error as { code?: unknown }).code;

/** What is on a device: the type of its file system, `partitions`, or '' when it is blank. */
async function contentOf(device: string): Promise<string> {
  const text = await run('blkid', '-p', '-s', 'TYPE', '-s', 'PTTYPE', '-o', 'export', device).catch(
    (error: unknown) => {
      if (exitCode(error) === 2) return ''; // Source: blkid(8): nothing was found
      throw error;
    },
  );
  if (/^PTTYPE=/m.test(text) && !/^TYPE=/m.test(text)) return 'partitions';
  return /^TYPE=(.+)$/m.exec(text)?.[1] ?? '';
}

async function makeFileSystem(path: string, fsType: string): Promise<void> {
  // Reserved blocks would be taken from whoever asked for the size.
  const flags = /^ext[234]$/.test(fsType) ? ['-F', '-m0'] : [];
  await run(`mkfs.${fsType}`, ...flags, path);
}

/** Repairs what can be repaired without asking. */
async function check(path: string, flags: readonly string[]): Promise<void> {
  await run('fsck', ...flags, path).catch((error: unknown) => {
    if (exitCode(error) !== CORRECTED) throw error;
  });
}

export type LocalDisk = {
  device: string;
  fsType: string;
  options: readonly string[];
  readOnly: boolean;
};

/**
 * Mounts a block device at `dir`; a blank one gets a file system first, and whatever else is on it is
 * never touched. Throws ConfigError when that is no file system of the wanted type.
 * Source: the kubelet's SafeFormatAndMount.
 */
export async function mountDisk(disk: LocalDisk, dir: string): Promise<void> {
  if (isMounted(dir)) return;
  const { device, options, readOnly } = disk;
  const fsType = disk.fsType || FS_TYPE;
  const there = await contentOf(device);
  if (there === '' && readOnly)
    throw new ConfigError(`${device} is blank, and may not be formatted: it is used read-only`);
  if (there === '') await makeFileSystem(device, fsType);
  else if (there !== fsType)
    throw new ConfigError(`${device} holds ${there}, not ${fsType}; it is left as it is`);
  else if (!readOnly) await check(device, ['-a']);
  await mkdir(dir, { recursive: true, mode: 0o750 });
  const flags = [...options, ...(readOnly ? ['ro'] : [])];
  await execute('mount', ['-t', fsType, '-o', ['defaults', ...flags].join(','), device, dir]);
}

/** The parts of a volume that is a file system in a sparse file. */
export const imageFile = (dir: string): string => join(dir, 'image');
export const imageMount = (dir: string): string => join(dir, 'mount');

/**
 * The volume in `dir`, as large as asked for: made, grown and mounted as need be. What is mounted
 * already is grown in use, for which the kernel wants CAP_SYS_RESOURCE; returns whether it has the
 * size now, false when it gets it at the next mount only.
 */
export async function mountImage(
  dir: string,
  { sizeBytes, options }: { sizeBytes: number; options: readonly string[] },
): Promise<boolean> {
  const file = imageFile(dir);
  const mountPoint = imageMount(dir);
  if (isMounted(mountPoint)) return growMounted(file, sizeBytes);
  await mkdir(mountPoint, { recursive: true, mode: 0o755 });
  if (!existsSync(file)) await makeImage(file, sizeBytes);
  else {
    if (statSync(file).size < sizeBytes) await setSize(file, sizeBytes);
    await check(file, ['-t', FS_TYPE, '-f', '-p']);
    await run('resize2fs', file); // nothing to do when it fills its file already
  }
  const flags = ['loop', 'nodev', ...options].join(',');
  await execute('mount', ['-t', FS_TYPE, '-o', flags, file, mountPoint]);
  // As new it is like a directory: databases want it empty, and any user may write.
  if ((await readdir(mountPoint)).join() === LOST) {
    await rm(join(mountPoint, LOST), { recursive: true, force: true });
    await chmod(mountPoint, 0o777);
  }
  return true;
}

/** Whole or not at all: a file of that name has a file system. */
async function makeImage(file: string, sizeBytes: number): Promise<void> {
  const draft = `${file}.new`;
  await rm(draft, { force: true });
  await (await open(draft, 'w', 0o600)).close();
  await setSize(draft, sizeBytes);
  await makeFileSystem(draft, FS_TYPE);
  await rename(draft, file);
}

async function setSize(file: string, sizeBytes: number): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    await handle.truncate(sizeBytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function growMounted(file: string, sizeBytes: number): Promise<boolean> {
  if ((await stat(file)).size < sizeBytes) await setSize(file, sizeBytes);
  const [device] = (await run('losetup', '--noheadings', '--output', 'NAME', '-j', file)).split(
    '\n',
  );
  if (!device) return false;
  await run('losetup', '--set-capacity', device.trim());
  try {
    await run('resize2fs', device.trim());
    return true;
  } catch (error) {
    if (/Permission denied/.test(String((error as { stderr?: string }).stderr))) return false;
    throw error;
  }
}
