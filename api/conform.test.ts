import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conform } from '#api/conform.ts';
import type { Kind } from '#api/kind.ts';
import { buildScheme } from '#api/scheme.ts';
import type { FieldRules } from '#api/schema.ts';

const fieldRules: FieldRules[] = [
  {
    'V1Pod.metadata': { default: {} },
    'V1Pod.spec': { default: {} },
    'V1Pod.status': { default: {} },
    'V1Container.resources': { default: {} },
    'V1Container.name': { default: '' },
    'V1ContainerPort.protocol': { default: 'TCP' },
    'V1Service.spec': { default: {} },
    'V1Service.status': { default: {} },
    'V1ServiceStatus.loadBalancer': { default: {} },
  },
];
const kindOf = (kind: string, schema: string, group = ''): Kind => ({
  group,
  version: 'v1',
  kind,
  plural: `${kind.toLowerCase()}s`,
  singular: kind.toLowerCase(),
  scope: 'Namespaced',
  schema,
  fieldRules,
});
const kinds = {
  pod: kindOf('Pod', 'V1Pod'),
  service: kindOf('Service', 'V1Service'),
  secret: kindOf('Secret', 'V1Secret'),
  config: kindOf('ConfigMap', 'V1ConfigMap'),
  lease: kindOf('Lease', 'V1Lease', 'coordination.k8s.io'),
  revision: kindOf('ControllerRevision', 'V1ControllerRevision', 'apps'),
  deployment: kindOf('Deployment', 'V1Deployment', 'apps'),
};
const scheme = buildScheme(Object.values(kinds));

function run(kind: Kind, object: unknown, options = {}) {
  return conform(object, scheme.schemaOf(kind), scheme.definitions, options);
}
const firstError = (kind: Kind, object: unknown): string | undefined =>
  run(kind, object).typeErrors[0];

test('unknown fields are named with their path, in order, and removed', () => {
  const object = {
    spec: {
      template: {
        spec: {
          containers: [
            { name: 'c', imagePulPolicy: 'Always' },
            { name: 'd', ports: [{ port: 80 }] },
          ],
        },
      },
      replica: 1,
    },
    metadata: { lables: {} },
  };
  const { unknown, typeErrors } = run(kinds.deployment, object);
  assert.deepEqual(typeErrors, []);
  assert.deepEqual(unknown, [
    'unknown field "spec.template.spec.containers[0].imagePulPolicy"',
    'unknown field "spec.template.spec.containers[1].ports[0].port"',
    'unknown field "spec.replica"',
    'unknown field "metadata.lables"',
  ]);
  assert.ok(!JSON.stringify(object).includes('imagePulPolicy'));
  assert.deepEqual(object.metadata, {});
});

test('names from the prototype are no fields', () => {
  const object = { spec: { containers: [{ name: 'c', toString: 'x', constructor: 1 }] } };
  assert.deepEqual(run(kinds.pod, object).unknown, [
    'unknown field "spec.containers[0].toString"',
    'unknown field "spec.containers[0].constructor"',
  ]);
});

test('mismatched types are told as upstream tells them', () => {
  const port = (value: object) => ({ spec: { ports: [{ port: 80, ...value }] } });
  const table: [Kind, unknown, string][] = [
    [
      kinds.service,
      port({ port: '80' }),
      'json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32',
    ],
    [
      kinds.service,
      port({ targetPort: 1.5 }),
      'json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.targetPort of type int32',
    ],
    [
      kinds.service,
      port({ targetPort: true }),
      'json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32',
    ],
    [
      kinds.config,
      { data: { k: 1 } },
      'json: cannot unmarshal number into Go struct field ConfigMap.data of type string',
    ],
    [
      kinds.pod,
      { spec: { terminationGracePeriodSeconds: 'x' } },
      'json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64',
    ],
    [
      kinds.pod,
      { spec: { containers: {} } },
      'json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container',
    ],
    [
      kinds.service,
      port({ port: 2 ** 31 }),
      'json: cannot unmarshal number 2147483648 into Go struct field ServicePort.spec.ports.port of type int32',
    ],
    [kinds.pod, [], 'json: cannot unmarshal array into Go value of type v1.Pod'],
  ];
  for (const [kind, object, message] of table) assert.equal(firstError(kind, object), message);
});

test('special values are refused with their own messages', () => {
  const pod = (cpu: unknown) => ({
    spec: { containers: [{ name: 'c', resources: { limits: { cpu } } }] },
  });
  assert.match(firstError(kinds.pod, pod('lots')) ?? '', /^quantities must match/);
  assert.match(firstError(kinds.pod, pod([])) ?? '', /^quantities must match/);
  const secret = (value: string) => firstError(kinds.secret, { data: { k: value } });
  assert.equal(secret('not base64!'), 'illegal base64 data at input byte 3');
  assert.equal(secret('***'), 'illegal base64 data at input byte 0');
  assert.equal(secret('YQ=='), undefined);
  assert.equal(secret('YQ'), 'illegal base64 data at input byte 0');
  assert.match(
    firstError(kinds.lease, { spec: { renewTime: '2024-01-01' } }) ?? '',
    /cannot parse "" as "T"$/,
  );
});

test('values take their canonical form', () => {
  const object = {
    metadata: { creationTimestamp: '2024-05-01T12:00:00.5+02:00' },
    spec: { containers: [{ name: 'c', resources: { limits: { cpu: 0.5, memory: '1024Mi' } } }] },
  };
  assert.deepEqual(run(kinds.pod, object), { unknown: [], typeErrors: [] });
  assert.deepEqual(object.spec.containers[0]?.resources.limits, { cpu: '500m', memory: '1Gi' });
  assert.equal(object.metadata.creationTimestamp, '2024-05-01T10:00:00Z');
  const lease = { spec: { renewTime: '2024-05-01T12:00:00.000000+02:00' } };
  run(kinds.lease, lease);
  assert.equal(lease.spec.renewTime, '2024-05-01T10:00:00.000000Z');
});

test('nulls and empty optional members count as left out', () => {
  const object = {
    metadata: { name: 'a', labels: null, annotations: {}, finalizers: [], namespace: '' },
    spec: {
      hostNetwork: false,
      automountServiceAccountToken: false,
      nodeSelector: {},
      securityContext: {},
      volumes: [{ name: 'v', emptyDir: {} }],
      containers: [{ name: 'c', env: [{ name: 'E', value: '' }], command: null, args: [null] }],
      terminationGracePeriodSeconds: 0,
    },
    status: null,
  };
  assert.deepEqual(run(kinds.pod, object), { unknown: [], typeErrors: [] });
  assert.deepEqual(object, {
    metadata: { name: 'a' },
    spec: {
      automountServiceAccountToken: false,
      securityContext: {},
      volumes: [{ name: 'v', emptyDir: {} }],
      containers: [{ name: 'c', env: [{ name: 'E' }], args: [''], resources: {} }],
      terminationGracePeriodSeconds: 0,
    },
    status: {},
  });
  const config = { metadata: {}, data: { k: null, e: '' }, binaryData: {}, immutable: false };
  run(kinds.config, config);
  assert.deepEqual(config, { metadata: {}, data: { k: '', e: '' }, immutable: false });
});

test('members that are always written appear, with what is inside them', () => {
  const service = {};
  run(kinds.service, service);
  assert.deepEqual(service, { spec: {}, status: { loadBalancer: {} } });
  const pod = { spec: { containers: [{ ports: [{ containerPort: 80 }] }] } };
  run(kinds.pod, pod);
  assert.deepEqual(pod.spec.containers, [
    { ports: [{ containerPort: 80, protocol: 'TCP' }], resources: {}, name: '' },
  ]);
});

test('free objects are kept as they are', () => {
  const object = { data: { any: { thing: [null, ''] } }, revision: 1 };
  assert.deepEqual(run(kinds.revision, object), { unknown: [], typeErrors: [] });
  assert.deepEqual(object, { data: { any: { thing: [null, ''] } }, revision: 1 });
});

test('without normalizing nothing but unknown fields is touched', () => {
  const object = { metadata: { labels: null }, spec: { hostNetwork: false, containers: [] }, x: 1 };
  const { unknown } = run(kinds.pod, object, { normalize: false });
  assert.deepEqual(unknown, ['unknown field "x"']);
  assert.deepEqual(object, {
    metadata: { labels: null },
    spec: { hostNetwork: false, containers: [] },
  });
  const kept = { x: 1 };
  run(kinds.pod, kept, { normalize: false, prune: false });
  assert.deepEqual(kept, { x: 1 });
});

test('schemas of custom resources prune by their own rules', () => {
  const schema = {
    type: 'object' as const,
    properties: {
      metadata: { ref: 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' },
      spec: {
        type: 'object' as const,
        properties: {
          free: { type: 'object' as const, 'x-kubernetes-preserve-unknown-fields': true },
          port: { 'x-kubernetes-int-or-string': true },
          size: { type: 'integer' as const, default: 3 },
          labels: { type: 'object' as const, additionalProperties: { type: 'string' as const } },
        },
      },
    },
  };
  const object = { metadata: {}, spec: { free: { a: 1 }, port: '80', other: 1, labels: {} } };
  const { unknown } = conform(object, schema, scheme.definitions);
  assert.deepEqual(unknown, ['unknown field "spec.other"']);
  assert.deepEqual(object, {
    metadata: {},
    spec: { free: { a: 1 }, port: '80', labels: {}, size: 3 },
  });
});
