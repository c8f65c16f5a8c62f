import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { isIssuedBy } from '#base/x509.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** What a TLS connection says about its client; asked once per connection and kept with it. */
export type Peer = {
  user?: UserInfo;
  /** Common name of a front proxy whose X-Remote-* headers may be believed. */
  frontProxy?: string;
};

export type PeerTrust = {
  /** Authority of users' certificates, PEM. */
  clientCaPem: string;
  /** Authority of front proxies' certificates, PEM. */
  frontProxyCaPem: string;
  /** Common names of front proxies that are believed. */
  frontProxyNames: readonly string[];
};

/**
 * The user of a verified client certificate: common name → name, organizations → groups; {} when
 * the client showed none or one that OpenSSL did not accept for client authentication.
 * Source: Kubernetes "Authenticating", X.509 client certificates and authenticating proxy.
 */
export function identifyPeer(socket: TLSSocket, trust: PeerTrust): Peer {
  if (!socket.authorized) return {};
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) return {};
  const subject = certificate.toLegacyObject().subject as Record<string, string | string[]>;
  const name = listOf(subject['CN'])[0] ?? '';
  if (name === '') return {};
  if (isIssuedBy(certificate, trust.frontProxyCaPem)) {
    return trust.frontProxyNames.includes(name) ? { frontProxy: name } : {};
  }
  // The TLS context trusts both authorities; a chain may also run over an intermediate one.
  if (!chainsTo(certificate, trust.clientCaPem)) return {};
  return {
    user: {
      name,
      groups: withAuthenticated(listOf(subject['O'])),
      extra: { [CREDENTIAL_ID]: [`X509SHA256=${fingerprint(certificate)}`] },
    },
  };
}

export const CREDENTIAL_ID = 'authentication.kubernetes.io/credential-id';

/** Bound of a chain's length: deeper ones are nobody's honest need. */
const MAX_CHAIN = 5;

function chainsTo(certificate: X509Certificate, caPem: string): boolean {
  let current: X509Certificate | undefined = certificate;
  for (let depth = 0; current && depth < MAX_CHAIN; depth++) {
    if (isIssuedBy(current, caPem)) return true;
    current = current.issuerCertificate;
  }
  return false;
}

const fingerprint = (certificate: X509Certificate): string =>
  certificate.fingerprint256.replaceAll(':', '').toLowerCase();

const listOf = (value: string | string[] | undefined): string[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value];

export const AUTHENTICATED = 'system:authenticated';
export const UNAUTHENTICATED = 'system:unauthenticated';

/** Every known user is also in system:authenticated. */
export function withAuthenticated(groups: readonly string[]): string[] {
  return groups.includes(AUTHENTICATED) ? [...groups] : [...groups, AUTHENTICATED];
}
