import assert from 'node:assert/strict';
import { test } from 'node:test';
import protobuf from 'protobufjs';
import type { Kind } from '#api/kind.ts';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme } from '#api/scheme.ts';
import { createOpenApi } from '#apiserver/openapi.ts';

const widgets: Kind = {
  group: 'stable.example.com',
  version: 'v1',
  kind: 'Widget',
  plural: 'widgets',
  singular: 'widget',
  scope: 'Namespaced',
  schema: {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        description: 'What is wanted.',
        properties: {
          size: { type: 'integer', default: 3, minimum: 1 },
          port: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }] },
        },
      },
    },
  },
  subresources: { status: { type: 'status' } },
};
const base = buildScheme(builtinKinds);
const scheme = buildScheme([...builtinKinds, widgets], base.definitions);
const openApi = createOpenApi(scheme, { version: '1.36' });
type Json = { [member: string]: Json } & Json[] & string;

function bytesOf(path: string, options = {}): Uint8Array {
  const answer = openApi.document(path, options);
  assert.ok(answer && 'body' in answer, path);
  return answer.body;
}
const read = (path: string): Json => JSON.parse(Buffer.from(bytesOf(path)).toString()) as Json;
const deepGet = (value: unknown, ...path: (string | number)[]): unknown =>
  path.reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step], value);

test('the root links a document per group version, by a hash that has to be right', () => {
  const { paths } = read('/openapi/v3');
  const link = String(deepGet(paths, 'apis/apps/v1', 'serverRelativeURL'));
  assert.match(link, /^\/openapi\/v3\/apis\/apps\/v1\?hash=[0-9A-F]{128}$/);
  const hash = link.split('=')[1] ?? '';
  assert.ok(bytesOf('/openapi/v3/apis/apps/v1', { hash }).length > 1000);
  assert.deepEqual(openApi.document('/openapi/v3/apis/apps/v1', { hash: '00' }), {
    redirect: link,
  });
  assert.equal(openApi.document('/openapi/v3/apis/none/v1'), undefined);
  assert.equal(openApi.document('/openapi/v4'), undefined);
  for (const name of ['api', 'apis', 'api/v1', 'apis/apps', 'version']) {
    assert.ok(deepGet(paths, name), name);
  }
  const other = createOpenApi(base, { version: '1.36' });
  const same = other.document('/openapi/v3/apis/apps/v1', { hash: '' });
  assert.ok(same && 'redirect' in same);
});

test('every reference of every document leads somewhere', () => {
  const names = Object.keys(read('/openapi/v3')['paths'] ?? {});
  for (const name of names) {
    const document = read(`/openapi/v3/${name}`);
    for (const [, ref = ''] of JSON.stringify(document).matchAll(
      /"#\/components\/schemas\/([^"]+)"/g,
    )) {
      assert.ok(deepGet(document, 'components', 'schemas', ref), `${name}: ${ref}`);
    }
  }
  const version2 = read('/openapi/v2');
  for (const [, ref = ''] of JSON.stringify(version2).matchAll(/"#\/definitions\/([^"]+)"/g)) {
    assert.ok(deepGet(version2, 'definitions', ref), ref);
  }
});

test('writes tell their parameters, kinds their group, version and kind', () => {
  const document = read('/openapi/v3/api/v1');
  const item = deepGet(document, 'paths', '/api/v1/namespaces/{namespace}/pods/{name}');
  const query = (method: string) =>
    (deepGet(item, method, 'parameters') as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(query('put'), ['dryRun', 'fieldManager', 'fieldValidation']);
  assert.deepEqual(query('patch'), ['dryRun', 'fieldManager', 'fieldValidation', 'force']);
  assert.equal(deepGet(item, 'patch', 'operationId'), 'patchCoreV1NamespacedPod');
  assert.deepEqual(deepGet(item, 'patch', 'x-kubernetes-group-version-kind'), {
    group: '',
    kind: 'Pod',
    version: 'v1',
  });
  const pod = deepGet(document, 'components', 'schemas', 'io.k8s.api.core.v1.Pod');
  assert.deepEqual(deepGet(pod, 'x-kubernetes-group-version-kind'), [
    { group: '', kind: 'Pod', version: 'v1' },
  ]);
  const spec = deepGet(document, 'components', 'schemas', 'io.k8s.api.core.v1.PodSpec');
  const containers = deepGet(spec, 'properties', 'containers');
  assert.equal(deepGet(containers, 'x-kubernetes-patch-merge-key'), 'name');
  assert.match(String(deepGet(containers, 'description')), /containers/i);
  assert.deepEqual(deepGet(containers, 'items'), {
    $ref: '#/components/schemas/io.k8s.api.core.v1.Container',
  });
  const affinity = deepGet(spec, 'properties', 'affinity');
  assert.deepEqual(deepGet(affinity, 'allOf'), [
    { $ref: '#/components/schemas/io.k8s.api.core.v1.Affinity' },
  ]);
  assert.ok(deepGet(affinity, 'description'));
});

test('version 2 says with its own means what it cannot say otherwise', () => {
  const { definitions } = read('/openapi/v2');
  const quantity = deepGet(definitions, 'io.k8s.apimachinery.pkg.api.resource.Quantity');
  assert.equal(deepGet(quantity, 'type'), 'string');
  const port = deepGet(definitions, 'io.k8s.apimachinery.pkg.util.intstr.IntOrString');
  assert.equal(deepGet(port, 'format'), 'int-or-string');
  // A type that describes schemas has fields of these names.
  const props = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps';
  const text = JSON.stringify({ ...(definitions as object), [props]: {} });
  assert.ok(!/"(oneOf|anyOf|nullable)"/.test(text));
});

test('a custom kind that keeps what it does not know names no members in version 2', () => {
  const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } as const;
  const things: Kind = { ...widgets, kind: 'Thing', plural: 'things', schema: free };
  const documents = createOpenApi(buildScheme([...builtinKinds, things], base.definitions), {
    version: '1.36',
  });
  const answer = documents.document('/openapi/v2');
  assert.ok(answer && 'body' in answer);
  const found = deepGet(
    JSON.parse(Buffer.from(answer.body).toString()),
    'definitions',
    'com.example.stable.v1.Thing',
  );
  const gvk = { group: 'stable.example.com', kind: 'Thing', version: 'v1' };
  assert.deepEqual(found, { type: 'object', 'x-kubernetes-group-version-kind': [gvk] });
});

test('custom kinds are described with the members that all objects have', () => {
  const document = read('/openapi/v3/apis/stable.example.com/v1');
  const schemas = deepGet(document, 'components', 'schemas');
  const widget = deepGet(schemas, 'com.example.stable.v1.Widget');
  assert.equal(deepGet(widget, 'properties', 'spec', 'properties', 'size', 'default'), 3);
  assert.ok(deepGet(widget, 'properties', 'metadata', 'allOf', 0, '$ref'));
  assert.ok(deepGet(schemas, 'com.example.stable.v1.WidgetList'));
  const path = '/apis/stable.example.com/v1/namespaces/{namespace}/widgets/{name}';
  const types = deepGet(document, 'paths', path, 'patch', 'requestBody', 'content') as object;
  assert.ok(!Object.keys(types).includes('application/strategic-merge-patch+json'));
  assert.ok(deepGet(document, 'paths', `${path}/status`));
});

/** The part of gnostic's messages that a reader of kinds and patches needs. */
const GNOSTIC = `
syntax = "proto3";
package openapi.v2;
message Any { string yaml = 2; }
message NamedAny { string name = 1; Any value = 2; }
message TypeItem { repeated string value = 1; }
message ItemsItem { repeated Schema schema = 1; }
message NamedSchema { string name = 1; Schema value = 2; }
message Properties { repeated NamedSchema additional_properties = 1; }
message Schema {
  string _ref = 1; string format = 2; string description = 4; Any default = 5;
  double minimum = 9; repeated string required = 19; repeated Any enum = 20;
  TypeItem type = 22; ItemsItem items = 23; Properties properties = 25;
  repeated NamedAny vendor_extension = 31;
}
message QueryParameter { string in = 2; string name = 4; string type = 6; bool unique_items = 20; }
message BodyParameter { string name = 2; string in = 3; bool required = 4; Schema schema = 5; }
message NonBodyParameter { QueryParameter query = 3; QueryParameter path = 4; }
message Parameter { BodyParameter body = 1; NonBodyParameter non_body = 2; }
message ParametersItem { Parameter parameter = 1; }
message Response { string description = 1; }
message ResponseValue { Response response = 1; }
message NamedResponseValue { string name = 1; ResponseValue value = 2; }
message Responses { repeated NamedResponseValue response_code = 1; }
message Operation {
  repeated string tags = 1; string operation_id = 5; repeated ParametersItem parameters = 8;
  Responses responses = 9; repeated NamedAny vendor_extension = 13;
}
message PathItem { Operation get = 2; Operation patch = 8; }
message NamedPathItem { string name = 1; PathItem value = 2; }
message Paths { repeated NamedPathItem path = 2; }
message Definitions { repeated NamedSchema additional_properties = 1; }
message Info { string title = 1; string version = 2; }
message Document { string swagger = 1; Info info = 2; Paths paths = 8; Definitions definitions = 9; }
`;

test('the binary form says the same as the JSON form', () => {
  const accept = 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf';
  const type = protobuf.parse(GNOSTIC, { keepCase: true }).root.lookupType('openapi.v2.Document');
  const decoded = type.toObject(type.decode(bytesOf('/openapi/v2', { accept })), {
    arrays: true,
  });
  assert.equal(deepGet(decoded, 'swagger'), '2.0');
  assert.equal(deepGet(decoded, 'info', 'version'), '1.36');
  const json = read('/openapi/v2');
  type Named = { name: string; value: unknown };
  const named = (list: unknown, name: string): unknown =>
    (list as Named[]).find((item) => item.name === name)?.value;
  const schemas = deepGet(decoded, 'definitions', 'additional_properties');
  assert.deepEqual(
    (schemas as Named[]).map(({ name }) => name),
    Object.keys(json['definitions'] ?? {}),
  );
  const pod = named(schemas, 'io.k8s.api.core.v1.PodSpec');
  assert.deepEqual(deepGet(pod, 'type', 'value'), ['object']);
  assert.deepEqual(deepGet(pod, 'required'), ['containers']);
  const containers = named(deepGet(pod, 'properties', 'additional_properties'), 'containers');
  assert.equal(
    deepGet(containers, 'items', 'schema', 0, '_ref'),
    '#/definitions/io.k8s.api.core.v1.Container',
  );
  const key = named(deepGet(containers, 'vendor_extension'), 'x-kubernetes-patch-merge-key');
  assert.equal(JSON.parse(String(deepGet(key, 'yaml'))), 'name');
  const widget = named(schemas, 'com.example.stable.v1.Widget');
  const spec = named(deepGet(widget, 'properties', 'additional_properties'), 'spec');
  const size = named(deepGet(spec, 'properties', 'additional_properties'), 'size');
  assert.equal(deepGet(size, 'minimum'), 1);
  assert.equal(String(deepGet(size, 'default', 'yaml')), '3\n');
  const path = named(
    deepGet(decoded, 'paths', 'path'),
    '/api/v1/namespaces/{namespace}/pods/{name}',
  );
  const parameters = deepGet(path, 'patch', 'parameters') as unknown[];
  const names = parameters.map((item) => deepGet(item, 'parameter', 'non_body', 'query', 'name'));
  assert.ok(names.includes('fieldValidation') && names.includes('dryRun'));
  assert.equal(deepGet(parameters.at(-1), 'parameter', 'body', 'required'), true);
});
