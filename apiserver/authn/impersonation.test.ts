import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStatusError } from '#api/status.ts';
import { impersonate } from '#apiserver/authn/impersonation.ts';
import type { Attributes, Decision } from '#apiserver/authz/authorizer.ts';
import type { UserInfo } from '#apiserver/user.ts';

const admin: UserInfo = { name: 'admin', groups: ['system:authenticated'] };
const allowAll = (): Decision => ({ decision: 'allow', reason: '' });
const as = (headers: Record<string, string>, authorize = allowAll) =>
  impersonate({ headers }, admin, authorize);

test('who one becomes', () => {
  const cases: [Record<string, string>, UserInfo][] = [
    [{}, admin],
    [{ 'impersonate-user': 'jane' }, { name: 'jane', groups: ['system:authenticated'] }],
    [
      { 'impersonate-user': 'jane', 'impersonate-group': 'dev, ops', 'impersonate-uid': 'u' },
      { name: 'jane', uid: 'u', groups: ['dev', 'ops', 'system:authenticated'] },
    ],
    [
      { 'impersonate-user': 'system:anonymous' },
      { name: 'system:anonymous', groups: ['system:unauthenticated'] },
    ],
    [
      { 'impersonate-user': 'system:serviceaccount:ns:a' },
      {
        name: 'system:serviceaccount:ns:a',
        groups: ['system:serviceaccounts', 'system:serviceaccounts:ns', 'system:authenticated'],
      },
    ],
    [
      { 'impersonate-user': 'system:serviceaccount:ns:a', 'impersonate-group': 'only' },
      { name: 'system:serviceaccount:ns:a', groups: ['only', 'system:authenticated'] },
    ],
    [
      { 'impersonate-user': 'jane', 'impersonate-extra-example.com%2fteam': 'red' },
      { name: 'jane', groups: ['system:authenticated'], extra: { 'example.com/team': ['red'] } },
    ],
  ];
  for (const [headers, user] of cases) assert.deepEqual(as(headers), user);
});

test('each part needs its own right', () => {
  const asked: string[] = [];
  const record = (request: Attributes): Decision => {
    const { group, resource, subresource, namespace, name, verb } = request;
    asked.push([verb, group, resource, subresource, namespace, name].join(' '));
    return allowAll();
  };
  const headers = {
    'impersonate-user': 'system:serviceaccount:ns:a',
    'impersonate-group': 'dev',
    'impersonate-uid': 'u',
    'impersonate-extra-scopes': 'x, y',
  };
  impersonate({ headers }, admin, record);
  assert.deepEqual(asked, [
    'impersonate  serviceaccounts  ns a',
    'impersonate  groups   dev',
    'impersonate authentication.k8s.io userextras scopes  x',
    'impersonate authentication.k8s.io userextras scopes  y',
    'impersonate authentication.k8s.io uids   u',
  ]);
});

test('refusals', () => {
  const never = (): Decision => ({ decision: 'no-opinion', reason: '' });
  assert.throws(
    () => as({ 'impersonate-user': 'jane', 'impersonate-extra-scopes': 'x' }, never),
    (error) =>
      isStatusError(error, 'Forbidden') &&
      error.message ===
        'users "jane" is forbidden: User "admin" cannot impersonate resource "users" in API group "" at the cluster scope',
  );
  assert.throws(
    () => as({ 'impersonate-group': 'dev' }),
    (error) =>
      isStatusError(error, 'BadRequest') &&
      error.message.endsWith('without impersonating a user name'),
  );
});
