import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { type ImageStore, openImageStore } from '#base/oci/image-store.ts';
import { startRegistry } from '#node-agent/images-local/registry.ts';
import { findProgram, hostsToml } from '#node-agent/runtime/containerd-config.ts';
import { isRuntimeError } from '#node-agent/runtime/service.ts';
import { openImages } from './image-service.ts';

const missing =
  process.geteuid?.() !== 0
    ? 'image trees need root'
    : !findProgram('mkfs.erofs', process.env['PATH']) || !findProgram('fsck.erofs')
      ? 'mkfs.erofs is not installed (erofs-utils)'
      : false;

const stop = new AbortController();
let dir = '';
let store: ImageStore;
const used = new Set<string>();
const REGISTRY = 'gantry.internal';

before(async () => {
  if (missing) return;
  dir = mkdtempSync('/tmp/G-images-');
  store = openImageStore(join(dir, 'store'));
  const { url } = await startRegistry({ images: store }, { signal: stop.signal, log: silentLog });
  setHost(REGISTRY, url);
  setHost('mirrored.example', url);
});
after(() => {
  stop.abort(new Error('the test is over'));
  if (dir) rmSync(dir, { recursive: true, force: true });
});

function setHost(host: string, url: string): void {
  mkdirSync(join(dir, 'certs.d', host), { recursive: true });
  writeFileSync(join(dir, 'certs.d', host, 'hosts.toml'), hostsToml(url));
}

const open = (name = 'images', idleMs = 1_000) =>
  openImages({
    dir: join(dir, name),
    certsDir: join(dir, 'certs.d'),
    inUse: () => used,
    log: silentLog,
    idleMs,
  });

/** The image's files as `fsck.erofs --extract` finds them. */
function extract(file: string, to: string): string {
  const target = join(dir, to);
  execFileSync('fsck.erofs', [`--extract=${target}`, file], { stdio: 'ignore' });
  return target;
}

test('layers become one image file: owners, links, attributes, deletions', {
  skip: missing,
}, async () => {
  const below = await store.addLayer([
    { type: 'directory', path: 'etc', mode: 0o755 },
    { type: 'file', path: 'etc/passwd', content: Buffer.from('root:x:0:0::/:/bin/sh\n') },
    { type: 'file', path: 'etc/old', content: Buffer.from('old') },
    { type: 'file', path: 'bin/su', mode: 0o4755, uid: 0, gid: 12, content: Buffer.from('su') },
    { type: 'hardlink', path: 'bin/su2', target: 'bin/su' },
    { type: 'symlink', path: 'lib', target: '/etc' },
    {
      type: 'file',
      path: 'bin/ping',
      content: Buffer.from('p'),
      xattrs: { 'user.note': Buffer.from('kept') },
    },
    { type: 'char', path: 'dev/null', major: 1, minor: 3, mode: 0o666 },
  ]);
  const above = await store.addLayer(
    [
      { type: 'file', path: 'etc/.wh.old', content: Buffer.alloc(0) },
      {
        type: 'file',
        path: 'tmp/x',
        uid: 1000,
        gid: 1000,
        mode: 0o600,
        content: Buffer.alloc(200_000, 'x'),
      },
    ],
    { compress: true },
  );
  store.addImage(`${REGISTRY}/a:1`, [below, above], { User: '1000:1000', Cmd: ['/bin/su'] });
  store.addImage(`${REGISTRY}/b:1`, [below, above], { User: 'root' });
  const images = open();
  const [a, again] = await Promise.all([
    images.pullImage(`${REGISTRY}/a:1`, undefined),
    images.pullImage(`${REGISTRY}/a:1`, undefined),
  ]);
  const b = await images.pullImage(`${REGISTRY}/b:1`, undefined);
  assert.equal(a, again);
  assert.notEqual(a, b);
  const first = images.open(a);
  assert.equal(images.open(b).file, first.file, 'equal layers are unpacked once');
  assert.match(first.facts.passwd, /^root:/);
  assert.deepEqual((await images.imageStatus(a))?.uid, { value: 1000 });
  assert.equal((await images.imageStatus(b))?.username, 'root');

  const tree = extract(first.file, 'tree');
  const listed = execFileSync('find', ['.', '-printf', '%P %y %m %U:%G %n\n'], {
    cwd: tree,
    encoding: 'utf8',
  });
  const dump = execFileSync('dump.erofs', ['--path=/bin/su', first.file], { encoding: 'utf8' });
  assert.match(dump, /Links: 2/);
  assert.match(dump, /Gid: 12/);
  const ping = execFileSync('dump.erofs', ['--path=/bin/ping', first.file], { encoding: 'utf8' });
  assert.match(ping, /Xattr size: [1-9]/);
  assert.match(listed, /^tmp\/x f 600 1000:1000 /m);
  assert.match(listed, /^lib l /m);
  assert.match(listed, /^dev\/null c 666 /m);
  assert.doesNotMatch(listed, /old|\.wh\./);

  assert.equal(open().open(a).file, first.file, 'a second start finds it');
  used.add(first.chainId);
  await images.removeImage(a);
  await images.removeImage(b);
  assert.equal(await images.imageStatus(a), null);
  assert.ok(existsSync(first.file), 'a container still uses it');
  used.clear();
  images.collect();
  assert.deepEqual(readdirSync(join(dir, 'images', 'erofs')), []);
  assert.deepEqual(readdirSync(join(dir, 'images', 'blobs')), []);
});

test('a moved tag belongs to the newer image', { skip: missing }, async () => {
  const images = open('moved');
  const layer = async (text: string) =>
    store.addLayer([{ type: 'file', path: 'v', content: Buffer.from(text) }]);
  store.addImage(`${REGISTRY}/m:1`, [await layer('one')], {});
  const one = await images.pullImage(`${REGISTRY}/m:1`, undefined);
  store.addImage(`${REGISTRY}/m:1`, [await layer('two')], {});
  const two = await images.pullImage(`${REGISTRY}/m:1`, undefined);
  assert.equal((await images.imageStatus(`${REGISTRY}/m:1`))?.id, two);
  assert.deepEqual((await images.imageStatus(one))?.repoTags, []);
});

test('a mirror of several registries is told which one is meant', { skip: missing }, async () => {
  const name = 'mirrored.example/lib/m:1';
  store.addImage(name, [await store.addLayer([{ type: 'directory', path: 'd', mode: 0o755 }])], {});
  const images = open('mirrored');
  await images.pullImage(name, undefined);
  assert.deepEqual((await images.imageStatus(name))?.repoTags, [name]);
});

test('registries that hang, refuse, or send damage are clear errors', {
  skip: missing,
}, async () => {
  const wrong = `sha256:${'0'.repeat(64)}`;
  const server = createServer((request, response) => {
    if (request.url?.includes('/hang/')) return;
    if (request.url?.includes('/auth/')) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    } else if (request.url?.includes('/manifests/')) {
      const blob = { mediaType: '', digest: wrong, size: 4 };
      response.end(JSON.stringify({ config: blob, layers: [] }));
    } else {
      response.end('evil');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    setHost('bad.example', `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const images = open('bad', 200);
    const table: Record<string, RegExp> = {
      'bad.example/hang/x:1': /bad\.example.*hangs/,
      'bad.example/auth/x:1': /401.*imagePullSecrets/,
      'bad.example/x:1': /damaged/,
      [`${REGISTRY}/none:1`]: /not found/,
      'not a name': /invalid reference/,
    };
    for (const [name, words] of Object.entries(table)) {
      await assert.rejects(images.pullImage(name, undefined), (error) => {
        assert.ok(isRuntimeError(error), String(error));
        assert.match(error.message, words);
        return true;
      });
    }
    assert.deepEqual(await images.listImages(), []);
    assert.deepEqual(readdirSync(join(dir, 'bad', 'blobs')), []);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('a full disk is named', { skip: missing }, async () => {
  const small = join(dir, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', small]);
  try {
    const layer = await store.addLayer([
      { type: 'file', path: 'big', content: Buffer.alloc(1 << 20, 'b') },
    ]);
    store.addImage(`${REGISTRY}/big:1`, [layer], {});
    const images = open('small');
    await assert.rejects(images.pullImage(`${REGISTRY}/big:1`, undefined), /no space left/);
  } finally {
    execFileSync('umount', [small]);
  }
});
