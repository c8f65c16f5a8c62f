import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { extractElf, loadOrder, moduleDependencies } from './kernel.ts';

const ELF = Buffer.concat([Buffer.from('\x7fELF', 'latin1'), Buffer.alloc(3000, 7)]);

/** A kernel image with one setup sector and the payload after 16 bytes of code. */
function bzImage(payload: Buffer): Buffer {
  const header = Buffer.alloc(1024);
  header[0x1f1] = 1;
  header.write('HdrS', 0x202, 'latin1');
  header.writeUInt32LE(16, 0x248);
  header.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([header, Buffer.alloc(16), payload, Buffer.alloc(100)]);
}

const size = (): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(ELF.length);
  return bytes;
};

test('the ELF file is found in images of several compressions', async () => {
  assert.deepEqual(await extractElf(bzImage(gzipSync(ELF))), ELF);
  assert.deepEqual(await extractElf(bzImage(Buffer.concat([zstdCompressSync(ELF), size()]))), ELF);
  assert.deepEqual(await extractElf(bzImage(ELF)), ELF);
});

test('what is no kernel image is said', async () => {
  await assert.rejects(extractElf(Buffer.alloc(4096)), /HdrS/);
  await assert.rejects(extractElf(bzImage(Buffer.from('something else'))), /no ELF file/);
});

test('modules say what they depend on', () => {
  const text = 'license=GPL\0depends=virtio,virtio_ring\0name=virtio_net\0';
  assert.deepEqual(moduleDependencies(Buffer.from(`\0${text}`)), ['virtio', 'virtio_ring']);
  assert.deepEqual(moduleDependencies(Buffer.from('\0depends=\0')), []);
  assert.deepEqual(moduleDependencies(Buffer.from('')), []);
});

test('modules come after those they depend on, whatever dash their names have', () => {
  const module = (name: string, ...depends: string[]) => ({ name, depends });
  const order = loadOrder([
    module('a', 'c', 'b_x'),
    module('b-x', 'c', 'built_in'),
    module('c'),
  ]).map(({ name }) => name);
  assert.deepEqual(order, ['c', 'b-x', 'a']);
  assert.throws(() => loadOrder([module('a', 'b'), module('b', 'a')]), /depend on each other/);
});
