import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { openImageStore } from '#base/oci/image-store.ts';
import { createCa, issueCertificate } from '#base/x509.ts';
import type { Node } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import { credentialsOf, isNode } from '#node-agent/server/server-access.ts';
import { createPeers, PEER_PATH } from './peers.ts';
import { registryHandler } from './registry.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-peers-'));
const servers: https.Server[] = [];
after(() => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
  rmSync(dir, { recursive: true, force: true });
});

const now = Date.now();
const validity = { notBeforeMs: now - 1_000, notAfterMs: now + 3_600_000 };
const ca = await createCa({ commonName: 'kubernetes', validity });
const stranger = await createCa({ commonName: 'stranger', validity });
const caFile = join(dir, 'ca.crt');
writeFileSync(caFile, ca.certPem);
const organizations = ['system:nodes'];
const client = (commonName: string, by = ca, groups = organizations) =>
  issueCertificate(by, { commonName, organizations: groups, usages: ['client'], validity });

/** A node as its agent serves it: TLS, and images for nodes only. */
async function serveNode(images: ReturnType<typeof openImageStore>, signedBy = ca) {
  const hosts = ['127.0.0.1'];
  const pair = await issueCertificate(signedBy, {
    commonName: 'system:node:b',
    hosts,
    usages: ['server'],
    validity,
  });
  const handle = registryHandler({ images }, silentLog);
  const options = { cert: pair.certPem, key: pair.keyPem, ca: ca.certPem, requestCert: true };
  const server = https.createServer({ ...options, rejectUnauthorized: false }, (request, reply) => {
    if (!isNode(credentialsOf(request))) return void reply.writeHead(401).end();
    request.url = request.url?.slice(PEER_PATH.length) ?? '';
    void handle(request, reply);
  });
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return (server.address() as AddressInfo).port;
}

const node = (name: string, port: number): Node => ({
  metadata: { name },
  status: {
    addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
    conditions: [{ type: 'Ready', status: 'True' }],
    daemonEndpoints: { kubeletEndpoint: { Port: port } },
  },
});

const peersOf = (all: Node[], pair: { certPem: string; keyPem: string }) =>
  createPeers({
    nodes: { list: () => all } as unknown as Informer<Node>,
    nodeName: 'a',
    identity: () => ({ cert: pair.certPem, key: pair.keyPem }),
    caFile,
    log: silentLog,
  });

test('nodes give each other images, and nobody else', async () => {
  const images = openImageStore(join(dir, 'images'));
  const layer = await images.addLayer([
    { type: 'file', path: 'hello', content: Buffer.from('world') },
  ]);
  images.addImage('reg.test/app:1', [layer], {});
  const [has, hasNot, false_] = await Promise.all([
    serveNode(images),
    serveNode(openImageStore(join(dir, 'empty'))),
    serveNode(images, stranger),
  ]);
  const signal = AbortSignal.timeout(10_000);
  const all = [node('a', 1), node('b', has), node('c', hasNot), node('d', 9)];
  const own = await client('system:node:a');
  const ask = peersOf(all, own);
  const path = `/v2/app/blobs/${layer.descriptor.digest}?ns=reg.test`;
  const found = await ask(path, { method: 'GET', signal });
  const chunks = found ? await Array.fromAsync(found as AsyncIterable<Buffer>) : [];
  assert.equal(Buffer.concat(chunks).length, layer.descriptor.size);
  const manifest = await ask('/v2/app/manifests/1?ns=reg.test', { method: 'HEAD', signal });
  assert.equal(
    manifest?.headers['docker-content-digest'],
    images.resolve('reg.test/app:1')?.digest,
  );
  const other = await ask('/v2/app/manifests/2?ns=reg.test', { method: 'HEAD', signal });
  assert.equal(other, undefined);

  const onlyB = [node('b', has)];
  for (const pair of [
    await client('system:node:a', stranger),
    await client('eve', ca, ['guests']),
    await client('system:node:a', ca, ['guests']),
  ])
    assert.equal(await peersOf(onlyB, pair)(path, { method: 'GET', signal }), undefined);
  const fake = await peersOf([node('b', false_)], own)(path, { method: 'GET', signal });
  assert.equal(fake, undefined, 'a node that the cluster does not vouch for');
});
