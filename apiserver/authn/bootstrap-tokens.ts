import { timingSafeEqual } from 'node:crypto';
import {
  BOOTSTRAP_TOKEN_NAMESPACE,
  bootstrapTokenName,
  parseBootstrapToken,
  tokenField,
  usableToken,
} from '#api/bootstrap-token.ts';
import type { Secret } from '#api/types.ts';
import { withAuthenticated } from '#apiserver/authn/client-certificate.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { UserInfo } from '#apiserver/user.ts';

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
  const given = parseBootstrapToken(token);
  if (!given) return undefined;
  const key = { namespace: BOOTSTRAP_TOKEN_NAMESPACE, name: bootstrapTokenName(given.id) };
  const secret = reader.get<Secret>('', 'secrets', key);
  const kept = secret && usableToken(secret, 'authentication', nowMs);
  if (!kept || !sameText(kept.secret, given.secret)) return undefined;
  const extra = tokenField(secret, 'auth-extra-groups').split(',');
  const groups = extra.map((group) => group.trim()).filter((group) => group !== '');
  if (!groups.every((group) => GROUP.test(group))) return undefined;
  return {
    name: `system:bootstrap:${given.id}`,
    groups: withAuthenticated(['system:bootstrappers', ...groups]),
  };
}

/** Compares in a time that does not tell how much was right. */
function sameText(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
