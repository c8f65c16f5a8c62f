import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import {
  belongsTogether,
  createCa,
  createSigningKey,
  issueCertificate,
  isIssuedBy,
  lifeLeft,
  readCertificate,
} from '#base/x509.ts';

const DAY = 86_400_000;
const now = Date.UTC(2026, 0, 1);
const validity = { notBeforeMs: now, notAfterMs: now + 100 * DAY };

test('a certificate says what was asked for and is signed by its authority', async () => {
  const ca = await createCa({ commonName: 'test ca', validity });
  const hosts = ['localhost', 'a.example', '127.0.0.1', '10.96.0.1'];
  const pair = await issueCertificate(ca, {
    commonName: 'system:node:alice, the+admin',
    organizations: ['system:masters', 'ops'],
    hosts,
    usages: ['server', 'client'],
    validity,
  });
  assert.deepEqual(readCertificate(pair.certPem), {
    commonName: 'system:node:alice, the+admin',
    organizations: ['system:masters', 'ops'],
    hosts,
    ...validity,
  });
  assert.equal(belongsTogether(pair, ca.certPem), true);
  assert.equal(new X509Certificate(ca.certPem).ca, true);
  assert.equal(new X509Certificate(pair.certPem).ca, false);
});

test('another authority of the same name did not sign it', async () => {
  const [one, two] = await Promise.all([
    createCa({ commonName: 'ca', validity }),
    createCa({ commonName: 'ca', validity }),
  ]);
  const pair = await issueCertificate(one, { commonName: 'x', usages: ['client'], validity });
  assert.equal(isIssuedBy(new X509Certificate(pair.certPem), two.certPem), false);
  assert.equal(belongsTogether({ certPem: pair.certPem, keyPem: two.keyPem }, one.certPem), false);
});

test('an authority renewed with its key still vouches for older certificates', async () => {
  const ca = await createCa({ commonName: 'ca', validity });
  const pair = await issueCertificate(ca, { commonName: 'x', usages: ['client'], validity });
  const renewed = await createCa({ commonName: 'ca', validity, keyPem: ca.keyPem });
  assert.notEqual(renewed.certPem, ca.certPem);
  assert.equal(belongsTogether(pair, renewed.certPem), true);
});

test('a name that would be read as syntax is refused', async () => {
  const request = { commonName: 'a"b', validity };
  await assert.rejects(createCa(request), /unusable characters/);
});

test('lifeLeft is the remaining part', () => {
  const cases: [number, number][] = [
    [now, 1],
    [now + 50 * DAY, 0.5],
    [now + 100 * DAY, 0],
    [now + 200 * DAY, -1],
  ];
  for (const [at, left] of cases) assert.equal(lifeLeft(validity, at), left);
});

test('a signing key is a P-256 pair in PEM', async () => {
  const key = await createSigningKey();
  assert.match(key.privatePem, /^-----BEGIN PRIVATE KEY-----\n/);
  assert.match(key.publicPem, /^-----BEGIN PUBLIC KEY-----\n/);
});
