import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { cpioArchive, type InitramfsEntry } from './initramfs.ts';
import { findKernelPackage, readKernel, readModules, unpackKernelPackage } from './kernel.ts';

const run = promisify(execFile);

/** Where setup.sh leaves the kernel's package; it is only ever unpacked. */
export const KERNEL_PACKAGE_DIR = '/var/cache/gantry/packages';

const AGENT_DIR = import.meta.dirname;
const JAIL_SOURCE = join(AGENT_DIR, '../vmm/jail.c');
const PRELOAD_SOURCE = join(AGENT_DIR, '../vmm/special-files.c');
/** The C library's own headers first; the kernel's, which musl does not bring, after them. */
const HEADERS = ['/usr/include', '/usr/include/x86_64-linux-gnu'];
const PROGRAM_FLAGS = ['-static', '-Os', '-s', '-Wall', '-Wextra', '-Werror'];
/** Without a C library: it is loaded into programs that have another one. */
const SHARED_FLAGS = ['-shared', '-fPIC', '-nostdlib', '-Os', '-s', '-Wall', '-Wextra', '-Werror'];

/** What every VM starts from. Files are read-only and shared by all of them. */
export type GuestFiles = {
  kernel: string;
  initramfs: string;
  /** The program that starts QEMU with its own user, namespaces and files. */
  jail: string;
  /** What QEMU is loaded with (vmm/special-files.c). */
  preload: string;
  /** The folder of all of them. */
  dir: string;
  /** Changes when any of them does; names the folder they are in. */
  hash: string;
};

/**
 * Builds kernel, initramfs and jail below `cacheDir`, once for each state of their sources (4 s; a
 * few milliseconds after that). Throws with what is missing.
 */
export async function buildGuest(
  cacheDir: string,
  options: { packageDir?: string } = {},
): Promise<GuestFiles> {
  const { packageDir = KERNEL_PACKAGE_DIR } = options;
  const kernelPackage = findKernelPackage(packageDir);
  if (!kernelPackage)
    throw new Error(`no kernel for microVMs in ${packageDir}: ./setup.sh fetches its package`);
  const sources = agentSources();
  const hash = sourceHash(kernelPackage, [...sources, JAIL_SOURCE, PRELOAD_SOURCE]);
  const dir = join(cacheDir, `guest-${hash}`);
  if (!existsSync(dir)) {
    mkdirSync(cacheDir, { recursive: true });
    const work = mkdtempSync(join(cacheDir, 'building-'));
    try {
      await build(work, kernelPackage, sources);
      renameSync(work, dir);
    } catch (error) {
      // Another process may have built the same meanwhile.
      if (!existsSync(dir)) throw error;
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    removeOthers(cacheDir, basename(dir));
  }
  const at = (name: string): string => join(dir, name);
  const preload = at('special-files.so');
  return {
    dir,
    kernel: at('vmlinux'),
    initramfs: at('initramfs'),
    jail: at('jail'),
    preload,
    hash,
  };
}

const agentSources = (): string[] =>
  readdirSync(AGENT_DIR)
    .filter((name) => name.endsWith('.c') || name.endsWith('.h'))
    .sort()
    .map((name) => join(AGENT_DIR, name));

function sourceHash(kernelPackage: string, sources: readonly string[]): string {
  const hash = createHash('sha256');
  hash.update(`${basename(kernelPackage)} ${statSync(kernelPackage).size}`);
  const own = ['build.ts', 'initramfs.ts', 'kernel.ts'].map((name) => join(AGENT_DIR, name));
  for (const file of [...sources, ...own]) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

/** VMs keep what they run from open; files of earlier versions are of no more use. */
function removeOthers(cacheDir: string, current: string): void {
  for (const name of readdirSync(cacheDir))
    if (name.startsWith('guest-') && name !== current)
      rmSync(join(cacheDir, name), { recursive: true, force: true });
}

async function build(dir: string, kernelPackage: string, sources: string[]): Promise<void> {
  const unpacked = join(dir, 'package');
  mkdirSync(unpacked);
  await unpackKernelPackage(kernelPackage, unpacked);
  writeFileSync(join(dir, 'vmlinux'), await readKernel(unpacked), { mode: 0o644 });
  const agent = join(dir, 'agent');
  await compile(
    agent,
    sources.filter((file) => file.endsWith('.c')),
  );
  await compile(join(dir, 'jail'), [JAIL_SOURCE]);
  await compile(join(dir, 'special-files.so'), [PRELOAD_SOURCE], SHARED_FLAGS);
  const modules = await readModules(unpacked);
  writeFileSync(
    join(dir, 'initramfs'),
    cpioArchive(initramfsEntries(readFileSync(agent), modules)),
  );
  rmSync(unpacked, { recursive: true });
}

function initramfsEntries(
  agent: Buffer,
  modules: readonly { name: string; content: Buffer }[],
): InitramfsEntry[] {
  const directories = ['dev', 'modules'].map(
    (name): InitramfsEntry => ({ name, kind: 'directory', mode: 0o755 }),
  );
  return [
    ...directories,
    { name: 'dev/console', kind: 'character device', mode: 0o600, major: 5, minor: 1 },
    { name: 'init', kind: 'file', mode: 0o755, content: agent },
    ...modules.map(({ name, content }, index): InitramfsEntry => {
      const place = String(index).padStart(3, '0');
      return { name: `modules/${place}-${name}.ko`, kind: 'file', mode: 0o644, content };
    }),
  ];
}

async function compile(
  output: string,
  sources: readonly string[],
  flags: readonly string[] = PROGRAM_FLAGS,
): Promise<void> {
  const includes = HEADERS.flatMap((dir) => ['-idirafter', dir]);
  try {
    await run('musl-gcc', [...flags, ...includes, '-o', output, ...sources]);
  } catch (cause) {
    const detail = (cause as { stderr?: string }).stderr?.split('\n')[0] ?? '';
    throw new Error(`musl-gcc cannot build ${basename(output)} for microVMs: ${detail}`, { cause });
  }
}
