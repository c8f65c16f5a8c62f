import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Kind } from '#api/kind.ts';
import { buildScheme, compareVersions } from '#api/scheme.ts';

const kind = (over: Partial<Kind>): Kind => ({
  group: '',
  version: 'v1',
  kind: 'Pod',
  plural: 'pods',
  singular: 'pod',
  scope: 'Namespaced',
  schema: 'V1Pod',
  ...over,
});

const pods = kind({
  fieldRules: [
    {
      'V1PodSpec.containers': {
        listType: 'map',
        listMapKeys: ['name'],
        mergeKey: 'name',
        patchStrategy: 'merge',
      },
      'V1ContainerPort.protocol': { default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'] },
      V1SecretKeySelector: { mapType: 'atomic' },
    },
  ],
});
const deployments = kind({
  group: 'apps',
  kind: 'Deployment',
  plural: 'deployments',
  schema: 'V1Deployment',
  subresources: {
    scale: {
      type: 'scale',
      specReplicasPath: '.spec.replicas',
      statusReplicasPath: '.status.replicas',
    },
  },
});
const widgets = kind({
  group: 'stable.example.com',
  kind: 'Widget',
  plural: 'widgets',
  schema: { type: 'object', properties: { size: { type: 'integer' } } },
});

test('kinds are found by resource and by kind', () => {
  const scheme = buildScheme([deployments, pods, widgets]);
  assert.equal(scheme.byResource('apps', 'v1', 'deployments'), deployments);
  assert.equal(scheme.byKind('', 'v1', 'Pod'), pods);
  assert.equal(scheme.byKind('', 'v2', 'Pod'), undefined);
  assert.deepEqual(
    scheme.groups().map((g) => g.group),
    ['', 'apps', 'stable.example.com'],
  );
  assert.deepEqual(scheme.schemaOf(pods), { ref: 'io.k8s.api.core.v1.Pod' });
  assert.equal(scheme.schemaOf(widgets), widgets.schema);
  assert.equal(scheme.definitionName(widgets), 'com.example.stable.v1.Widget');
});

test('definitions are what the kinds reach, with their rules', () => {
  const { definitions } = buildScheme([pods]);
  assert.ok(definitions.has('io.k8s.api.core.v1.PodList'));
  assert.ok(!definitions.has('io.k8s.api.apps.v1.Deployment'));
  const containers = definitions.get('io.k8s.api.core.v1.PodSpec')?.properties?.containers;
  assert.equal(containers?.['x-kubernetes-list-type'], 'map');
  assert.deepEqual(containers?.['x-kubernetes-list-map-keys'], ['name']);
  assert.equal(containers?.['x-kubernetes-patch-merge-key'], 'name');
  const protocol = definitions.get('io.k8s.api.core.v1.ContainerPort')?.properties?.protocol;
  assert.equal(protocol?.default, 'TCP');
  const selector = definitions.get('io.k8s.api.core.v1.SecretKeySelector');
  assert.equal(selector?.['x-kubernetes-map-type'], 'atomic');
});

test('a scheme can be built upon the definitions of another', () => {
  const first = buildScheme([pods, deployments]);
  const second = buildScheme([pods, deployments, widgets], first.definitions);
  assert.equal(second.definitions, first.definitions);
  assert.deepEqual(second.schemaOf(deployments), { ref: 'io.k8s.api.apps.v1.Deployment' });
  assert.ok(first.definitions.has('io.k8s.api.autoscaling.v1.Scale'));
});

test('two kinds of one name are refused', () => {
  assert.throws(() => buildScheme([pods, pods]), /two kinds claim v1\/Pod/);
  assert.throws(() => buildScheme([kind({ schema: 'V1Nothing' })]), /has no V1Nothing/);
});

test('versions are ordered as custom resource definitions order them', () => {
  const sorted = ['foo1', 'v1alpha1', 'v3beta1', 'v2', 'v10', 'v11beta2', 'foo10', 'v12alpha1'];
  assert.deepEqual(sorted.sort(compareVersions), [
    'v10',
    'v2',
    'v11beta2',
    'v3beta1',
    'v12alpha1',
    'v1alpha1',
    'foo1',
    'foo10',
  ]);
});
