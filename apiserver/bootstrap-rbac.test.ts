import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAuthorizer } from '#apiserver/authz/authorize.ts';
import { bootstrapRbac, heal, type RbacObject } from '#apiserver/bootstrap-rbac.ts';
import { readerDouble } from '#apiserver/reader-double.ts';

const GROUP = 'rbac.authorization.k8s.io';

test('names are unique and every binding names a role that exists', () => {
  const born = bootstrapRbac();
  const names = new Set<string>();
  for (const [resource, objects] of Object.entries(born)) {
    for (const { metadata } of objects) {
      const name = `${resource} ${metadata.namespace ?? ''}/${metadata.name}`;
      assert.ok(!names.has(name), name);
      names.add(name);
    }
  }
  for (const { roleRef } of born.clusterrolebindings) {
    assert.ok(names.has(`clusterroles /${roleRef?.name}`));
  }
  for (const { metadata, roleRef } of born.rolebindings) {
    assert.ok(names.has(`roles ${metadata.namespace}/${roleRef?.name}`));
  }
});

test('the components and users can do their work with the roles of the start', () => {
  const born = bootstrapRbac();
  const reader = readerDouble(
    Object.fromEntries(Object.entries(born).map(([name, list]) => [`${name}.${GROUP}`, list])),
  );
  const authorizer = createAuthorizer({ reader });
  const may = (name: string, groups: string[], text: string): boolean => {
    const [verb = '', group = '', path = ''] = text.split(' ');
    const [resource = '', subresource = ''] = path.split('/');
    const request = {
      user: { name, groups: [...groups, 'system:authenticated'] },
      verb,
      group: group === 'core' ? '' : group,
      version: 'v1',
      resource,
      subresource,
      namespace: 'ns',
      name: 'x',
      isResource: true,
      path: '',
    };
    return authorizer.authorize(request).decision === 'allow';
  };
  const manager = 'system:kube-controller-manager';
  const cases: [string, string[], string, boolean][] = [
    ['system:kube-scheduler', [], 'create core pods/binding', true],
    ['system:kube-scheduler', [], 'create apps deployments', false],
    [manager, [], 'create apps replicasets', true],
    [manager, [], 'update discovery.k8s.io endpointslices', true],
    [manager, [], 'patch core nodes', true],
    [manager, [], 'create storage.k8s.io volumeattachments', true],
    [manager, [], 'delete storage.k8s.io volumeattachments', true],
    [manager, [], 'update core nodes/status', true],
    [manager, [], 'update core persistentvolumes', true],
    [manager, [], 'update core persistentvolumeclaims/status', true],
    ['system:kube-scheduler', [], 'list storage.k8s.io csistoragecapacities', true],
    ['system:node:a', ['system:nodes'], 'watch storage.k8s.io csidrivers', true],
    ['system:node:a', ['system:nodes'], 'list discovery.k8s.io endpointslices', true],
    ['system:node:a', ['system:nodes'], 'get core secrets', false],
    ['nobody', [], 'create authorization.k8s.io selfsubjectaccessreviews', true],
    ['nobody', [], 'get core pods', false],
  ];
  for (const [name, groups, text, allowed] of cases) {
    assert.equal(may(name, groups, text), allowed, `${name}: ${text}`);
  }
});

test('heal adds what is missing and leaves additions', () => {
  const wanted: RbacObject = {
    metadata: { name: 'a', labels: { l: '1' } },
    rules: [{ verbs: ['get', 'list'], apiGroups: [''], resources: ['pods'] }],
    subjects: [{ kind: 'User', name: 'u' }],
  };
  assert.equal(heal(wanted, wanted), undefined);
  const stored: RbacObject = {
    metadata: { name: 'a', labels: { own: 'x' } },
    rules: [
      { verbs: ['get'], apiGroups: [''], resources: ['pods'] },
      { verbs: ['get'], apiGroups: [''], resources: ['nodes'] },
    ],
    subjects: [{ kind: 'Group', name: 'g' }],
  };
  assert.deepEqual(heal(stored, wanted), {
    metadata: { name: 'a', labels: { own: 'x', l: '1' } },
    rules: [
      { verbs: ['get'], apiGroups: [''], resources: ['pods'] },
      { verbs: ['get'], apiGroups: [''], resources: ['nodes'] },
      { verbs: ['list'], apiGroups: [''], resources: ['pods'] },
    ],
    subjects: [
      { kind: 'Group', name: 'g' },
      { kind: 'User', name: 'u' },
    ],
  });
});
