import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { EtcdConnection } from '#apiserver/store/etcd-client.ts';
import { openEtcdStore } from '#apiserver/store/etcd.ts';
import { findEtcd, startEtcd, type TestEtcd } from '#apiserver/store/etcd-testing.ts';
import { bytes, collect, put, revisionOf } from '#apiserver/store/suite-material.ts';
import { type Store, StoreUnavailableError } from '#apiserver/store/store.ts';
import { createCa, issueCertificate } from '#base/x509.ts';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';

const skip = findEtcd() === undefined && 'etcd is not installed (package etcd-server)';
let etcd: TestEtcd;
before(async () => {
  if (!skip) etcd = await startEtcd();
});
after(async () => {
  if (!skip) await etcd.stop();
});

const open = (connection: Partial<EtcdConnection> = {}): Promise<Store> =>
  openEtcdStore({
    endpoints: [etcd.endpoint],
    ...connection,
    clock: systemClock,
    log: silentLog,
  });

test('several clients see one store', { skip }, async () => {
  const [one, other] = await Promise.all([open(), open()]);
  const from = await one.revision();
  const watch = collect(one, '/shared/', from);
  const revision = await put(other, '/shared/a', '1');
  assert.equal((await one.get('/shared/a')).entry?.modRevision, revision);
  const races = await Promise.all(
    [one, other].map((store) =>
      store.commit({ key: '/shared/a', expect: revision, value: bytes('2') }),
    ),
  );
  assert.equal(races.filter((result) => result.ok).length, 1);
  assert.deepEqual((await watch.take(2)).map(revisionOf), [revision, revision + 1]);
  await watch.stop();
  // What another client compacts is gone for this one as well.
  await other.compact(revision + 1);
  await assert.rejects(collect(one, '/shared/', from).take(1), { name: 'CompactedError' });
  await Promise.all([one.close(), other.close()]);
});

test('an etcd that dies is reported; watches go on when it is back', { skip }, async () => {
  const store = await open();
  const first = await put(store, '/restart/a', '1');
  const watch = collect(store, '/restart/', first - 1);
  await watch.take(1);
  await etcd.kill();
  await assert.rejects(put(store, '/restart/a', '2'), (error) => {
    assert.ok(error instanceof StoreUnavailableError);
    assert.match(error.message, /^etcd at http:\/\/127\.0\.0\.1:\d+ does not answer/);
    return true;
  });
  await assert.rejects(store.get('/restart/a'), StoreUnavailableError);
  await etcd.start();
  const second = await until(() => put(store, '/restart/a', '3'));
  const events = await watch.take(2);
  assert.deepEqual(events.map(revisionOf), [first, second]);
  await watch.stop();
  await store.close();
});

const RETRY_MS = 20;

/** Tries again while the store says that it is away: nothing else tells when it is back. */
async function until<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      await systemClock.sleep(RETRY_MS);
    }
  }
}

test('a server that is not there is named', { skip }, async () => {
  await assert.rejects(open({ endpoints: ['http://127.0.0.1:1'] }), (error) => {
    assert.ok(error instanceof StoreUnavailableError);
    assert.match(error.message, /etcd at http:\/\/127\.0\.0\.1:1 does not answer.*--etcd-servers/);
    return true;
  });
});

test('of several servers one that answers is used', { skip }, async () => {
  const endpoints = ['http://127.0.0.1:1', etcd.endpoint];
  const store = await open({ endpoints });
  await put(store, '/several/a', '1');
  await store.close();
});

for (const endpoint of ['127.0.0.1:2379', 'ftp://a:1', '']) {
  test(`"${endpoint}" is no etcd server`, async () => {
    await assert.rejects(
      openEtcdStore({ endpoints: [endpoint], clock: systemClock, log: silentLog }),
      /is no address: expected http:\/\/host:port or https:\/\/host:port/,
    );
  });
}

test('TLS with a client certificate', { skip }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'gantry-etcd-tls-'));
  const files = await writeCertificates(directory);
  const secured = await startEtcd({
    'trusted-ca-file': files.caFile,
    'cert-file': join(directory, 'server.crt'),
    'key-file': join(directory, 'server.key'),
    'client-cert-auth': 'true',
  });
  try {
    const endpoints = [secured.endpoint];
    const store = await open({ endpoints, ...files });
    await put(store, '/a', '1');
    await store.close();
    const { caFile } = files;
    await assert.rejects(open({ endpoints, caFile }), StoreUnavailableError);
    await assert.rejects(open({ endpoints, caFile: join(directory, 'none') }), /cannot be read/);
  } finally {
    await secured.stop();
    await rm(directory, { recursive: true });
  }
});

async function writeCertificates(directory: string) {
  const notBeforeMs = Date.now() - 60_000;
  const validity = { notBeforeMs, notAfterMs: notBeforeMs + 3_600_000 };
  const ca = await createCa({ commonName: 'test', validity });
  const issue = (usage: 'server' | 'client') =>
    issueCertificate(ca, {
      commonName: usage,
      usages: [usage],
      hosts: ['127.0.0.1', 'localhost'],
      validity,
    });
  const [server, client] = await Promise.all([issue('server'), issue('client')]);
  const write = async (name: string, text: string): Promise<string> => {
    const file = join(directory, name);
    await writeFile(file, text);
    return file;
  };
  await write('server.crt', server.certPem);
  await write('server.key', server.keyPem);
  return {
    caFile: await write('ca.crt', ca.certPem),
    certFile: await write('client.crt', client.certPem),
    keyFile: await write('client.key', client.keyPem),
  };
}
