import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import type { TestAnswer, TestBody } from '#apiserver/testing.ts';
import { ADMIN, startTestServer } from '#apiserver/testing.ts';

const server = await startTestServer();
after(() => server.close());

const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const MERGE = { 'content-type': 'application/merge-patch+json' };
const APPLY = { 'content-type': 'application/apply-patch+yaml' };
const TABLE = { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' };

/** Makes a definition in a group of its own and waits until it is served. */
async function define(
  group: string,
  spec: SchemaProps,
  more: object = {},
): Promise<{ path: string; name: string }> {
  const openAPIV3Schema = { type: 'object', properties: { spec, status: FREE } };
  const version = { name: 'v1', served: true, storage: true, schema: { openAPIV3Schema }, ...more };
  const name = `widgets.${group}`;
  const made = await server.call('POST', DEFINITIONS, {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'widgets', kind: 'Widget', shortNames: ['wg'] },
      versions: [version],
    },
  });
  assert.equal(made.code, 201, made.text);
  await until(name, (object) => /"Established","status":"True"/.test(JSON.stringify(object)));
  return { path: `/apis/${group}/v1/namespaces/default/widgets`, name };
}

const FREE: SchemaProps = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const NUMBERS: SchemaProps = { type: 'object', properties: { a: { type: 'integer' } } };

/** Follows a definition until it is as wanted; null = gone. */
async function until(name: string, holds: (object: unknown) => boolean): Promise<void> {
  const version = await server.call('GET', `${DEFINITIONS}?fieldSelector=metadata.name=${name}`);
  const items = itemsOf(version);
  if (items.some((item) => holds(item)) || (items.length === 0 && holds(null))) return;
  const from = version.body['metadata']?.['resourceVersion'];
  const query = `watch=1&resourceVersion=${from}&fieldSelector=metadata.name=${name}`;
  for await (const event of watch(`${DEFINITIONS}?${query}&timeoutSeconds=10`)) {
    if (holds(event.type === 'DELETED' ? null : event.object)) return;
  }
  assert.fail(`${name} did not become as it should`);
}

const itemsOf = ({ body }: TestAnswer): TestBody[] => body['items'] as unknown as TestBody[];

type Event = { type: string; object: { metadata: { name: string }; spec?: object } };

async function* watch(url: string): AsyncGenerator<Event, void, void> {
  const stop = new AbortController();
  const response = await server.handle({
    method: 'GET',
    url,
    headers: {},
    body: null,
    signal: stop.signal,
    user: ADMIN,
  });
  assert.equal(response.status, 200);
  try {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      for (const line of Buffer.from(chunk).toString().split('\n')) {
        if (line !== '') yield JSON.parse(line) as Event;
      }
    }
  } finally {
    stop.abort();
  }
}

const widget = (group: string, name: string, spec: object = {}): object => ({
  apiVersion: `${group}/v1`,
  kind: 'Widget',
  metadata: { name },
  spec,
});

const messageOf = (answer: TestAnswer): string => String(answer.body['message']);

test('objects of a definition are served, discovered, described, and go with it', async () => {
  const group = 'one.example.com';
  const { path, name } = await define(group, NUMBERS);
  const made = await server.call('POST', path, widget(group, 'a', { a: 1, b: 2 }));
  assert.equal(made.code, 201, made.text);
  assert.deepEqual(made.body['spec'], { a: 1 });
  assert.match(made.headers['warning'] ?? '', /unknown field \\"spec\.b\\"/);
  const strict = await server.call(
    'POST',
    `${path}?fieldValidation=Strict`,
    widget(group, 'b', { b: 2 }),
  );
  assert.equal(
    messageOf(strict),
    'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.b"',
  );
  const resources = await server.call('GET', `/apis/${group}/v1`);
  assert.equal(resources.body['resources']?.[0]?.['name'], 'widgets');
  const described = await server.call('GET', `/openapi/v3/apis/${group}/v1`);
  assert.ok(described.text.includes('com.example.one.v1.Widget'));
  const missing = await server.call('GET', `${path}/a/status`);
  assert.equal(messageOf(missing), `widgets.${group} "a" not found`);
  const going = await server.call('DELETE', `${DEFINITIONS}/${name}`);
  assert.equal(going.body['kind'], 'CustomResourceDefinition');
  await until(name, (object) => object === null);
  const gone = await server.call('GET', path);
  assert.deepEqual([gone.code, gone.text], [404, '404 page not found\n']);
  // A definition of the same name starts with nothing.
  await define(group, NUMBERS);
  assert.deepEqual(itemsOf(await server.call('GET', path)), []);
});

test('unknown fields deep inside a schema are told of', async () => {
  const answer = await server.call('POST', `${DEFINITIONS}?fieldValidation=Strict`, {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'widgets.zero.example.com' },
    spec: {
      group: 'zero.example.com',
      scope: 'Cluster',
      names: { plural: 'widgets', kind: 'Widget' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', items: { type: 'string', typo: 1 } } },
        },
      ],
    },
  });
  assert.match(
    messageOf(answer),
    /unknown field "spec\.versions\[0\]\.schema\.openAPIV3Schema\.items\.typo"/,
  );
});

test('a definition waits for objects that finalizers hold, and takes no new ones', async () => {
  const group = 'two.example.com';
  const { path, name } = await define(group, NUMBERS);
  const held = { ...widget(group, 'a'), metadata: { name: 'a', finalizers: ['example.com/x'] } };
  assert.equal((await server.call('POST', path, held)).code, 201);
  await server.call('DELETE', `${DEFINITIONS}/${name}`);
  await until(name, (object) => JSON.stringify(object).includes('InstanceDeletionInProgress'));
  const late = await server.call('POST', path, widget(group, 'b'));
  assert.equal(
    messageOf(late),
    `widgets.${group} "b" is forbidden: create not allowed while custom resource definition is terminating`,
  );
  const let_go = { metadata: { finalizers: null } };
  assert.equal((await server.call('PATCH', `${path}/a`, let_go, MERGE)).code, 200);
  await until(name, (object) => object === null);
});

test('watches see changes of the schema end them', async () => {
  const group = 'three.example.com';
  const { path, name } = await define(group, NUMBERS);
  await server.call('POST', path, widget(group, 'a', { a: 1 }));
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of watch(`${path}?watch=1&resourceVersion=0`)) {
      seen.push(`${event.type} ${event.object.metadata.name}`);
      if (seen.length > 1) continue;
      const patch = [
        {
          op: 'add',
          path: '/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/d',
          value: { type: 'integer', default: 7 },
        },
      ];
      const type = { 'content-type': 'application/json-patch+json' };
      assert.equal((await server.call('PATCH', `${DEFINITIONS}/${name}`, patch, type)).code, 200);
    }
  })();
  await watching;
  assert.deepEqual(seen, ['ADDED a']);
  const read = await server.call('GET', `${path}/a`);
  assert.deepEqual(read.body['spec'], { a: 1, d: 7 });
  const [listed] = itemsOf(await server.call('GET', path));
  assert.deepEqual(listed?.['spec'], { a: 1, d: 7 });
});

test('apply, patches, status, scale and tables go by the definition', async () => {
  const group = 'four.example.com';
  const spec: SchemaProps = {
    type: 'object',
    properties: {
      replicas: { type: 'integer' },
      ports: {
        type: 'array',
        items: {
          type: 'object',
          properties: { port: { type: 'integer' }, name: { type: 'string' } },
          required: ['port'],
        },
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['port'],
      },
    },
  };
  const scale = { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' };
  const { path } = await define(group, spec, {
    subresources: { status: {}, scale },
    additionalPrinterColumns: [{ name: 'N', type: 'integer', jsonPath: '.spec.replicas' }],
    selectableFields: [{ jsonPath: '.spec.replicas' }],
  });
  const apply = (manager: string, value: object) =>
    server.call('PATCH', `${path}/a?fieldManager=${manager}`, widget(group, 'a', value), APPLY);
  assert.equal((await apply('one', { ports: [{ port: 1, name: 'x' }], replicas: 2 })).code, 201);
  const both = await apply('two', { ports: [{ port: 2 }] });
  assert.deepEqual(both.body['spec']?.['ports'], [{ name: 'x', port: 1 }, { port: 2 }]);
  const conflict = await apply('two', { ports: [{ port: 1, name: 'y' }] });
  assert.match(messageOf(conflict), /conflict with "one": \.spec\.ports\[port=1\]\.name/);
  const undeclared = await apply('two', { nosuch: 1 });
  assert.match(messageOf(undeclared), /\.spec\.nosuch: field not declared in schema/);
  const strategic = { 'content-type': 'application/strategic-merge-patch+json' };
  assert.equal((await server.call('PATCH', `${path}/a`, {}, strategic)).code, 415);
  const status = { spec: { replicas: 9 }, status: { replicas: 1 } };
  const stated = await server.call('PATCH', `${path}/a/status`, status, MERGE);
  assert.deepEqual(
    [stated.body['spec']?.['replicas'], stated.body['status']],
    [2, { replicas: 1 }],
  );
  const scaled = await server.call('PATCH', `${path}/a/scale`, { spec: { replicas: 5 } }, MERGE);
  assert.deepEqual([scaled.body['kind'], scaled.body['spec']], ['Scale', { replicas: 5 }]);
  const negative = await server.call('PATCH', `${path}/a/scale`, { spec: { replicas: -1 } }, MERGE);
  assert.match(
    messageOf(negative),
    /\.spec\.replicas: Invalid value: -1: should be a non-negative/,
  );
  const table = await server.call('GET', path, undefined, TABLE);
  assert.deepEqual(table.body['rows']?.[0]?.['cells'], ['a', 5]);
  const found = await server.call('GET', `${path}?fieldSelector=spec.replicas=5`);
  assert.equal(itemsOf(found).length, 1);
  const none = await server.call('GET', `${path}?fieldSelector=spec.replicas=6`);
  assert.equal(itemsOf(none).length, 0);
});
