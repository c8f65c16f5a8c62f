import { timingSafeEqual } from 'node:crypto';
import type { Secret } from '#api/types.ts';
import { withAuthenticated } from '#apiserver/authn/client-certificate.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { UserInfo } from '#apiserver/user.ts';

const TOKEN = /^([a-z0-9]{6})\.([a-z0-9]{16})$/;
const GROUP = /^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$/;

/**
 * The user of a bootstrap token: a secret `bootstrap-token-ID` of kube-system that may be used for
 * authentication and has not expired. Source: Kubernetes "Authenticating with Bootstrap Tokens".
 */
export function lookupBootstrapToken(
  token: string,
  reader: ObjectReader,
  nowMs: number,
): UserInfo | undefined {
  const match = TOKEN.exec(token);
  if (!match) return undefined;
  const [, id = '', secretPart = ''] = match;
  const key = { namespace: 'kube-system', name: `bootstrap-token-${id}` };
  const secret = reader.get<Secret>('', 'secrets', key);
  if (!secret || secret.type !== 'bootstrap.kubernetes.io/token') return undefined;
  if (secret.metadata.deletionTimestamp !== undefined) return undefined;
  const field = (name: string): string =>
    Buffer.from(secret.data?.[name] ?? '', 'base64').toString('utf8');
  if (!sameText(field('token-secret'), secretPart) || field('token-id') !== id) return undefined;
  if (field('usage-bootstrap-authentication') !== 'true') return undefined;
  const expiration = field('expiration');
  if (expiration !== '' && !(Date.parse(expiration) > nowMs)) return undefined;
  const extra = field('auth-extra-groups').split(',');
  const groups = extra.map((group) => group.trim()).filter((group) => group !== '');
  if (!groups.every((group) => GROUP.test(group))) return undefined;
  return {
    name: `system:bootstrap:${id}`,
    groups: withAuthenticated(['system:bootstrappers', ...groups]),
  };
}

/** Compares in a time that does not tell how much was right. */
function sameText(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
