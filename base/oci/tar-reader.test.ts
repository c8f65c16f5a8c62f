import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type TarEntry, tarStream } from './tar.ts';
import { readTar, type TarItem } from './tar-reader.ts';

async function bytesOf(entries: readonly TarEntry[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of tarStream(entries)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

type Seen = Omit<TarItem, 'content'> & { text: string };

async function readBack(bytes: Buffer, size = 1000, read = true): Promise<Seen[]> {
  const seen: Seen[] = [];
  for await (const { content, ...item } of readTar(inPieces(bytes, size))) {
    const chunks: Uint8Array[] = [];
    if (read) for await (const chunk of content) chunks.push(chunk);
    seen.push({ ...item, text: Buffer.concat(chunks).toString() });
  }
  return seen;
}

const long = `${'d'.repeat(90)}/${'f'.repeat(90)}`;
const ENTRIES: TarEntry[] = [
  { path: 'a', type: 'directory', mode: 0o1777, uid: 7, gid: 8 },
  { path: 'a/b', type: 'file', mode: 0o4755, content: Buffer.from('hello') },
  { path: 'a/c', type: 'symlink', target: '../somewhere' },
  { path: 'a/d', type: 'hardlink', target: 'a/b' },
  { path: 'a/n', type: 'char', major: 1, minor: 3, mode: 0o666 },
  {
    path: 'a/x',
    type: 'file',
    content: Buffer.alloc(0),
    xattrs: { 'user.k': Buffer.from([0, 255, 10]) },
  },
  { path: long, type: 'file', content: Buffer.from('long') },
];

test('reads back what the writer wrote, however the bytes are cut', async () => {
  const bytes = await bytesOf(ENTRIES);
  for (const size of [1, 511, 513, 1 << 20]) {
    const seen = await readBack(bytes, size);
    const at = (path: string) => seen.find((one) => one.path.replace(/\/$/, '') === path);
    assert.deepEqual([at('a')?.type, at('a')?.mode, at('a')?.uid], ['directory', 0o1777, 7]);
    assert.deepEqual([at('a/b')?.text, at('a/b')?.mode], ['hello', 0o4755]);
    assert.equal(at('a/c')?.linkTarget, '../somewhere');
    assert.deepEqual([at('a/d')?.type, at('a/d')?.linkTarget], ['hardlink', 'a/b']);
    assert.deepEqual(at('a/n')?.device, { major: 1, minor: 3 });
    assert.deepEqual([...(at('a/x')?.xattrs['user.k'] ?? [])], [0, 255, 10]);
    assert.equal(at(long)?.text, 'long');
  }
});

test('content that nobody reads is skipped', async () => {
  const seen = await readBack(await bytesOf(ENTRIES), 700, false);
  assert.ok(seen.some(({ path }) => path === long));
});

test('damaged archives are errors, cut off ones too', async () => {
  const bytes = await bytesOf(ENTRIES);
  const damaged = Buffer.from(bytes);
  damaged[3] = 0x41;
  await assert.rejects(readBack(damaged), /checksum/);
  await assert.rejects(readBack(bytes.subarray(0, 1027)), /cut off|middle/);
});
