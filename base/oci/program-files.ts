import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { readElf } from './elf.ts';
import type { TarEntry } from './tar.ts';

/** Where the C library's loader looks besides /etc/ld.so.conf. */
const LIBRARY_DIRS = ['/lib64', '/usr/lib64', '/lib', '/usr/lib', '/usr/local/lib'];

/**
 * A program of this machine with all the shared libraries it loads at its start, as layer entries:
 * the program at `target`, the loader and libraries at the paths where the loader finds them.
 * Throws an Error that names a library that is not installed.
 */
export function programFiles(program: string, target: string): TarEntry[] {
  const entries = [copyOf(program, target)];
  const seen = new Set<string>();
  const queue = [realpathSync(program)];
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const elf = readElf(readFileSync(file));
    if (!elf) continue;
    const origin = dirname(file);
    const runPath = elf.runPath.map((dir) => dir.replace(/\$(ORIGIN|\{ORIGIN\})/g, origin));
    const found = elf.needed.map((name) => ({ name, path: findLibrary(name, runPath, elf) }));
    if (elf.interpreter) found.push({ name: elf.interpreter, path: elf.interpreter });
    for (const { name, path } of found) {
      if (seen.has(name)) continue;
      seen.add(name);
      if (!path || !existsSync(path))
        throw new Error(`${file} needs ${name}, which is not installed`);
      // The loader itself is named with its full path in the program; libraries go to /lib.
      const place = name === elf.interpreter ? name.slice(1) : `lib/${basename(name)}`;
      entries.push(copyOf(path, place));
      queue.push(realpathSync(path));
    }
  }
  return entries;
}

/** One file of this machine, with its mode. */
export function copyOf(source: string, path: string): TarEntry {
  const real = realpathSync(source);
  const { size, mode } = statSync(real);
  return { type: 'copy', path, source: real, sizeBytes: size, mode: mode & 0o755 };
}

function findLibrary(
  name: string,
  runPath: readonly string[],
  { machine }: { machine: number },
): string | undefined {
  for (const dir of [...runPath, ...configuredDirs(), ...LIBRARY_DIRS]) {
    const path = join(dir, name);
    // A folder may hold another architecture's library of the same name.
    if (existsSync(path) && readElf(readFileSync(path))?.machine === machine) return path;
  }
  return undefined;
}

function configuredDirs(): string[] {
  const triplet = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as string];
  return triplet ? [`/usr/local/lib/${triplet}`, `/lib/${triplet}`, `/usr/lib/${triplet}`] : [];
}
