import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { startTestServer, type TestAnswer, type TestServer } from '#apiserver/testing.ts';

/** Policies with CEL against a true server; what upstream's own answers show is replayed elsewhere. */

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const GROUP = '/apis/admissionregistration.k8s.io/v1';

afterEach(async () => {
  for (const family of ['validating', 'mutating']) {
    for (const part of ['policybindings', 'policies']) {
      await server.call('DELETE', `${GROUP}/${family}admission${part}`);
    }
  }
  await server.call('DELETE', '/api/v1/namespaces/default/configmaps');
});

const RULES = [
  {
    apiGroups: ['', 'apps'],
    apiVersions: ['*'],
    operations: ['CREATE', 'UPDATE', 'DELETE'],
    resources: ['configmaps', 'deployments'],
  },
];

/** Mutating policies see no deletes. */
const CHANGES = RULES.map((rule) => ({ ...rule, operations: ['CREATE', 'UPDATE'] }));

async function policy(
  family: 'validating' | 'mutating',
  spec: object,
  binding: object = {},
): Promise<void> {
  const actions = family === 'validating' ? { validationActions: ['Deny'] } : {};
  const first = await server.call('POST', `${GROUP}/${family}admissionpolicies`, {
    metadata: { name: 'p.example.com' },
    spec: { matchConstraints: { resourceRules: family === 'mutating' ? CHANGES : RULES }, ...spec },
  });
  assert.equal(first.code, 201, first.text);
  const second = await server.call('POST', `${GROUP}/${family}admissionpolicybindings`, {
    metadata: { name: 'b' },
    spec: { policyName: 'p.example.com', ...actions, ...binding },
  });
  assert.equal(second.code, 201, second.text);
}

const create = (name: string, more: object = {}): Promise<TestAnswer> =>
  server.call('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name }, ...more });

const refusal = async (promise: Promise<TestAnswer>): Promise<string> => {
  const { body } = await promise;
  return String(body['message'] ?? '').replace(/^.*denied request: /, '');
};

test('variables are evaluated when they are read, and only once', async () => {
  await policy('validating', {
    variables: [
      { name: 'bad', expression: 'object.data.missing' },
      { name: 'n', expression: 'size(object.data)' },
      { name: 'double', expression: 'variables.n * 2' },
    ],
    validations: [
      {
        expression: 'variables.double < 4',
        messageExpression: "'too many: ' + string(variables.n)",
      },
      { expression: "object.metadata.name != 'bad' || variables.bad == 'x'" },
    ],
  });
  assert.equal((await create('ok', { data: { a: '1' } })).code, 201);
  assert.equal(await refusal(create('many', { data: { a: '1', b: '2' } })), 'too many: 2');
  const message = await refusal(create('bad', { data: { a: '1' } }));
  assert.match(message, /composited variable "bad" fails to evaluate: no such key: missing$/);
});

test('parameters come by name or by label, and their lack is refused or let through', async () => {
  await create('limits', { data: { most: '3' } });
  const paramKind = { apiVersion: 'v1', kind: 'ConfigMap' };
  const validations = [{ expression: 'size(object.metadata.name) <= int(params.data.most)' }];
  const paramRef = { name: 'limits', parameterNotFoundAction: 'Deny' };
  await policy('validating', { paramKind, validations }, { paramRef });
  assert.equal((await create('abc')).code, 201);
  assert.equal((await create('abcd')).code, 422);
  const path = `${GROUP}/validatingadmissionpolicybindings/b`;
  const merge = { 'content-type': 'application/merge-patch+json' };
  await server.call('PATCH', path, { spec: { paramRef: { name: 'nosuch' } } }, merge);
  const missing =
    'failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction';
  assert.equal(await refusal(create('x')), missing);
  await server.call(
    'PATCH',
    path,
    { spec: { paramRef: { parameterNotFoundAction: 'Allow' } } },
    merge,
  );
  assert.equal((await create('x')).code, 201);
});

test('expressions may ask what the user may do, and see namespace and request', async () => {
  await policy('validating', {
    validations: [
      {
        expression:
          "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()",
      },
      {
        expression:
          "!authorizer.serviceAccount('default', 'x').group('').resource('secrets').check('get').allowed()",
      },
      { expression: "namespaceObject.metadata.name == 'default' && request.operation == 'CREATE'" },
      {
        expression:
          "'system:masters' in request.userInfo.groups && request.resource.resource == 'configmaps'",
      },
      { expression: "authorizer.requestResource.check('create').allowed()" },
    ],
  });
  const answer = await create('a');
  assert.equal(answer.code, 201, answer.text);
});

test('what costs too much is refused', async () => {
  const deep = 'lists.range(900).all(x, lists.range(900).all(y, x + y >= 0))';
  await policy('validating', { validations: [{ expression: deep }] });
  assert.match(
    await refusal(create('a')),
    /resulted in error: operation cancelled: actual cost limit exceeded$/,
  );
});

test('deletes are seen with the old object alone', async () => {
  await create('kept', { metadata: { name: 'kept', labels: { keep: 'yes' } } });
  await policy('validating', {
    validations: [
      {
        expression: "object != null || !('keep' in oldObject.metadata.?labels.orValue({}))",
        message: 'kept',
      },
    ],
  });
  const path = '/api/v1/namespaces/default/configmaps/kept';
  assert.equal(await refusal(server.call('DELETE', path)), 'kept');
});

test('a configuration is merged as apply merges: lists by their keys', async () => {
  const expression = `Object{
    metadata: Object.metadata{labels: Object.metadata.labels{by: 'policy'}},
    spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
      containers: [Object.spec.template.spec.containers{name: 'c', imagePullPolicy: 'Always'}]
    }}}}`;
  await policy('mutating', {
    reinvocationPolicy: 'Never',
    matchConditions: [{ name: 'k', expression: "request.kind.kind == 'Deployment'" }],
    mutations: [{ patchType: 'ApplyConfiguration', applyConfiguration: { expression } }],
  });
  const { body } = await server.call('POST', '/apis/apps/v1/namespaces/default/deployments', {
    metadata: { name: 'd' },
    spec: {
      selector: { matchLabels: { a: 'b' } },
      template: {
        metadata: { labels: { a: 'b' } },
        spec: {
          containers: [
            { name: 'c', image: 'i:1' },
            { name: 'd', image: 'j:1' },
          ],
        },
      },
    },
  });
  assert.deepEqual(body['metadata']?.['labels'], { by: 'policy' });
  type Container = { name: string; image: string; imagePullPolicy: string };
  type Deployment = { spec: { template: { spec: { containers: Container[] } } } };
  const { containers } = (body as unknown as Deployment).spec.template.spec;
  assert.deepEqual(
    containers.map(({ name, image, imagePullPolicy }) => [name, image, imagePullPolicy]),
    [
      ['c', 'i:1', 'Always'],
      ['d', 'j:1', 'IfNotPresent'],
    ],
  );
});

test('atomic parts are not mutated by a configuration, wrong types are refused', async () => {
  const expression = "Object{metadata: Object.metadata{labels: Object.spec{by: 'policy'}}}";
  await policy('mutating', {
    reinvocationPolicy: 'Never',
    mutations: [{ patchType: 'ApplyConfiguration', applyConfiguration: { expression } }],
  });
  const answer = await create('a');
  assert.equal(answer.code, 403);
  assert.match(await refusal(create('a')), /^type mismatch: unexpected type name "Object.spec"/);
});

test('policies never keep their own objects from being changed', async () => {
  const everything = { apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'] };
  await policy('validating', {
    matchConstraints: { resourceRules: [everything] },
    validations: [{ expression: 'false' }],
  });
  assert.equal(
    (await server.call('POST', '/api/v1/namespaces', { metadata: { name: 'n' } })).code,
    422,
  );
  const path = `${GROUP}/validatingadmissionpolicybindings/b`;
  assert.equal((await server.call('DELETE', path)).code, 200);
});
