import { badRequestError } from '#api/status.ts';
import { extrasOf, headerValues } from '#apiserver/authn/authenticate.ts';
import { AUTHENTICATED, UNAUTHENTICATED } from '#apiserver/authn/client-certificate.ts';
import {
  parseServiceAccountName,
  serviceAccountGroups,
} from '#apiserver/authn/service-account-tokens.ts';
import type { Attributes, Decision } from '#apiserver/authz/authorizer.ts';
import { forbiddenBy } from '#apiserver/authz/forbidden.ts';
import type { ServerRequest } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

type Wanted = {
  user: string;
  uid: string;
  groups: string[];
  extra: Record<string, string[]> | undefined;
};

/**
 * The user that a request wants to act as: `user` itself without Impersonate-* headers. Each part
 * (user or service account, uid, groups, extras) needs the right to impersonate it.
 * Throws StatusError 403, or 400 for groups and the like without a user.
 * Source: Kubernetes "Authenticating", user impersonation.
 */
export function impersonate(
  request: Pick<ServerRequest, 'headers'>,
  user: UserInfo,
  authorize: (attributes: Attributes) => Decision,
): UserInfo {
  const wanted = wantedUser(request.headers);
  if (!wanted) return user;
  if (wanted.user === '') {
    throw badRequestError(`requested ${goUserText(wanted)} without impersonating a user name`);
  }
  for (const attributes of neededRights(wanted, user)) {
    const decision = authorize(attributes);
    if (decision.decision !== 'allow') throw forbiddenBy(attributes, decision);
  }
  return {
    name: wanted.user,
    ...(wanted.uid ? { uid: wanted.uid } : {}),
    groups: groupsOf(wanted),
    ...(wanted.extra ? { extra: wanted.extra } : {}),
  };
}

function wantedUser(headers: ServerRequest['headers']): Wanted | undefined {
  const user = headers['impersonate-user'] ?? '';
  const uid = headers['impersonate-uid'] ?? '';
  const groups = headerValues(headers['impersonate-group']);
  const extra = extrasOf(headers, 'impersonate-extra-');
  if (user === '' && uid === '' && groups.length === 0 && !extra) return undefined;
  return { user, uid, groups, extra };
}

function neededRights(wanted: Wanted, user: UserInfo): Attributes[] {
  const right = (resource: string, name: string, more: Partial<Attributes> = {}): Attributes => ({
    user,
    verb: 'impersonate',
    group: '',
    version: 'v1',
    resource,
    subresource: '',
    namespace: '',
    name,
    isResource: true,
    path: '',
    ...more,
  });
  const account = parseServiceAccountName(wanted.user);
  const rights = account
    ? [right('serviceaccounts', account.name, { namespace: account.namespace })]
    : [right('users', wanted.user)];
  for (const group of wanted.groups) rights.push(right('groups', group));
  const group = 'authentication.k8s.io';
  for (const [key, values] of Object.entries(wanted.extra ?? {})) {
    for (const value of values)
      rights.push(right('userextras', value, { group, subresource: key }));
  }
  if (wanted.uid) rights.push(right('uids', wanted.uid, { group }));
  return rights;
}

function groupsOf(wanted: Wanted): string[] {
  const account = parseServiceAccountName(wanted.user);
  if (account && wanted.groups.length === 0) return serviceAccountGroups(account.namespace);
  const implied = wanted.user === 'system:anonymous' ? UNAUTHENTICATED : AUTHENTICATED;
  const has = wanted.groups.some((group) => group === implied || group === UNAUTHENTICATED);
  return has ? wanted.groups : [...wanted.groups, implied];
}

/** The user in the server's traditional notation, which clients' tests know. */
function goUserText({ user, uid, groups, extra }: Wanted): string {
  const list = (items: string[]): string => `{${items.map((s) => JSON.stringify(s)).join(', ')}}`;
  const groupText = groups.length > 0 ? list(groups) : '(nil)';
  const entries = Object.entries(extra ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const pairs = entries.map(([key, values]) => `${JSON.stringify(key)}:[]string${list(values)}`);
  const extraText = pairs.length > 0 ? `{${pairs.join(', ')}}` : '(nil)';
  return (
    `&user.DefaultInfo{Name:${JSON.stringify(user)}, UID:${JSON.stringify(uid)}, ` +
    `Groups:[]string${groupText}, Extra:map[string][]string${extraText}}`
  );
}
