import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parse } from 'yaml';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { readCertificate } from '#base/x509.ts';
import {
  ensureKubeconfigs,
  issueNodeCredentials,
  keepNodeCredentials,
} from '#apiserver/kubeconfig.ts';
import { ensurePki, type Pki, renewPki, servingHosts } from '#apiserver/pki.ts';

const DAY = 86_400_000;

function dataDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-pki-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('the first call makes everything, the second nothing', async (t) => {
  const dir = dataDir(t);
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const hosts = ['localhost', '127.0.0.1', '::1'];
  const first = await ensurePki(dir, { hosts, clock });
  assert.equal(first.written.length, 18);
  const second = await ensurePki(dir, { hosts, clock });
  assert.deepEqual({ ...second, written: [] }, { ...first, written: [] });
  assert.deepEqual(second.written, []);
  assert.deepEqual(readCertificate(first.admin.certPem).organizations, ['system:masters']);
  assert.equal(readCertificate(first.scheduler.certPem).commonName, 'system:kube-scheduler');
});

test('files are for their owner only', async (t) => {
  const dir = dataDir(t);
  await ensurePki(dir, { hosts: ['localhost'], clock: manualClock() });
  assert.equal(statSync(join(dir, 'pki')).mode & 0o777, 0o700);
  for (const file of readdirSync(join(dir, 'pki'))) {
    assert.equal(statSync(join(dir, 'pki', file)).mode & 0o777, 0o600, file);
  }
});

test('renewal: names, age, damage', async (t) => {
  const dir = dataDir(t);
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const ensure = (hosts: string[]) => ensurePki(dir, { hosts, clock });
  const first = await ensure(['localhost', 'a']);
  assert.deepEqual((await ensure(['localhost'])).written, [], 'more names than wanted are fine');
  assert.deepEqual((await ensure(['localhost', 'b'])).written, ['apiserver.key', 'apiserver.crt']);

  writeFileSync(join(dir, 'pki', 'admin.crt'), 'not a certificate');
  assert.deepEqual((await ensure(['localhost'])).written, ['admin.key', 'admin.crt']);

  await clock.advance(300 * DAY);
  const later = await ensure(['localhost']);
  assert.equal(later.ca.certPem, first.ca.certPem);
  assert.notEqual(later.scheduler.certPem, first.scheduler.certPem);
  assert.equal(later.serviceAccount.privatePem, first.serviceAccount.privatePem);

  await clock.advance(2400 * DAY);
  const muchLater = await ensure(['localhost']);
  assert.notEqual(muchLater.ca.certPem, first.ca.certPem);
  assert.equal(muchLater.ca.keyPem, first.ca.keyPem, 'an authority keeps its key');
});

test('renewPki renews while running, and stops with its signal', async (t) => {
  const dir = dataDir(t);
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const stop = new AbortController();
  await ensurePki(dir, { hosts: ['localhost'], clock });
  const renewed = new Promise<Pki>((resolve) => {
    const options = { hosts: ['localhost', 'new'], clock, log: silentLog, signal: stop.signal };
    renewPki(dir, options, resolve).catch((error) => assert.equal(error, stop.signal.reason));
  });
  await clock.advance(3_600_000);
  assert.deepEqual((await renewed).written, ['apiserver.key', 'apiserver.crt']);
  stop.abort();
});

test('kubeconfigs hold what they need and stay untouched when nothing changed', async (t) => {
  const dir = dataDir(t);
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const pki = await ensurePki(dir, { hosts: ['localhost'], clock });
  const paths = ensureKubeconfigs(dir, pki, { server: 'https://127.0.0.1:6443' });
  const config = parse(readFileSync(paths.admin, 'utf8')) as {
    clusters: { cluster: Record<string, string> }[];
    users: { user: Record<string, string> }[];
  };
  assert.equal(config.clusters[0]?.cluster['server'], 'https://127.0.0.1:6443');
  const data = config.users[0]?.user['client-certificate-data'] ?? '';
  assert.equal(Buffer.from(data, 'base64').toString(), pki.admin.certPem);
  const before = statSync(paths.admin).ino;
  ensureKubeconfigs(dir, pki, { server: 'https://127.0.0.1:6443' });
  assert.equal(statSync(paths.admin).ino, before);
  ensureKubeconfigs(dir, pki, { server: 'https://127.0.0.1:7443' });
  assert.notEqual(statSync(paths.admin).ino, before);
});

test('a node gets a kubeconfig and a serving certificate of its own', async (t) => {
  const dir = dataDir(t);
  const options = {
    nodeName: 'worker-1',
    ips: ['10.0.0.5'],
    server: 'https://127.0.0.1:6443',
    clock: manualClock(Date.UTC(2026, 0, 1)),
  };
  const files = await issueNodeCredentials(dir, options);
  const serving = readCertificate(readFileSync(files.certFile, 'utf8'));
  assert.equal(serving.commonName, 'system:node:worker-1');
  assert.deepEqual(serving.organizations, ['system:nodes']);
  assert.deepEqual(serving.hosts, ['worker-1', '10.0.0.5']);
  assert.match(readFileSync(files.kubeconfig, 'utf8'), /current-context: system:node:worker-1@/);
  assert.deepEqual(await issueNodeCredentials(dir, options), files);
});

test("a running node's certificates are renewed in their files, which its kubeconfig names", async (t) => {
  const dir = dataDir(t);
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const options = { nodeName: 'n', ips: ['10.0.0.5'], server: 'https://127.0.0.1:6443', clock };
  const files = await issueNodeCredentials(dir, options);
  const text = readFileSync(files.kubeconfig, 'utf8');
  assert.ok(text.includes(`client-certificate: ${files.clientCertFile}\n`), text);
  const expiry = (file: string): number => readCertificate(readFileSync(file, 'utf8')).notAfterMs;
  const certificates = [files.certFile, files.clientCertFile];
  const before = certificates.map(expiry);
  // Nobody looks meanwhile: thousands of looks would only take time.
  await clock.advance(250 * DAY);
  const stop = new AbortController();
  const kept = keepNodeCredentials(dir, { ...options, signal: stop.signal, log: silentLog });
  const isOld = (): boolean => certificates.some((file, n) => expiry(file) === before[n]);
  await clock.advance(3_600_000);
  assert.ok(isOld(), 'not before its time');
  await clock.advance(10 * DAY - 3_600_000);
  for (let i = 0; i < 200 && isOld(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(!isOld());
  stop.abort(new Error('over'));
  await assert.rejects(kept, /over/);
});

test('servingHosts names the service and every address once', () => {
  const hosts = servingHosts({
    clusterDomain: 'cluster.local',
    serviceIp: '10.96.0.1',
    addresses: ['127.0.0.1', '192.0.2.1'],
  });
  assert.equal(hosts.length, new Set(hosts).size);
  for (const host of ['10.96.0.1', '192.0.2.1', 'kubernetes.default.svc.cluster.local']) {
    assert.ok(hosts.includes(host), host);
  }
});
