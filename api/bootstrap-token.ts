import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Secret } from '#api/types.ts';

/**
 * Bootstrap tokens: `ID.SECRET`, kept as Secrets of kube-system, with which a machine proves that it
 * may join, and the cluster proves to the machine that it is the right one.
 * Source: Kubernetes "Authenticating with Bootstrap Tokens"; design "bootstrap-discovery".
 */
export type BootstrapToken = { id: string; secret: string };

export const BOOTSTRAP_TOKEN_TYPE = 'bootstrap.kubernetes.io/token';
export const BOOTSTRAP_TOKEN_NAMESPACE = 'kube-system';
/** Members of this group may ask for a node's certificate, as kubeadm sets it up. */
export const JOINING_NODES_GROUP = 'system:bootstrappers:kubeadm:default-node-token';
/** The ConfigMap of kube-public that anybody may read, and its key. */
export const CLUSTER_INFO = { namespace: 'kube-public', name: 'cluster-info' } as const;
export const CLUSTER_INFO_KEY = 'kubeconfig';
/** One signature per token stands in the ConfigMap under this prefix and the token's ID. */
export const SIGNATURE_PREFIX = 'jws-kubeconfig-';

const TOKEN = /^([a-z0-9]{6})\.([a-z0-9]{16})$/;
export const TOKEN_SHAPE = 'six lower-case letters or digits, a dot, sixteen more';

/** Undefined when the text has not a token's shape. */
export function parseBootstrapToken(text: string): BootstrapToken | undefined {
  const [, id, secret] = TOKEN.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

export const bootstrapTokenName = (id: string): string => `bootstrap-token-${id}`;

/** A field of a token's Secret as text; '' when absent. */
export const tokenField = (secret: Secret, field: string): string =>
  Buffer.from(secret.data?.[field] ?? '', 'base64').toString('utf8');

/** When the token ends, in ms; Infinity when never. A text that is no time has ended. */
export function tokenExpiryMs(secret: Secret): number {
  const text = tokenField(secret, 'expiration');
  if (text === '') return Number.POSITIVE_INFINITY;
  const time = Date.parse(text);
  return Number.isNaN(time) ? Number.NEGATIVE_INFINITY : time;
}

/** The token of a Secret that may be used for `usage` now; undefined otherwise. */
export function usableToken(
  secret: Secret,
  usage: 'authentication' | 'signing',
  nowMs: number,
): BootstrapToken | undefined {
  if (secret.type !== BOOTSTRAP_TOKEN_TYPE || secret.metadata.deletionTimestamp) return undefined;
  const text = `${tokenField(secret, 'token-id')}.${tokenField(secret, 'token-secret')}`;
  const token = parseBootstrapToken(text);
  if (!token || secret.metadata.name !== bootstrapTokenName(token.id)) return undefined;
  if (tokenField(secret, `usage-bootstrap-${usage}`) !== 'true') return undefined;
  return tokenExpiryMs(secret) > nowMs ? token : undefined;
}

/** A detached JWS (HS256) of a text by a token: header and signature around nothing. RFC 7515, F. */
export function signDetached(text: string, { id, secret }: BootstrapToken): string {
  const header = Buffer.from(JSON.stringify({ alg: 'HS256', kid: id })).toString('base64url');
  return `${header}..${macOf(header, text, secret)}`;
}

/** Whether a detached JWS is this token's of this text. */
export function verifyDetached(jws: string, text: string, { id, secret }: BootstrapToken): boolean {
  const [header = '', payload, signature = ''] = jws.split('.');
  if (payload !== '') return false;
  try {
    const said = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as unknown;
    const { alg, kid } = said as { alg?: unknown; kid?: unknown };
    if (alg !== 'HS256' || kid !== id) return false;
  } catch {
    return false; // a header that is no JSON signs nothing
  }
  const [given, right] = [Buffer.from(signature), Buffer.from(macOf(header, text, secret))];
  return given.length === right.length && timingSafeEqual(given, right);
}

function macOf(header: string, text: string, secret: string): string {
  const input = `${header}.${Buffer.from(text).toString('base64url')}`;
  return createHmac('sha256', secret).update(input).digest('base64url');
}
