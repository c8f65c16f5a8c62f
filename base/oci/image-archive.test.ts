import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { importArchive } from '#base/oci/image-archive.ts';
import { openImageStore } from '#base/oci/image-store.ts';
import { type TarEntry, tarStream } from '#base/oci/tar.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-archive-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const options = {
  wholeName: (name: string) => (name.includes('/') ? name : `docker.io/library/${name}`),
};
let files = 0;

async function tar(entries: TarEntry[], gzip = false): Promise<string> {
  const bytes = Buffer.concat(await Array.fromAsync(tarStream(entries)));
  const file = join(dir, `archive-${files++}`);
  writeFileSync(file, gzip ? gzipSync(bytes) : bytes);
  return file;
}

const text = (path: string, value: unknown): TarEntry => ({
  type: 'file',
  path,
  content: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
});
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const store = () => openImageStore(join(dir, `store-${files++}`));

async function dockerArchive(changes: { tags?: string[] | null; diffId?: string } = {}) {
  const layer = Buffer.concat(await Array.fromAsync(tarStream([text('hello', 'world')])));
  const diffId = changes.diffId ?? `sha256:${sha256(layer)}`;
  const config = { architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [diffId] } };
  const { tags = ['app:1', 'reg.test/app:2'] } = changes;
  return [
    text('manifest.json', [{ Config: 'config.json', RepoTags: tags, Layers: ['a/layer.tar'] }]),
    text('config.json', config),
    { type: 'file', path: 'b/layer.tar', content: layer },
    { type: 'symlink', path: 'a/layer.tar', target: '../b/layer.tar' },
  ] satisfies TarEntry[];
}

test('a docker archive, plain and zipped, comes in under all its names', async () => {
  for (const gzip of [false, true]) {
    const images = store();
    const imported = await importArchive(await tar(await dockerArchive(), gzip), images, options);
    const names = ['docker.io/library/app:1', 'reg.test/app:2'];
    assert.deepEqual(
      imported.map(({ name }) => name),
      names,
    );
    for (const name of names) assert.ok(images.isComplete(name), name);
    assert.equal(images.resolve(names[0] ?? '')?.digest, imported[0]?.digest);
    assert.ok(images.removeName('reg.test/app:2'));
    images.collectGarbage();
    assert.ok(images.isComplete(names[0] ?? ''), 'what another name needs stays');
    const digest = imported[0]?.digest ?? '';
    images.removeName(names[0] ?? '');
    assert.ok(images.collectGarbage() > 0);
    assert.equal(images.blobFile(digest), undefined);
  }
});

test('an OCI layout comes in with its index of platforms', async () => {
  const blobs = new Map<string, Buffer>();
  const put = (value: Buffer | object, mediaType = '') => {
    const bytes = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
    blobs.set(sha256(bytes), bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  };
  const config = put({ rootfs: { diff_ids: [] } }, 'application/vnd.oci.image.config.v1+json');
  const layer = put(gzipSync('x'), 'application/vnd.oci.image.layer.v1.tar+gzip');
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  // Without a mediaType of its own, as the specification allows.
  const manifest = put({ schemaVersion: 2, config, layers: [layer] }, manifestType);
  const absent = { ...manifest, digest: `sha256:${'0'.repeat(64)}` };
  const platforms = put(
    { schemaVersion: 2, manifests: [manifest, absent] },
    'application/vnd.oci.image.index.v1+json',
  );
  const layout = (annotations: Record<string, string>): TarEntry[] => [
    text('oci-layout', { imageLayoutVersion: '1.0.0' }),
    text('index.json', { schemaVersion: 2, manifests: [{ ...platforms, annotations }] }),
    ...[...blobs].map(
      ([hex, content]): TarEntry => ({
        type: 'file',
        path: `blobs/sha256/${hex}`,
        content,
      }),
    ),
  ];
  const images = store();
  const named = { 'io.containerd.image.name': 'reg.test/multi:1' };
  await importArchive(await tar(layout(named)), images, options);
  assert.equal(images.resolve('reg.test/multi:1')?.digest, platforms.digest);
  assert.ok(images.isComplete('reg.test/multi:1'));
  assert.equal(images.resolve(`reg.test/multi@${manifest.digest}`)?.mediaType, manifestType);
  const tagOnly = await tar(layout({ 'org.opencontainers.image.ref.name': '1' }));
  await assert.rejects(importArchive(tagOnly, store(), options), /tag "1" has no whole name/);
  const given = await importArchive(tagOnly, images, { ...options, name: 'reg.test/given:1' });
  assert.equal(given[0]?.name, 'reg.test/given:1');
  blobs.delete(layer.digest.slice('sha256:'.length));
  const cut = importArchive(await tar(layout(named)), store(), options);
  await assert.rejects(cut, new RegExp(`${layer.digest}, a part of .* is not in the archive`));
});

test('what is no image archive is told so', async () => {
  const fails = async (file: string, what: RegExp): Promise<void> => {
    const images = store();
    await assert.rejects(importArchive(file, images, options), what);
    assert.deepEqual(images.names(), []);
  };
  await fails(await tar([text('readme', 'x')]), /neither an index.json nor a manifest.json/);
  await fails(await tar([text('index.json', 'x{')]), /index.json in the archive is no JSON/);
  await fails(await tar([text('index.json', {})]), /there is no image in it/);
  await fails(await tar(await dockerArchive({ tags: null })), /has no name in it/);
  const other = `sha256:${'1'.repeat(64)}`;
  await fails(await tar(await dockerArchive({ diffId: other })), /the archive is damaged: layer/);
  const broken = join(dir, 'broken');
  writeFileSync(broken, gzipSync('x'.repeat(10_000)).subarray(0, 30));
  await fails(broken, /unexpected end|tar/);
});
