import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { readElf } from './elf.ts';
import { MEDIA, openImageStore } from './image-store.ts';
import { programFiles } from './program-files.ts';
import { type TarEntry, tarStream } from './tar.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-oci-'));
after(() => rmSync(dir, { recursive: true, force: true }));

async function tarBytes(entries: readonly TarEntry[]): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(tarStream(entries)));
}

const text = (path: string, content: string): TarEntry => ({
  type: 'file',
  path,
  content: Buffer.from(content),
});

test("the machine's own tar reads what was written, with long names, links and modes", async () => {
  const source = join(dir, 'source');
  writeFileSync(source, 'x'.repeat(3000));
  const long = `deep/${'long'.repeat(40)}/name`;
  const archive = await tarBytes([
    text('b/two', 'zwei'),
    text('ä', 'umlaut'),
    { type: 'copy', path: 'bin/copy', source, sizeBytes: 3000, mode: 0o755 },
    { type: 'symlink', path: 'bin/link', target: 'copy' },
    { type: 'directory', path: 'tmp', mode: 0o1777 },
    text(long, 'deep'),
  ]);
  const out = join(dir, 'out');
  mkdirSync(out);
  execFileSync('tar', ['-xpf', '-', '-C', out], { input: archive });
  assert.equal(readFileSync(join(out, 'b/two'), 'utf8'), 'zwei');
  assert.equal(readFileSync(join(out, 'ä'), 'utf8'), 'umlaut');
  assert.equal(readFileSync(join(out, 'bin/link'), 'utf8').length, 3000);
  assert.equal(readFileSync(join(out, long), 'utf8'), 'deep');
  assert.equal(statSync(join(out, 'bin/copy')).mode & 0o7777, 0o755);
  assert.equal(statSync(join(out, 'tmp')).mode & 0o7777, 0o1777);
});

test('the order of the entries does not matter', async () => {
  const a = await tarBytes([text('a/x', '1'), text('b', '2')]);
  const b = await tarBytes([text('b', '2'), text('a/x', '1')]);
  assert.deepEqual(a, b);
});

test('a file that changes while it is read is refused', async () => {
  const source = join(dir, 'short');
  writeFileSync(source, 'abc');
  const entry: TarEntry = { type: 'copy', path: 'x', source, sizeBytes: 4 };
  await assert.rejects(tarBytes([entry]), /changed while it was read: 3 bytes, not 4/);
});

test('a program brings its loader and libraries', () => {
  const entries = programFiles('/bin/sh', 'bin/tool');
  const elf = readElf(readFileSync('/bin/sh'));
  const paths = entries.map(({ path }) => path);
  for (const name of elf?.needed ?? []) assert.ok(paths.includes(`lib/${name}`), name);
  if (elf?.interpreter) assert.ok(paths.includes(elf.interpreter.slice(1)));
});

const notRoot = process.geteuid?.() !== 0 && 'only root may change the root folder';
test('a program runs with nothing else around it', { skip: notRoot }, async () => {
  const archive = await tarBytes(programFiles('/bin/sh', 'bin/tool'));
  const root = join(dir, 'root');
  mkdirSync(root);
  execFileSync('tar', ['-xpf', '-', '-C', root], { input: archive });
  const out = execFileSync('chroot', [root, '/bin/tool', '-c', 'echo fine'], { encoding: 'utf8' });
  assert.equal(out, 'fine\n');
});

test('a file that is no program needs nothing', () => {
  assert.equal(readElf(Buffer.from('#!/bin/sh\n'.repeat(20))), undefined);
});

test('layers are stored by digest, compressed or not, and found again by their key', async () => {
  const images = openImageStore(join(dir, 'store'));
  const plain = await images.addLayer([text('a', '1')], { cacheKey: 'k' });
  assert.equal(plain.descriptor.digest, plain.diffId);
  assert.equal(plain.descriptor.mediaType, MEDIA.layer);
  assert.deepEqual(await images.addLayer([text('other', '2')], { cacheKey: 'k' }), plain);
  const zipped = await images.addLayer([text('a', '1')], { compress: true });
  assert.equal(zipped.diffId, plain.diffId);
  const [plainFile, zippedFile] = [plain, zipped].map(({ descriptor }) =>
    readFileSync(images.blobFile(descriptor.digest) ?? ''),
  );
  assert.deepEqual(gunzipSync(zippedFile ?? ''), plainFile);
});

test('what a crash cut off is noticed, and written again', async () => {
  const images = openImageStore(join(dir, 'cut'));
  const build = async (): Promise<void> => {
    const layer = await images.addLayer([text('a', '1')], { cacheKey: 'k' });
    images.addImage('h/x:1', [layer], {});
  };
  await build();
  assert.equal(images.isComplete('h/x:1'), true);
  assert.equal(images.isComplete('h/y:1'), false);
  const blobs = join(images.dir, 'blobs/sha256');
  for (const name of readdirSync(blobs)) {
    truncateSync(join(blobs, name));
    assert.equal(images.isComplete('h/x:1'), false);
    await build();
    assert.equal(images.isComplete('h/x:1'), true);
  }
});

test('names point to images; what no name needs is collected', async () => {
  const images = openImageStore(join(dir, 'names'));
  const one = await images.addLayer([text('a', '1')]);
  const two = await images.addLayer([text('a', '2')]);
  const first = images.addImage('h/x:1', [one], { Cmd: ['/a'] });
  images.addImage('h/y:1', [one, two], {});
  assert.deepEqual(images.names(), ['h/x:1', 'h/y:1']);
  assert.equal(images.resolve('h/x:1')?.digest, first.digest);
  assert.equal(images.resolve(`h/x@${first.digest}`)?.mediaType, MEDIA.manifest);
  assert.equal(images.resolve('h/x:2'), undefined);
  assert.equal(images.removeName('h/y:1'), true);
  assert.equal(images.removeName('h/y:1'), false);
  assert.ok(images.collectGarbage() > 0);
  assert.equal(images.blobFile(two.descriptor.digest), undefined);
  assert.ok(images.blobFile(one.descriptor.digest));
  assert.equal(images.blobFile('sha256:../../index.json'), undefined);
  writeFileSync(join(images.dir, 'index.json'), '{');
  assert.throws(() => images.names(), /index\.json is damaged/);
});
