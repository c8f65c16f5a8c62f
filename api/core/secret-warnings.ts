import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { Secret } from '#api/types.ts';

const BLOCK = /-----BEGIN ([^-]+)-----[\s\S]*?-----END \1-----/g;

/**
 * A TLS secret whose certificate and key cannot serve is stored, but its author is told, in the
 * words of the usual TLS library. Source: core/v1 SecretType kubernetes.io/tls.
 */
export function secretWarnings({ type, data = {} }: Secret): string[] {
  if (type !== 'kubernetes.io/tls') return [];
  const certificate = pemOf(data['tls.crt']);
  const key = pemOf(data['tls.key']);
  const problem =
    missing(certificate, 'certificate', /^CERTIFICATE$/) ??
    missing(key, 'key', /PRIVATE KEY$/) ??
    mismatch(certificate, key);
  return problem === undefined ? [] : [`tls: ${problem}`];
}

type Block = { label: string; text: string };

const pemOf = (encoded = ''): Block[] =>
  [...Buffer.from(encoded, 'base64').toString('latin1').matchAll(BLOCK)].map(
    ([text, label = '']) => ({ label, text }),
  );

function missing(blocks: readonly Block[], what: string, wanted: RegExp): string | undefined {
  if (blocks.some(({ label }) => wanted.test(label))) return undefined;
  if (blocks.length === 0) return `failed to find any PEM data in ${what} input`;
  const found = blocks.map(({ label }) => label).join(' ');
  const name =
    what === 'key' ? 'PEM block with type ending in "PRIVATE KEY"' : '"CERTIFICATE" PEM block';
  return `failed to find ${name} in ${what} input after skipping PEM blocks of the following types: [${found}]`;
}

function mismatch(certificate: readonly Block[], key: readonly Block[]): string | undefined {
  const leaf = certificate.find(({ label }) => label === 'CERTIFICATE');
  const secret = key.find(({ label }) => label.endsWith('PRIVATE KEY'));
  if (!leaf || !secret) return undefined;
  try {
    const fits = new X509Certificate(leaf.text).checkPrivateKey(createPrivateKey(secret.text));
    return fits ? undefined : 'private key does not match public key';
  } catch {
    return 'failed to parse certificate or private key';
  }
}
