import { createHash, createPrivateKey, createPublicKey, hash, randomUUID } from 'node:crypto';
import type * as joseLibrary from 'jose';
import type { KubeObject, ServiceAccount } from '#api/types.ts';
import type { Clock } from '#base/clock.ts';
import { CREDENTIAL_ID, withAuthenticated } from '#apiserver/authn/client-certificate.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { UserInfo } from '#apiserver/user.ts';

/**
 * JWTs of service accounts: issued, verified and checked against the objects they are bound to.
 * Source: KEP-1205 (bound service account tokens), KEP-4193 (token improvements), RFC 7519.
 */
export type ServiceAccountTokens = {
  readonly issuer: string;
  readonly algorithm: 'ES256' | 'RS256';
  /** Audiences that this server accepts, and gives to tokens that ask for none. */
  readonly audiences: readonly string[];
  issue(grant: TokenGrant): Promise<{ token: string; expiresMs: number }>;
  /** Undefined when the token is not one of ours at all, so that others may know it. */
  verify(token: string, audiences?: readonly string[]): Promise<TokenVerdict | undefined>;
  /** The public keys as a JSON Web Key Set. Source: RFC 7517. */
  keySet(): Promise<{ keys: Record<string, unknown>[] }>;
};

export type TokenGrant = {
  serviceAccount: { namespace: string; name: string; uid: string };
  audiences: readonly string[];
  expirationSeconds: number;
  bound?: { kind: 'Pod' | 'Secret' | 'Node'; name: string; uid: string };
  /** Node that a bound pod runs on. */
  node?: { name: string; uid?: string | undefined };
};

export type TokenVerdict =
  | { ok: true; user: UserInfo; audiences: readonly string[] }
  | { ok: false; error: string };

export type TokenOptions = {
  issuer: string;
  audiences: readonly string[];
  key: { privatePem: string; publicPem: string };
  reader: ObjectReader;
  clock: Clock;
};

export const DEFAULT_ISSUER = 'https://kubernetes.default.svc.cluster.local';

/** Verified tokens that are remembered: several for each pod of a cluster of this size. */
const MAX_VERIFIED = 20_000;
/** Tokens longer than this are not worth a signature check. */
const MAX_TOKEN_BYTES = 16_384;
/** A token outlives the deletion of its object this long, for the work of shutting down. */
const DELETION_LEEWAY_MS = 60_000;

type Bound = { name: string; uid?: string };
type Claims = {
  iss: string;
  sub: string;
  aud: string[];
  exp: number;
  nbf: number;
  iat: number;
  jti?: string;
  'kubernetes.io': {
    namespace: string;
    serviceaccount: Bound;
    pod?: Bound;
    secret?: Bound;
    node?: Bound;
  };
};

/** Keys are imported and jose loaded with the first token, not at the start. */
export function createServiceAccountTokens(options: TokenOptions): ServiceAccountTokens {
  const verified = new Map<string, Claims>();
  const keyId = keyIdOf(options.key.publicPem);
  const privateKey = createPrivateKey(options.key.privatePem);
  const publicKey = createPublicKey(options.key.publicPem);
  const algorithm = publicKey.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256';
  let library: Promise<typeof joseLibrary> | undefined;
  const jose = () => (library ??= import('jose'));

  /** Signature and form only; what changes with time is asked on every use. */
  const claimsOf = async (token: string): Promise<Claims | string> => {
    const digest = hash('sha256', token);
    const known = verified.get(digest);
    if (known) return known;
    const { compactVerify } = await jose();
    try {
      const { payload } = await compactVerify(token, publicKey, { algorithms: [algorithm] });
      const claims = readClaims(JSON.parse(Buffer.from(payload).toString('utf8')));
      if (typeof claims === 'string') return claims;
      if (verified.size >= MAX_VERIFIED) forgetOldest(verified);
      verified.set(digest, claims);
      return claims;
    } catch {
      return 'invalid bearer token';
    }
  };

  return {
    issuer: options.issuer,
    algorithm,
    audiences: options.audiences,
    async issue(grant) {
      const nowSeconds = Math.floor(options.clock.now() / 1000);
      const claims = claimsFor(grant, options.issuer, nowSeconds);
      const { SignJWT } = await jose();
      const token = await new SignJWT(claims)
        .setProtectedHeader({ alg: algorithm, kid: keyId })
        .sign(privateKey);
      return { token, expiresMs: claims.exp * 1000 };
    },
    async verify(token, audiences = options.audiences) {
      if (token.length > MAX_TOKEN_BYTES || issuerOf(token) !== options.issuer) return undefined;
      const claims = await claimsOf(token);
      if (typeof claims === 'string') return { ok: false, error: claims };
      return judge(claims, audiences, options.reader, options.clock.now());
    },
    async keySet() {
      const { exportJWK } = await jose();
      const jwk = await exportJWK(publicKey);
      return { keys: [{ use: 'sig', ...jwk, kid: keyId, alg: algorithm }] };
    },
  };
}

/** A Map keeps insertion order, so its first tenth is the oldest. */
function forgetOldest(verified: Map<string, Claims>): void {
  let left = Math.ceil(MAX_VERIFIED / 10);
  for (const key of verified.keys()) {
    if (left-- <= 0) return;
    verified.delete(key);
  }
}

/** The unverified issuer, to tell our tokens from those of other authenticators. */
function issuerOf(token: string): string {
  const [, payload, signature] = token.split('.');
  if (!payload || signature === undefined) return '';
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    const issuer = (claims as { iss?: unknown } | null)?.iss;
    return typeof issuer === 'string' ? issuer : '';
  } catch {
    return '';
  }
}

function keyIdOf(publicPem: string): string {
  const der = createPublicKey(publicPem).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('base64url');
}

function claimsFor(grant: TokenGrant, issuer: string, nowSeconds: number): Claims {
  const { namespace, name, uid } = grant.serviceAccount;
  const own: Claims['kubernetes.io'] = { namespace, serviceaccount: { name, uid } };
  if (grant.bound) {
    const bound = { name: grant.bound.name, uid: grant.bound.uid };
    if (grant.bound.kind === 'Pod') own.pod = bound;
    else if (grant.bound.kind === 'Secret') own.secret = bound;
    else own.node = bound;
  }
  if (grant.node) {
    own.node = { name: grant.node.name, ...(grant.node.uid ? { uid: grant.node.uid } : {}) };
  }
  return {
    aud: [...grant.audiences],
    exp: nowSeconds + grant.expirationSeconds,
    iat: nowSeconds,
    iss: issuer,
    jti: randomUUID(),
    'kubernetes.io': own,
    nbf: nowSeconds,
    sub: `system:serviceaccount:${namespace}:${name}`,
  };
}

/** Checks the form of verified claims; a text says what is wrong. */
function readClaims(value: unknown): Claims | string {
  const claims = value as Claims | null;
  const own = claims?.['kubernetes.io'];
  if (!claims || !own?.namespace || !own.serviceaccount?.name) {
    return 'Token could not be validated: no kubernetes.io claims';
  }
  if (typeof claims.exp !== 'number' || typeof claims.nbf !== 'number') {
    return 'Token could not be validated: no validity';
  }
  const audiences: unknown = claims.aud;
  const aud = typeof audiences === 'string' ? [audiences] : audiences;
  if (!Array.isArray(aud)) return 'Token could not be validated: no audience';
  const subject = `system:serviceaccount:${own.namespace}:${own.serviceaccount.name}`;
  if (claims.sub !== subject) return 'sub claim is invalid';
  return { ...claims, aud: aud.map(String) };
}

function judge(
  claims: Claims,
  audiences: readonly string[],
  reader: ObjectReader,
  nowMs: number,
): TokenVerdict {
  if (nowMs >= claims.exp * 1000) return refused('service account token has expired');
  if (nowMs < claims.nbf * 1000 - 60_000) return refused('service account token is not valid yet');
  const common = claims.aud.filter((audience) => audiences.includes(audience));
  if (common.length === 0) {
    const quoted = (list: readonly string[]) => list.map((a) => JSON.stringify(a)).join(' ');
    return refused(
      `token audiences [${quoted(claims.aud)}] is invalid for the target audiences [${quoted(audiences)}]`,
    );
  }
  const problem = checkObjects(claims['kubernetes.io'], reader, nowMs);
  if (problem !== '') return refused(problem);
  return { ok: true, user: userOf(claims), audiences: common };
}

const refused = (error: string): TokenVerdict => ({ ok: false, error });

function checkObjects(own: Claims['kubernetes.io'], reader: ObjectReader, nowMs: number): string {
  const { namespace } = own;
  const find = (resource: string, name: string, cluster = false): KubeObject | undefined =>
    reader.get('', resource, cluster ? { name } : { namespace, name });
  const isGone = (object: KubeObject | undefined, uid: string | undefined): boolean => {
    if (!object || (uid !== undefined && object.metadata.uid !== uid)) return true;
    const deleted = object.metadata.deletionTimestamp;
    return deleted !== undefined && Date.parse(deleted) < nowMs - DELETION_LEEWAY_MS;
  };
  const account = own.serviceaccount;
  if (isGone(find('serviceaccounts', account.name) as ServiceAccount | undefined, account.uid)) {
    return `service account ${namespace}/${account.name} has been deleted`;
  }
  if (own.secret && isGone(find('secrets', own.secret.name), own.secret.uid)) {
    return 'service account token has been invalidated: its secret is gone';
  }
  if (own.pod && isGone(find('pods', own.pod.name), own.pod.uid)) {
    return 'service account token has been invalidated: its pod is gone';
  }
  // A pod's token names its node for information; only a token bound to the node itself needs it.
  if (own.node && !own.pod && isGone(find('nodes', own.node.name, true), own.node.uid)) {
    return 'service account token has been invalidated: its node is gone';
  }
  return '';
}

function userOf(claims: Claims): UserInfo {
  const own = claims['kubernetes.io'];
  const extra: Record<string, string[]> = {};
  const add = (key: string, value: string | undefined): void => {
    if (value) extra[`authentication.kubernetes.io/${key}`] = [value];
  };
  if (claims.jti) extra[CREDENTIAL_ID] = [`JTI=${claims.jti}`];
  add('pod-name', own.pod?.name);
  add('pod-uid', own.pod?.uid);
  add('node-name', own.node?.name);
  add('node-uid', own.node?.uid);
  return {
    name: claims.sub,
    ...(own.serviceaccount.uid ? { uid: own.serviceaccount.uid } : {}),
    groups: serviceAccountGroups(own.namespace),
    extra,
  };
}

/** Groups of every service account of a namespace. */
export const serviceAccountGroups = (namespace: string): string[] =>
  withAuthenticated(['system:serviceaccounts', `system:serviceaccounts:${namespace}`]);

/** `system:serviceaccount:NS:NAME` taken apart; undefined for other user names. */
export function parseServiceAccountName(
  user: string,
): { namespace: string; name: string } | undefined {
  const parts = user.split(':');
  const [system, account, namespace, name] = parts;
  if (parts.length !== 4 || system !== 'system' || account !== 'serviceaccount') return undefined;
  return namespace && name ? { namespace, name } : undefined;
}
