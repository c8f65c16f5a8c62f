import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '#api/types.ts';
import { createAuthorizer } from '#apiserver/authz/authorize.ts';
import type { Attributes } from '#apiserver/authz/authorizer.ts';
import { forbiddenBy } from '#apiserver/authz/forbidden.ts';
import { createRbac } from '#apiserver/authz/rbac.ts';
import { parseRule } from '#apiserver/authz/rules.ts';
import { readerDouble } from '#apiserver/reader-double.ts';

const GROUP = 'rbac.authorization.k8s.io';
const meta = (name: string, namespace?: string, labels?: Record<string, string>) => ({
  metadata: { name, ...(namespace ? { namespace } : {}), ...(labels ? { labels } : {}) },
});
const role = (place: KubeObject, ...rules: string[]) => ({ ...place, rules: rules.map(parseRule) });
const bound = (place: KubeObject, kind: string, name: string, ...subjects: object[]) => ({
  ...place,
  subjects,
  roleRef: { apiGroup: GROUP, kind, name },
});

const ask = (user: string, groups: string[], verb: string, resource: string, namespace = 'ns') =>
  ({
    user: { name: user, groups },
    verb,
    group: '',
    version: 'v1',
    resource,
    subresource: '',
    namespace,
    name: '',
    isResource: true,
    path: '',
  }) satisfies Attributes;

function world() {
  return readerDouble({
    [`clusterroles.${GROUP}`]: [
      role(meta('reader'), 'list | core | nodes'),
      {
        ...meta('all'),
        rules: null,
        aggregationRule: { clusterRoleSelectors: [{ matchLabels: { part: 'all' } }] },
      },
      role(meta('part', undefined, { part: 'all' }), 'list | core | events'),
    ],
    [`roles.${GROUP}`]: [role(meta('maps', 'ns'), 'list | core | configmaps')],
    [`clusterrolebindings.${GROUP}`]: [
      bound(meta('readers'), 'ClusterRole', 'reader', { kind: 'Group', name: 'ops' }),
      bound(meta('alls'), 'ClusterRole', 'all', { kind: 'User', name: 'carol' }),
    ],
    [`rolebindings.${GROUP}`]: [
      bound(
        meta('maps', 'ns'),
        'Role',
        'maps',
        { kind: 'User', name: 'jane' },
        { kind: 'ServiceAccount', name: 'robot' },
      ),
      bound(meta('nodes', 'ns'), 'ClusterRole', 'reader', { kind: 'User', name: 'jane' }),
      bound(meta('broken', 'ns'), 'Role', 'later', { kind: 'User', name: 'bob' }),
    ],
  });
}

test('bindings give their roles to users, groups and service accounts', () => {
  const authorizer = createAuthorizer({ reader: world() });
  const cases: [Attributes, 'allow' | 'no-opinion', string][] = [
    [
      ask('jane', [], 'list', 'configmaps'),
      'allow',
      'RBAC: allowed by RoleBinding "maps/ns" of Role "maps" to User "jane"',
    ],
    [ask('jane', [], 'list', 'configmaps', 'other'), 'no-opinion', ''],
    [ask('jane', [], 'get', 'configmaps'), 'no-opinion', ''],
    [ask('jane', [], 'list', 'nodes', ''), 'no-opinion', ''],
    [
      ask('x', ['ops'], 'list', 'nodes', ''),
      'allow',
      'RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "ops"',
    ],
    [
      ask('carol', [], 'list', 'events'),
      'allow',
      'RBAC: allowed by ClusterRoleBinding "alls" of ClusterRole "all" to User "carol"',
    ],
    [
      ask('bob', [], 'list', 'configmaps'),
      'no-opinion',
      'RBAC: role.rbac.authorization.k8s.io "later" not found',
    ],
    [ask('anyone', ['system:masters'], 'delete', 'nodes', ''), 'allow', ''],
  ];
  for (const [request, decision, reason] of cases) {
    assert.deepEqual(authorizer.authorize(request), { decision, reason });
  }
  const robot = ask('system:serviceaccount:ns:robot', [], 'list', 'configmaps');
  assert.equal(authorizer.authorize(robot).decision, 'allow');
});

test('changes count at once: roles, bindings, parts of aggregated roles', () => {
  const reader = world();
  const { authorizer } = createRbac(reader);
  const allowed = (request: Attributes) => authorizer.authorize(request).decision === 'allow';
  assert.equal(allowed(ask('bob', [], 'list', 'configmaps')), false);
  reader.put(GROUP, 'roles', role(meta('later', 'ns'), 'list | core | configmaps'));
  assert.equal(allowed(ask('bob', [], 'list', 'configmaps')), true);
  reader.remove(GROUP, 'rolebindings', 'broken', 'ns');
  assert.equal(allowed(ask('bob', [], 'list', 'configmaps')), false);
  assert.equal(allowed(ask('carol', [], 'list', 'pods')), false);
  const more = role(meta('more', undefined, { part: 'all' }), 'list | core | pods');
  reader.put(GROUP, 'clusterroles', more);
  assert.equal(allowed(ask('carol', [], 'list', 'pods')), true);
  reader.remove(GROUP, 'clusterroles', 'more');
  assert.equal(allowed(ask('carol', [], 'list', 'pods')), false);
});

test('rulesFor lists cluster-wide rules before those of the namespace', () => {
  const rbac = createRbac(world());
  const { rules, errors } = rbac.rulesFor({ name: 'jane', groups: ['ops'] }, 'ns');
  assert.deepEqual(
    rules.map((rule) => rule.resources),
    [['nodes'], ['configmaps'], ['nodes']],
  );
  assert.deepEqual(errors, []);
  assert.deepEqual(rbac.rulesFor({ name: 'bob', groups: [] }, 'ns').errors, [
    'role.rbac.authorization.k8s.io "later" not found',
  ]);
});

test('the text of a refusal', () => {
  const none = { decision: 'no-opinion', reason: '' } as const;
  const request = ask('x', [], 'list', 'pods', 'y');
  const url = { ...request, verb: 'get', isResource: false, path: '/metrics' };
  const scale = { ...request, group: 'apps', resource: 'deployments', subresource: 'scale' };
  const cases: [Attributes, string][] = [
    [
      request,
      'pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y"',
    ],
    [
      { ...scale, name: 'web', verb: 'get', namespace: '' },
      'deployments.apps "web" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" at the cluster scope',
    ],
    [url, 'forbidden: User "x" cannot get path "/metrics"'],
  ];
  for (const [attributes, text] of cases) {
    assert.equal(forbiddenBy(attributes, none).message, text);
  }
});
