import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNodeAuthorizer } from '#apiserver/authz/node-authorizer.ts';
import type { Attributes } from '#apiserver/authz/authorizer.ts';
import { readerDouble } from '#apiserver/reader-double.ts';

const reader = readerDouble({
  pods: [
    {
      metadata: { namespace: 'ns', name: 'p' },
      spec: {
        nodeName: 'n1',
        serviceAccountName: 'robot',
        imagePullSecrets: [{ name: 'pull' }],
        containers: [
          {
            name: 'c',
            envFrom: [{ configMapRef: { name: 'env' } }],
            env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 'key', key: 'k' } } }],
          },
        ],
        volumes: [
          { name: 'a', secret: { secretName: 'vol' } },
          { name: 'b', projected: { sources: [{ configMap: { name: 'proj' } }] } },
          { name: 'c', persistentVolumeClaim: { claimName: 'claim' } },
        ],
      },
    },
    { metadata: { namespace: 'ns', name: 'q' }, spec: { nodeName: 'n2', containers: [] } },
  ],
  persistentvolumes: [
    {
      metadata: { name: 'pv' },
      spec: {
        claimRef: { namespace: 'ns', name: 'claim' },
        csi: { nodeStageSecretRef: { namespace: 'drivers', name: 'stage' } },
      },
    },
    {
      metadata: { name: 'other' },
      spec: {
        claimRef: { namespace: 'ns', name: 'unused' },
        csi: { nodeStageSecretRef: { namespace: 'drivers', name: 'other' } },
      },
    },
  ],
});

/** `verb resource[/sub][.group] [namespace/name] [fieldSelector]` as node n1. */
function ask(text: string): Attributes {
  const [verb = '', place = '', where = '', fieldSelector] = text.split(' ');
  const [path = '', ...group] = place.split('.');
  const [resource = '', subresource = ''] = path.split('/');
  const [namespace = '', name = ''] = where.split('/');
  return {
    user: { name: 'system:node:n1', groups: ['system:nodes'] },
    verb,
    group: group.join('.'),
    version: 'v1',
    resource,
    subresource,
    namespace,
    name,
    isResource: true,
    path: '',
    ...(fieldSelector ? { fieldSelector } : {}),
  };
}

test('what the agent of a node may do', () => {
  const node = createNodeAuthorizer(reader);
  const cases: [string, boolean][] = [
    ['get secrets ns/vol', true],
    ['get secrets ns/key', true],
    ['get secrets ns/pull', true],
    ['watch secrets ns/vol', true],
    ['get secrets drivers/stage', true],
    ['watch secrets drivers/stage', false],
    ['get secrets drivers/other', false],
    ['get secrets ns/proj', false],
    ['get secrets other/vol', false],
    ['list secrets ns/', false],
    ['update secrets ns/vol', false],
    ['get configmaps ns/env', true],
    ['get configmaps ns/proj', true],
    ['get configmaps ns/vol', false],
    ['get persistentvolumeclaims ns/claim', true],
    ['create serviceaccounts/token ns/robot', true],
    ['create serviceaccounts/token ns/default', false],
    ['get pods ns/p', true],
    ['get pods ns/q', false],
    ['list pods / spec.nodeName=n1', true],
    ['watch pods / spec.nodeName=n2', false],
    ['list pods', false],
    ['update pods/status ns/p', true],
    ['get nodes /n1', true],
    ['get nodes /n2', false],
    ['create nodes', true],
    ['patch nodes/status /n1', true],
    ['patch nodes/status /n2', false],
    ['update leases.coordination.k8s.io kube-node-lease/n1', true],
    ['update leases.coordination.k8s.io kube-node-lease/n2', false],
    ['update leases.coordination.k8s.io kube-system/n1', false],
    ['list runtimeclasses.node.k8s.io', true],
    ['delete namespaces /ns', false],
  ];
  for (const [text, allowed] of cases) {
    assert.equal(node.authorize(ask(text)).decision === 'allow', allowed, text);
  }
});

test('others are none of its business', () => {
  const node = createNodeAuthorizer(reader);
  const request = ask('get secrets ns/vol');
  const plain = { ...request, user: { name: 'system:node:n1', groups: [] } };
  assert.deepEqual(node.authorize(plain), { decision: 'no-opinion', reason: '' });
});
