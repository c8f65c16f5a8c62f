import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';

const run = promisify(execFile);

/** An uncompressed kernel with its modules is below 100 MB; more would be no kernel. */
const MAX_KERNEL_BYTES = 256 * 1024 * 1024;

/**
 * What the guest needs, in the kernel package's names. What a kernel has built in is left out; what
 * others depend on is loaded before them (`loadOrder`).
 */
export const GUEST_MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_mmio', 'virtio_console'],
  ...['failover', 'net_failover', 'virtio_net'],
  ...['overlay', 'crc32c_generic', 'crc32c-intel', 'libcrc32c', 'erofs'],
  ...['crct10dif_common', 'crct10dif_generic', 'crc-t10dif', 'crc64', 'crc64-rocksoft', 't10-pi'],
  ...['scsi_common', 'scsi_mod', 'virtio_scsi', 'sd_mod'],
  ...['netfs', 'fscache', '9pnet', '9pnet_virtio', '9p'],
  ...['crc16', 'mbcache', 'jbd2', 'ext4'],
] as const;

export type KernelModule = { name: string; content: Buffer; depends: string[] };

/** The newest kernel package in `dir`, where setup.sh has put it. Undefined when there is none. */
export function findKernelPackage(dir: string): string | undefined {
  if (!existsSync(dir)) return undefined;
  const names = readdirSync(dir).filter((name) => /^linux-image-\d.*\.deb$/.test(name));
  const newest = names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
  return newest === undefined ? undefined : join(dir, newest);
}

/** Unpacks the kernel and the guest's modules of a package into `dir`; nothing is installed. */
export async function unpackKernelPackage(file: string, dir: string): Promise<void> {
  const wanted = GUEST_MODULES.flatMap((name) => [`*/${name}.ko`, `*/${name}.ko.xz`]);
  const members = ['./boot/vmlinuz-*', '*/modules.builtin', ...wanted];
  const source = spawn('dpkg-deb', ['--fsys-tarfile', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  // tar complains of names that match nothing: no package has both compressed and plain modules.
  const tar = spawn('tar', ['-x', '-C', dir, '--wildcards', ...members], {
    stdio: [source.stdout, 'ignore', 'ignore'],
  });
  source.stdout.destroy();
  const failed = Promise.withResolvers<never>();
  for (const child of [source, tar]) child.once('error', failed.reject);
  await Promise.race([Promise.all([once(source, 'close'), once(tar, 'close')]), failed.promise]);
  if (!findImage(dir)) throw new Error(`${basename(file)} holds no kernel (boot/vmlinuz-*)`);
}

const findImage = (dir: string): string | undefined =>
  existsSync(join(dir, 'boot'))
    ? readdirSync(join(dir, 'boot')).find((name) => name.startsWith('vmlinuz-'))
    : undefined;

/** The unpacked package's kernel as an ELF file, which QEMU starts without a boot loader (PVH). */
export async function readKernel(dir: string): Promise<Buffer> {
  const name = findImage(dir);
  if (!name) throw new Error(`no kernel in ${dir}/boot`);
  return extractElf(readFileSync(join(dir, 'boot', name)));
}

/**
 * The ELF file in a bzImage. Saves a guest the unpacking: 3 s under emulation.
 * Source: the kernel's Documentation/arch/x86/boot.rst (setup_sects, payload_offset/_length).
 */
export async function extractElf(image: Buffer): Promise<Buffer> {
  if (image.length < 0x250 || image.toString('latin1', 0x202, 0x206) !== 'HdrS')
    throw new Error('not a bzImage: its header lacks the word HdrS');
  const start = ((image[0x1f1] || 4) + 1) * 512 + image.readUInt32LE(0x248);
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c));
  const elf = await unpackPayload(payload);
  if (elf.toString('latin1', 1, 4) !== 'ELF')
    throw new Error('the kernel image holds no ELF file: its compression is not known');
  return elf;
}

function unpackPayload(payload: Buffer): Promise<Buffer> | Buffer {
  const magic = payload.toString('hex', 0, 6);
  // The last four bytes are the unpacked size, which is no part of the stream.
  const stream = payload.subarray(0, -4);
  if (magic.startsWith('1f8b')) return gunzipSync(payload, { maxOutputLength: MAX_KERNEL_BYTES });
  if (magic.startsWith('28b52ffd'))
    return zstdDecompressSync(stream, { maxOutputLength: MAX_KERNEL_BYTES });
  if (magic === 'fd377a585a00') return pipeThrough('xz', ['-dc', '--single-stream'], payload);
  if (magic.startsWith('02214c18')) return pipeThrough('lz4', ['-dc'], stream);
  return payload;
}

async function pipeThrough(command: string, args: string[], input: Buffer): Promise<Buffer> {
  const promise = run(command, args, { encoding: 'buffer', maxBuffer: MAX_KERNEL_BYTES });
  promise.child.stdin?.on('error', () => {}); // it may end before it has read the padding
  promise.child.stdin?.end(input);
  return (await promise).stdout;
}

/** The guest's modules from an unpacked package, in the order they can be loaded. */
export async function readModules(dir: string): Promise<KernelModule[]> {
  const files = readdirSync(join(dir, 'lib/modules'), { recursive: true, encoding: 'utf8' });
  const builtin = files.find((name) => name.endsWith('modules.builtin'));
  const builtinText = builtin ? readFileSync(join(dir, 'lib/modules', builtin), 'utf8') : '';
  const modules: KernelModule[] = [];
  for (const name of GUEST_MODULES) {
    const file = files.find((f) => [`${name}.ko`, `${name}.ko.xz`].includes(basename(f)));
    if (!file) {
      if (!builtinText.includes(`/${name}.ko`))
        throw new Error(`the kernel package has no module ${name}; the microVM guest needs it`);
      continue;
    }
    const raw = readFileSync(join(dir, 'lib/modules', file));
    const content = file.endsWith('.xz') ? await pipeThrough('xz', ['-dc'], raw) : raw;
    modules.push({ name, content, depends: moduleDependencies(content) });
  }
  // A module's own list names nothing that is built in, so each must be there.
  const names = modules.map(({ name }) => name.replaceAll('-', '_'));
  for (const { name, depends } of modules) {
    const lacking = depends.find((needed) => !names.includes(needed.replaceAll('-', '_')));
    if (lacking) throw new Error(`the guest's module ${name} needs ${lacking} (GUEST_MODULES)`);
  }
  return loadOrder(modules);
}

/** Names that a module's own `depends=` field lists. */
export function moduleDependencies(content: Buffer): string[] {
  const at = content.indexOf('\0depends=');
  if (at < 0) return [];
  const text = content.toString('latin1', at + 9, content.indexOf(0, at + 9));
  return text.split(',').filter((name) => name !== '');
}

/** Each after those it depends on; `-` and `_` are one in module names. */
export function loadOrder<M extends { name: string; depends: string[] }>(
  modules: readonly M[],
): M[] {
  const key = (name: string): string => name.replaceAll('-', '_');
  const byName = new Map(modules.map((module) => [key(module.name), module]));
  const ordered = new Set<M>();
  const visit = (module: M, above: readonly M[]): void => {
    if (above.includes(module)) throw new Error(`modules depend on each other: ${module.name}`);
    for (const name of module.depends) {
      const needed = byName.get(key(name));
      if (needed) visit(needed, [...above, module]);
    }
    ordered.add(module);
  };
  for (const module of modules) visit(module, []);
  return [...ordered];
}
