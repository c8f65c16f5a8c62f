import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { ConfigError } from '#node-agent/config-error.ts';

/** Files by relative path. */
export type Payload = Map<string, { content: Buffer; mode: number; uid?: number }>;

/** Symbolic link to the directory that holds the files now; renaming it changes all at once. */
const DATA = '..data';
/** What fsGroup adds to the mode of files that are only read, and of directories. */
const GROUP_READ = 0o440;
const GROUP_DIRECTORY = 0o2550;

/**
 * Makes `dir` hold exactly these files, so that a reader sees all old or all new ones: the files go
 * to a fresh directory, and the link `..data` is moved to it by one rename. What users see are links
 * through `..data`. Unchanged content is left alone.
 * Source: Kubernetes documentation, "Mounted ConfigMaps are updated automatically".
 */
export async function writeAtomically(
  dir: string,
  files: Payload,
  { gid }: { gid?: number | undefined } = {},
): Promise<void> {
  for (const path of files.keys()) checkPath(path);
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const current = await readlink(join(dir, DATA)).catch(() => undefined);
  if (current && (await same(join(dir, current), files))) return;
  const fresh = await mkdtemp(`${dir}/..`);
  await chmod(fresh, 0o755);
  for (const [path, { content, mode, uid }] of files) {
    const target = join(fresh, path);
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await writeFile(target, content);
    if (uid !== undefined || gid !== undefined) await chown(target, uid ?? 0, gid ?? 0);
    await chmod(target, gid === undefined ? mode : mode | GROUP_READ);
  }
  if (gid !== undefined) {
    for (const part of [dir, fresh]) {
      await chown(part, 0, gid);
      await chmod(part, 0o755 | GROUP_DIRECTORY);
    }
  }
  const link = join(dir, '..data_tmp');
  await rm(link, { force: true });
  await symlink(fresh.slice(dir.length + 1), link);
  await rename(link, join(dir, DATA));
  await linkNames(dir, files);
  if (current) await rm(join(dir, current), { recursive: true, force: true });
}

function checkPath(path: string): void {
  const clean = normalize(path);
  if (
    path === '' ||
    clean.startsWith('/') ||
    clean.split('/')[0] === '..' ||
    clean.startsWith('..')
  )
    throw new ConfigError(`invalid path: must be relative and not begin with "..": ${path}`);
}

/** One link per first part of a path; those of files that are gone are removed. */
async function linkNames(dir: string, files: Payload): Promise<void> {
  const wanted = new Set([...files.keys()].map((path) => normalize(path).split('/')[0] ?? ''));
  for (const name of wanted) {
    const link = join(dir, name);
    const there = await lstat(link).catch(() => undefined);
    if (!there) await symlink(`${DATA}/${name}`, link);
  }
  for (const name of await readdir(dir)) {
    if (!name.startsWith('..') && !wanted.has(name)) await rm(join(dir, name), { force: true });
  }
}

async function same(dir: string, files: Payload): Promise<boolean> {
  const there = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  const count = there.filter((entry) => entry.isFile()).length;
  if (count !== files.size) return false;
  for (const [path, { content }] of files) {
    const old = await readFile(join(dir, path)).catch(() => undefined);
    if (!old?.equals(content)) return false;
  }
  return true;
}
