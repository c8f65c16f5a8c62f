import assert from 'node:assert/strict';
import { test } from 'node:test';
import { extractModels } from '#api/extract-schema.ts';

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const models = extractModels();
const definition = (name: string) => {
  const found = models.definitions[name];
  assert.ok(found, name);
  return found;
};

test('models get their published names, by who serves and who reaches them', () => {
  const expected = {
    V1Pod: 'io.k8s.api.core.v1.Pod',
    V1PodTemplateSpec: 'io.k8s.api.core.v1.PodTemplateSpec',
    V1DeploymentSpec: 'io.k8s.api.apps.v1.DeploymentSpec',
    V1ObjectMeta: `${META}.ObjectMeta`,
    V1LabelSelector: `${META}.LabelSelector`,
    RbacV1Subject: 'io.k8s.api.rbac.v1.Subject',
    FlowcontrolV1Subject: 'io.k8s.api.flowcontrol.v1.Subject',
    DiscoveryV1EndpointPort: 'io.k8s.api.discovery.v1.EndpointPort',
    V1Eviction: 'io.k8s.api.policy.v1.Eviction',
    V1Scale: 'io.k8s.api.autoscaling.v1.Scale',
    AuthenticationV1TokenRequest: 'io.k8s.api.authentication.v1.TokenRequest',
    V2MetricSpec: 'io.k8s.api.autoscaling.v2.MetricSpec',
    V1CustomResourceDefinition:
      'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition',
  };
  for (const [model, name] of Object.entries(expected)) assert.equal(models.names[model], name);
  assert.ok(Object.keys(models.names).every((name) => !/alpha|beta/.test(name)));
});

test('every reference leads to a definition', () => {
  const text = JSON.stringify(models.definitions);
  for (const [, ref = ''] of text.matchAll(/"ref":"([^"]+)"/g)) definition(ref);
});

test('field types keep format, required marks and documentation', () => {
  const port = definition('io.k8s.api.core.v1.ServicePort');
  assert.deepEqual(port.required, ['port']);
  assert.equal(port.properties?.port?.format, 'int32');
  assert.match(port.properties?.port?.description ?? '', /exposed/);
  assert.equal(port.properties?.targetPort?.ref, 'io.k8s.apimachinery.pkg.util.intstr.IntOrString');
  const secret = definition('io.k8s.api.core.v1.Secret');
  assert.deepEqual(secret.properties?.data?.additionalProperties, {
    type: 'string',
    format: 'byte',
  });
});

test('quantities, times and free objects are what the API calls them', () => {
  const quantity = { ref: 'io.k8s.apimachinery.pkg.api.resource.Quantity' };
  const resources = definition('io.k8s.api.core.v1.ResourceRequirements');
  assert.deepEqual(resources.properties?.limits?.additionalProperties, quantity);
  const policy = definition('io.k8s.api.resource.v1.CapacityRequestPolicy');
  assert.deepEqual(policy.properties?.validValues?.items, quantity);
  const lease = definition('io.k8s.api.coordination.v1.LeaseSpec');
  assert.equal(lease.properties?.renewTime?.ref, `${META}.MicroTime`);
  const meta = definition(`${META}.ObjectMeta`);
  assert.equal(meta.properties?.creationTimestamp?.ref, `${META}.Time`);
  const entry = definition(`${META}.ManagedFieldsEntry`);
  assert.equal(entry.properties?.fieldsV1?.ref, `${META}.FieldsV1`);
});

test('names that the generator escaped are their real selves', () => {
  const list = definition(`${META}.ListMeta`);
  assert.ok(list.properties?.continue);
  const limit = definition('io.k8s.api.core.v1.LimitRangeItem');
  assert.ok(limit.properties?.default);
  const rule = definition('io.k8s.api.networking.v1.NetworkPolicyIngressRule');
  assert.ok(rule.properties?.from);
  const schema = definition(
    'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps',
  );
  assert.ok(schema.properties?.['x-kubernetes-list-map-keys']);
  assert.ok(schema.properties?.['$ref']);
  assert.ok(definition('io.k8s.api.core.v1.DaemonEndpoint').required?.includes('Port'));
});
