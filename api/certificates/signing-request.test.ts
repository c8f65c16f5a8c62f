import assert from 'node:assert/strict';
import { test } from 'node:test';
import { certificateSigningRequest } from '#api/certificates/certificate-signing-request.ts';
import { validateSigningStatus } from '#api/certificates/signing-request-validate.ts';
import { asCreated, createErrors } from '#api/kind-probe.ts';
import type { CertificateSigningRequest } from '#api/types.ts';

const block = '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n';
const request = Buffer.from(block).toString('base64');
const good = { request, signerName: 'a.example/b', usages: ['client auth'] };

test('what a signing request is refused for', () => {
  const rows: [spec: object, errors: string[]][] = [
    [good, []],
    [
      {},
      [
        'spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST',
        'spec.usages: Required value',
        'spec.signerName: Required value',
      ],
    ],
    [
      { ...good, signerName: 'b' },
      [
        'spec.signerName: Invalid value: "b": must be a fully qualified domain and path of the form \'example.com/signer-name\'',
      ],
    ],
    [
      { ...good, expirationSeconds: 5 },
      [
        'spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)',
      ],
    ],
  ];
  for (const [spec, expected] of rows) {
    const errors = createErrors(certificateSigningRequest, { metadata: { name: 'x' }, spec });
    assert.deepEqual(errors, expected);
  }
});

test('the author of a request is who sent it', () => {
  const spec = { ...good, username: 'admin', groups: ['system:masters'], uid: '1' };
  const made = asCreated<CertificateSigningRequest>(certificateSigningRequest, { spec });
  assert.deepEqual(made.spec, { ...good, username: 'jane', groups: ['dev'] });
});

test('decisions are made once, and by approvers', () => {
  const approved = { conditions: [{ type: 'Approved', status: 'True' }] };
  const messages = (...args: Parameters<typeof validateSigningStatus>): string[] =>
    validateSigningStatus(...args).map(({ message }) => message);
  assert.deepEqual(messages(approved, {}, true), []);
  assert.deepEqual(messages({}, approved, true), [
    'Forbidden: updates may not remove a condition of type "Approved"',
  ]);
  assert.deepEqual(messages(approved, {}, false), [
    'Forbidden: updates may not add a condition of type "Approved"',
  ]);
});
