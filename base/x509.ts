import {
  createPrivateKey,
  createPublicKey,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import type * as peculiar from '@peculiar/x509';

/**
 * X.509 certificates: a certificate authority, certificates issued by it, and what one says.
 * Keys are ECDSA P-256 (signing a certificate takes about a millisecond). Source: RFC 5280.
 */

/** A certificate and its private key (PKCS #8), both PEM. */
export type KeyPair = { certPem: string; keyPem: string };

export type Validity = { notBeforeMs: number; notAfterMs: number };

export type CaRequest = {
  commonName: string;
  validity: Validity;
  /** Renewing with the same key keeps certificates valid that were issued before. */
  keyPem?: string | undefined;
};

export type CertificateRequest = {
  commonName: string;
  organizations?: readonly string[];
  /** DNS names and IP addresses, for a server. */
  hosts?: readonly string[];
  usages: readonly ('server' | 'client')[];
  validity: Validity;
};

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' } as const;
export const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;

/** Loaded only when something has to be issued: reading needs nothing beyond node:crypto. */
export async function loadLibrary(): Promise<typeof peculiar> {
  await import('reflect-metadata');
  return import('@peculiar/x509');
}

/** A self-signed certificate authority. */
export async function createCa(request: CaRequest): Promise<KeyPair> {
  const x509 = await loadLibrary();
  const keys = request.keyPem ? await importKeys(request.keyPem) : await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: [{ CN: [plainName(request.commonName)] }],
      notBefore: new Date(request.validity.notBeforeMs),
      notAfter: new Date(request.validity.notAfterMs),
      signingAlgorithm: SIGNATURE,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.digitalSignature |
            x509.KeyUsageFlags.keyEncipherment |
            x509.KeyUsageFlags.keyCertSign,
          true,
        ),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    },
    webcrypto,
  );
  return { certPem: `${certificate.toString('pem')}\n`, keyPem: await exportKey(keys.privateKey) };
}

/** A certificate with a new key, signed by `ca`. */
export async function issueCertificate(ca: KeyPair, request: CertificateRequest): Promise<KeyPair> {
  const keys = await generateKeys();
  const certPem = await sign(ca, request, keys.publicKey);
  return { certPem, keyPem: await exportKey(keys.privateKey) };
}

async function sign(
  ca: KeyPair,
  request: CertificateRequest,
  publicKey: webcrypto.CryptoKey,
): Promise<string> {
  const x509 = await loadLibrary();
  const issuer = new x509.X509Certificate(ca.certPem);
  const issuerKeys = await importKeys(ca.keyPem);
  const usages = request.usages.map((usage) =>
    usage === 'server' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
  );
  const extensions: peculiar.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(
      x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment,
      true,
    ),
    new x509.ExtendedKeyUsageExtension(usages),
    await x509.AuthorityKeyIdentifierExtension.create(issuerKeys.publicKey),
  ];
  if (request.hosts?.length) {
    const names = request.hosts.map((host) => ({
      type: isIP(host) ? ('ip' as const) : ('dns' as const),
      value: host,
    }));
    extensions.push(new x509.SubjectAlternativeNameExtension(names));
  }
  const subject: peculiar.JsonName = [];
  for (const name of request.organizations ?? []) subject.push({ O: [plainName(name)] });
  subject.push({ CN: [plainName(request.commonName)] });
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject,
      issuer: issuer.subjectName,
      notBefore: new Date(request.validity.notBeforeMs),
      notAfter: new Date(request.validity.notAfterMs),
      signingAlgorithm: SIGNATURE,
      publicKey,
      signingKey: issuerKeys.privateKey,
      extensions,
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

/** A key pair for signing tokens (ES256). */
export async function createSigningKey(): Promise<{ privatePem: string; publicPem: string }> {
  const keys = await generateKeys();
  const spki = await webcrypto.subtle.exportKey('spki', keys.publicKey);
  return { privatePem: await exportKey(keys.privateKey), publicPem: pem('PUBLIC KEY', spki) };
}

export type CertificateFacts = Validity & {
  commonName: string;
  organizations: string[];
  /** DNS names and IP addresses as asked for; IPv6 in OpenSSL's spelling. */
  hosts: string[];
};

/** What a certificate says; throws when the text is not a certificate. */
export function readCertificate(certPem: string): CertificateFacts {
  const certificate = new X509Certificate(certPem);
  const subject = certificate.toLegacyObject().subject as Record<string, string | string[]>;
  const hosts = (certificate.subjectAltName ?? '')
    .split(', ')
    .filter((entry) => entry !== '')
    .map((entry) => entry.replace(/^(DNS|IP Address):/, ''));
  return {
    commonName: listOf(subject['CN'])[0] ?? '',
    organizations: listOf(subject['O']),
    hosts,
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
  };
}

/** True when `ca` signed the certificate and the private key belongs to it. */
export function belongsTogether(pair: KeyPair, caCertPem: string): boolean {
  const certificate = new X509Certificate(pair.certPem);
  return keyFits(certificate, pair.keyPem) && isIssuedBy(certificate, caCertPem);
}

/** True when the certificate carries a valid signature of this authority. */
export function isIssuedBy(certificate: X509Certificate, caCertPem: string): boolean {
  const ca = new X509Certificate(caCertPem);
  return certificate.checkIssued(ca) && certificate.verify(ca.publicKey);
}

function keyFits(certificate: X509Certificate, keyPem: string): boolean {
  return certificate.checkPrivateKey(createPrivateKey(keyPem));
}

/** The part of its life that a certificate still has, 1 at the start, 0 or less when expired. */
export function lifeLeft(validity: Validity, nowMs: number): number {
  const life = validity.notAfterMs - validity.notBeforeMs;
  return life > 0 ? (validity.notAfterMs - nowMs) / life : 0;
}

/** One spelling for each name: IPv6 addresses have several, and the URL parser knows one. */
export function canonicalHost(host: string): string {
  const url = host.includes(':') ? `https://[${host}]` : '';
  return url && URL.canParse(url) ? new URL(url).hostname : host.toLowerCase();
}

const listOf = (value: string | string[] | undefined): string[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value];

/** The library reads quotes and a leading # as syntax, so a name with them would not be itself. */
function plainName(name: string): string {
  if (/^#|["\\]/.test(name)) throw new Error(`certificate name ${name} has unusable characters`);
  return name;
}

/** 127 random bits: positive, and unique without a register. */
export function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

export const generateKeys = (): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);

export async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return pem('PRIVATE KEY', await webcrypto.subtle.exportKey('pkcs8', key));
}

export async function importKeys(keyPem: string): Promise<webcrypto.CryptoKeyPair> {
  const key = createPrivateKey(keyPem);
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return {
    privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, CURVE, true, ['sign']),
    publicKey: await webcrypto.subtle.importKey('spki', spki, CURVE, true, ['verify']),
  };
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
