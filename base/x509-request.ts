import { webcrypto, X509Certificate } from 'node:crypto';
import type * as peculiar from '@peculiar/x509';
import {
  exportKey,
  generateKeys,
  importKeys,
  type KeyPair,
  loadLibrary,
  serialNumber,
  SIGNATURE,
  type Validity,
} from '#base/x509.ts';

/** What a certificate request (PKCS#10) asks for. Source: RFC 2986. */
export type RequestFacts = {
  commonName: string;
  organizations: string[];
  dnsNames: string[];
  ipAddresses: string[];
  emailAddresses: string[];
  uris: string[];
};

export type KeyUsage = keyof typeof KEY_USAGES;
export type ExtendedUsage = keyof typeof EXTENDED_USAGES;

/** Places in the bit string of RFC 5280, 4.2.1.3. */
const KEY_USAGES = {
  'digital signature': 1,
  'content commitment': 2,
  'key encipherment': 4,
  'data encipherment': 8,
  'key agreement': 16,
  'cert sign': 32,
  'crl sign': 64,
  'encipher only': 128,
  'decipher only': 256,
} as const;

/** Object identifiers of RFC 5280, 4.2.1.12. */
const EXTENDED_USAGES = {
  any: '2.5.29.37.0',
  'server auth': '1.3.6.1.5.5.7.3.1',
  'client auth': '1.3.6.1.5.5.7.3.2',
  'code signing': '1.3.6.1.5.5.7.3.3',
  'email protection': '1.3.6.1.5.5.7.3.4',
  's/mime': '1.3.6.1.5.5.7.3.4',
  'ipsec end system': '1.3.6.1.5.5.7.3.5',
  'ipsec tunnel': '1.3.6.1.5.5.7.3.6',
  'ipsec user': '1.3.6.1.5.5.7.3.7',
  timestamping: '1.3.6.1.5.5.7.3.8',
  'ocsp signing': '1.3.6.1.5.5.7.3.9',
} as const;

/** Reads a request in PEM. Throws when it is none, or not signed with its own key. */
export async function readRequest(requestPem: string): Promise<RequestFacts> {
  const { request, names } = await parse(requestPem);
  const subject = request.subjectName.toJSON();
  const values = (field: string): string[] => subject.flatMap((part) => part[field] ?? []);
  const of = (type: string): string[] =>
    names.filter((name) => name.type === type).map((name) => name.value);
  return {
    commonName: values('CN').at(-1) ?? '',
    organizations: values('O'),
    dnsNames: of('dns'),
    ipAddresses: of('ip'),
    emailAddresses: of('email'),
    uris: of('url'),
  };
}

/**
 * A certificate with the request's subject, names and key, for these usages. Unknown usages are
 * left out. Throws when the request cannot be read.
 */
export async function signRequest(
  ca: KeyPair,
  requestPem: string,
  { usages, validity }: { usages: readonly string[]; validity: Validity },
): Promise<string> {
  const { x509, request, names } = await parse(requestPem);
  const issuer = new x509.X509Certificate(ca.certPem);
  const issuerKeys = await importKeys(ca.keyPem);
  let flags = 0;
  const extended = new Set<string>();
  for (const usage of usages) {
    const name = usage === 'signing' ? 'digital signature' : usage;
    if (name in KEY_USAGES) flags |= KEY_USAGES[name as KeyUsage];
    if (name in EXTENDED_USAGES) extended.add(EXTENDED_USAGES[name as ExtendedUsage]);
  }
  const extensions: peculiar.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    await x509.AuthorityKeyIdentifierExtension.create(issuerKeys.publicKey),
  ];
  if (flags) extensions.push(new x509.KeyUsagesExtension(flags as peculiar.KeyUsageFlags, true));
  if (extended.size > 0) extensions.push(new x509.ExtendedKeyUsageExtension([...extended]));
  if (names.length > 0) extensions.push(new x509.SubjectAlternativeNameExtension([...names]));
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: request.subjectName,
      issuer: issuer.subjectName,
      notBefore: new Date(validity.notBeforeMs),
      notAfter: new Date(
        Math.min(validity.notAfterMs, new X509Certificate(ca.certPem).validToDate.getTime()),
      ),
      signingAlgorithm: SIGNATURE,
      publicKey: request.publicKey,
      signingKey: issuerKeys.privateKey,
      extensions,
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

const SUBJECT_ALTERNATIVE_NAMES = '2.5.29.17';

async function parse(requestPem: string) {
  const x509 = await loadLibrary();
  const request = new x509.Pkcs10CertificateRequest(requestPem);
  if (!(await request.verify(webcrypto))) {
    throw new Error('the request is not signed with its own key');
  }
  const extension = request.getExtension(SUBJECT_ALTERNATIVE_NAMES);
  const names =
    extension instanceof x509.SubjectAlternativeNameExtension
      ? extension.names.items.map(({ type, value }) => ({ type, value }))
      : [];
  return { x509, request, names };
}

/** A request of one's own new key (ECDSA P-256), and that key (PKCS #8), both PEM. */
export async function createRequest(facts: {
  commonName: string;
  organizations?: readonly string[];
  dnsNames?: readonly string[];
  ipAddresses?: readonly string[];
}): Promise<{ requestPem: string; keyPem: string }> {
  const x509 = await loadLibrary();
  const keys = await generateKeys();
  const { organizations = [], dnsNames = [], ipAddresses = [], commonName } = facts;
  const names = [
    ...dnsNames.map((value) => ({ type: 'dns' as const, value })),
    ...ipAddresses.map((value) => ({ type: 'ip' as const, value })),
  ];
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      name: [...organizations.map((name) => ({ O: [name] })), { CN: [commonName] }],
      keys,
      signingAlgorithm: SIGNATURE,
      extensions: names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [],
    },
    webcrypto,
  );
  return { requestPem: `${request.toString('pem')}\n`, keyPem: await exportKey(keys.privateKey) };
}
