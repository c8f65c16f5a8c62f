import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MEDIA, openImageStore } from '#base/oci/image-store.ts';
import type { Node } from '#api/types.ts';
import { type Peers, peersToAsk } from './peers.ts';
import { LOCAL_REGISTRY, PAUSE_IMAGE } from './pause.ts';
import { readRange } from './registry.ts';
import { type LocalImages, startLocalImages } from './start.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-registry-'));
const stop = new AbortController();
let local: LocalImages;

before(async () => {
  local = await startLocalImages({ storeDir: dir }, { signal: stop.signal });
});

after(async () => {
  stop.abort();
  await local.done;
  rmSync(dir, { recursive: true, force: true });
});

const get = (path: string, init?: RequestInit): Promise<Response> => fetch(local.url + path, init);

type Manifest = { config: { digest: string }; layers: { digest: string; size: number }[] };

test('an image is found by tag and by digest, and its blobs match their digests', async () => {
  assert.equal((await get('/v2/')).status, 200);
  const byTag = await get('/v2/pause/manifests/1');
  assert.equal(byTag.headers.get('content-type'), MEDIA.manifest);
  const digest = byTag.headers.get('docker-content-digest') ?? '';
  const manifest = (await byTag.json()) as Manifest;
  const byDigest = await get(`/v2/pause/manifests/${digest}`);
  assert.deepEqual(await byDigest.json(), manifest);
  for (const wanted of [digest, manifest.config.digest, manifest.layers[0]?.digest]) {
    const blob = Buffer.from(await (await get(`/v2/pause/blobs/${wanted}`)).arrayBuffer());
    assert.equal(`sha256:${createHash('sha256').update(blob).digest('hex')}`, wanted);
  }
});

test('HEAD gives the size without the body, a range its part', async () => {
  const manifest = (await (await get('/v2/pause/manifests/1')).json()) as Manifest;
  const path = `/v2/pause/blobs/${manifest.layers[0]?.digest}`;
  const head = await get(path, { method: 'HEAD' });
  assert.equal(head.headers.get('content-length'), `${manifest.layers[0]?.size}`);
  assert.equal((await head.arrayBuffer()).byteLength, 0);
  const whole = Buffer.from(await (await get(path)).arrayBuffer());
  const part = await get(path, { headers: { range: 'bytes=100-199' } });
  assert.equal(part.status, 206);
  assert.deepEqual(Buffer.from(await part.arrayBuffer()), whole.subarray(100, 200));
  assert.equal((await get(path, { headers: { range: 'bytes=999999-' } })).status, 416);
});

test('what is not there is refused in the words of the specification', async () => {
  const none = `sha256:${'0'.repeat(64)}`;
  const cases: [string, number, string][] = [
    ['/v2/pause/manifests/2', 404, 'MANIFEST_UNKNOWN'],
    ['/v2/pause/manifests/1?ns=docker.io', 404, 'MANIFEST_UNKNOWN'],
    [`/v2/pause/blobs/${none}`, 404, 'BLOB_UNKNOWN'],
    ['/v2/pause/blobs/..%2f..%2findex.json', 404, 'NAME_UNKNOWN'],
    ['/v2/pause/blobs/sha256:..', 404, 'BLOB_UNKNOWN'],
    ['/etc/passwd', 404, 'NAME_UNKNOWN'],
  ];
  for (const [path, status, code] of cases) {
    const response = await get(path);
    const body = (await response.json()) as { errors: { code: string }[] };
    assert.deepEqual([path, response.status, body.errors[0]?.code], [path, status, code]);
  }
  assert.equal((await get('/v2/pause/manifests/1', { method: 'DELETE' })).status, 405);
});

test('what another process adds to the store is served at once', async () => {
  const images = openImageStore(dir);
  const file = { type: 'file', path: 'a', content: Buffer.from('a') } as const;
  images.addImage(`${LOCAL_REGISTRY}/team/tool:2`, [await images.addLayer([file])], {});
  assert.equal((await get('/v2/team/tool/manifests/2')).status, 200);
  assert.deepEqual(await (await get('/v2/team/tool/tags/list')).json(), {
    name: 'team/tool',
    tags: ['2'],
  });
  assert.deepEqual(await (await get('/v2/_catalog')).json(), {
    repositories: ['pause', 'team/tool'],
  });
  assert.ok(images.names().includes(PAUSE_IMAGE));
});

test('a taken port is named', async () => {
  const port = Number(new URL(local.url).port);
  await assert.rejects(
    startLocalImages({ storeDir: dir, port }, { signal: stop.signal }),
    new RegExp(`cannot serve images on 127.0.0.1:${port}`),
  );
});

test('ranges', () => {
  assert.deepEqual(readRange('bytes=0-9', 100), { start: 0, end: 9 });
  assert.deepEqual(readRange('bytes=90-', 100), { start: 90, end: 99 });
  assert.deepEqual(readRange('bytes=90-500', 100), { start: 90, end: 99 });
  assert.deepEqual(readRange('bytes=-10', 100), { start: 90, end: 99 });
  assert.equal(readRange('bytes=100-', 100), 'unsatisfiable');
  assert.equal(readRange('bytes=-0', 100), 'unsatisfiable');
  assert.equal(readRange('lines=1-2', 100), undefined);
  assert.equal(readRange(undefined, 100), undefined);
});

test('other nodes are asked for what is not here, and given what the runtime has pulled', async () => {
  const pulled = mkdtempSync(join(tmpdir(), 'gantry-content-'));
  const content = Buffer.from('a layer that the runtime has pulled');
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  writeFileSync(join(pulled, digest.slice('sha256:'.length)), content);
  const stores = [0, 1].map(() => mkdtempSync(join(tmpdir(), 'gantry-registry-')));
  const options = { signal: stop.signal };
  const [ownDir = '', otherDir = ''] = stores;
  const other = await startLocalImages({ storeDir: otherDir, contentDir: pulled }, options);
  let asked = 0;
  const peers: Peers = async (path, { method, range, signal }) => {
    asked++;
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = range === undefined ? {} : { range };
      request(other.url + path, { method, headers, signal }, resolve)
        .on('error', reject)
        .end();
    });
    return answer.statusCode === 404 ? undefined : answer;
  };
  const own = await startLocalImages({ storeDir: ownDir, peers }, options);
  const path = `/v2/team/app/blobs/${digest}?ns=reg.test`;
  const whole = await fetch(own.url + path);
  assert.equal(await whole.text(), content.toString());
  const part = await fetch(own.url + path, { headers: { range: 'bytes=2-6' } });
  assert.equal(part.status, 206);
  assert.equal(await part.text(), 'layer');
  assert.equal(asked, 2);
  const tag = await fetch(`${own.url}/v2/team/app/manifests/1?ns=reg.test`);
  assert.equal(tag.status, 404, 'then the registry itself is asked');
  for (const folder of [pulled, ...stores]) rmSync(folder, { recursive: true, force: true });
});

test('ready nodes are asked, others for each part, and not too many', () => {
  const node = (name: string, ready = 'True'): Node => ({
    metadata: { name },
    status: {
      addresses: [{ type: 'InternalIP', address: name }],
      conditions: [{ type: 'Ready', status: ready }],
      daemonEndpoints: { kubeletEndpoint: { Port: 10_250 } },
    },
  });
  const some = [node('a'), node('b'), node('c', 'Unknown')];
  assert.deepEqual(peersToAsk(some, 'a', 'x'), [{ host: 'b', port: 10_250 }]);
  assert.deepEqual(peersToAsk([node('a')], 'a', 'x'), []);
  const many = Array.from({ length: 50 }, (_, i) => node(`n${i}`));
  const first = (path: string) => peersToAsk(many, 'n0', path)[0]?.host;
  assert.equal(peersToAsk(many, 'n0', 'x').length, 8);
  assert.ok(new Set(['x', 'y', 'z'].map(first)).size > 1);
});
