import assert from 'node:assert/strict';
import { test } from 'node:test';
import { persistentVolume } from '#api/core/persistent-volume.ts';
import { persistentVolumeClaim } from '#api/core/persistent-volume-claim.ts';
import { secret } from '#api/core/secret.ts';
import { service } from '#api/core/service.ts';
import type { Kind } from '#api/kind.ts';
import { asCreated } from '#api/kind-probe.ts';
import { ingress } from '#api/networking/ingress.ts';

const encode = (text: string): string => Buffer.from(text).toString('base64');
const pem = (label: string): string =>
  encode(`-----BEGIN ${label}-----\nAA==\n-----END ${label}-----\n`);

const tls = (certificate: string, key: string): object => ({
  type: 'kubernetes.io/tls',
  data: { 'tls.crt': certificate, 'tls.key': key },
});

const table: readonly [about: string, kind: Kind, input: object, warnings: readonly RegExp[]][] = [
  ['no PEM', secret, tls(encode('a'), encode('b')), [/^tls: failed to find any PEM data in certi/]],
  [
    'a key for a certificate',
    secret,
    tls(pem('PRIVATE KEY'), pem('PRIVATE KEY')),
    [/"CERTIFICATE" PEM block in certificate input .* types: \[PRIVATE KEY\]$/],
  ],
  ['no key', secret, tls(pem('CERTIFICATE'), ''), [/^tls: failed to find any PEM data in key/]],
  ['another type', secret, { data: { 'tls.crt': encode('a') } }, []],
  [
    'a headless service with what only others have',
    service,
    { spec: { clusterIP: 'None', sessionAffinity: 'ClientIP', externalIPs: ['1.2.3.4'] } },
    [/^spec\.externalIPs is ignored/, /^spec\.SessionAffinity is ignored/],
  ],
  [
    'external addresses',
    service,
    { spec: { externalIPs: ['1.2.3.4'] } },
    [/^spec\.externalIPs is deprecated/],
  ],
  ['a plain service', service, { spec: { ports: [{ port: 80 }] } }, []],
  [
    'a claim of half a byte',
    persistentVolumeClaim,
    {
      metadata: { name: 'c', annotations: { 'volume.beta.kubernetes.io/storage-class': 'x' } },
      spec: { resources: { requests: { storage: '0.5' } } },
    },
    [/storage-class\]: deprecated since v1\.8/, /\[storage\]: fractional byte value "500m"/],
  ],
  [
    'a volume that is scrubbed, of a driver that is gone',
    persistentVolume,
    { spec: { persistentVolumeReclaimPolicy: 'Recycle', cephfs: { monitors: ['m'] } } },
    [/Recycle reclaim policy is deprecated/, /^spec\.cephfs: deprecated in v1\.28/],
  ],
  [
    'an ingress class by annotation',
    ingress,
    { metadata: { name: 'i', annotations: { 'kubernetes.io/ingress.class': 'nginx' } } },
    [/please use 'spec\.ingressClassName' instead$/],
  ],
];

test('what authors are told although it is accepted', () => {
  for (const [about, kind, input, expected] of table) {
    const found = kind.warnings?.(asCreated(kind, input), undefined) ?? [];
    assert.equal(found.length, expected.length, `${about}: ${found.join('; ')}`);
    for (const [i, pattern] of expected.entries()) assert.match(found[i] ?? '', pattern, about);
  }
});
