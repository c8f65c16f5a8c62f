import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apiVersionOf } from '#api/kind.ts';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme } from '#api/scheme.ts';
import type { Schema } from '#api/schema.ts';
import type { Random } from '#base/random.ts';
import { randomInt, seededRandom } from '#base/random.ts';
import {
  encodeBody,
  encodeMessage,
  envelope,
  joinMessages,
  watchFrame,
} from '#proto/kubernetes-encode.ts';
import {
  ProtobufError,
  messageNameOf,
  messageNames,
  messageOf,
} from '#proto/kubernetes-messages.ts';
import { decodeMessage, readEnvelope } from '#proto/kubernetes.ts';

const scheme = buildScheme(builtinKinds);
const pick = <T>(random: Random, values: readonly T[]): T =>
  values[randomInt(random, values.length)] as T;

/** Types that are not what their schema says, or that JSON and protobuf write differently. */
const SPECIAL: Readonly<Record<string, (random: Random) => unknown>> = {
  Time: (random) => `20${10 + randomInt(random, 89)}-0${1 + randomInt(random, 9)}-11T22:13:20Z`,
  MicroTime: (random) => `2024-11-14T22:13:20.${100_000 + randomInt(random, 900_000)}Z`,
  Quantity: (random) => pick(random, ['100m', '1Gi', '0', '2', '1e3', '15k']),
  IntOrString: (random) => pick<unknown>(random, [80, 0, -1, 'http', '25%']),
  RawExtension: () => ({ spec: { template: { $patch: 'replace' } } }),
  FieldsV1: () => ({ 'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } } }),
  JSON: (random) => pick<unknown>(random, [1, 'x', { a: [1] }, [true]]),
  JSONSchemaPropsOrBool: (random) => pick<unknown>(random, [true, false, { type: 'string' }]),
  JSONSchemaPropsOrArray: (random) =>
    pick<unknown>(random, [{ type: 'string' }, [{ type: 'string' }, { type: 'integer' }]]),
  JSONSchemaPropsOrStringArray: (random) => pick<unknown>(random, [{ type: 'string' }, ['a', 'b']]),
};

function generate(random: Random, schema: Schema, depth: number): unknown {
  if (schema.ref !== undefined) {
    const special = SPECIAL[schema.ref.slice(schema.ref.lastIndexOf('.') + 1)];
    if (special) return special(random);
    const definition = scheme.definitions.get(schema.ref);
    assert.ok(definition, schema.ref);
    return generate(random, definition, depth);
  }
  switch (schema.type) {
    case 'boolean':
      return true;
    case 'integer':
      return pick(random, [1, 127, 128, 300, 2 ** 31 - 1, -5]);
    case 'number':
      return pick(random, [0.5, 1, -1e9]);
    case 'array':
      return Array.from({ length: 1 + randomInt(random, 2) }, () =>
        generate(random, schema.items ?? {}, depth + 1),
      );
    case 'object': {
      if (typeof schema.additionalProperties === 'object') {
        const value = schema.additionalProperties;
        const names = ['a', '__proto__', 'constructor', 'ключ'].filter(() => random() < 0.5);
        return Object.fromEntries(
          ['z', ...names].map((name) => [name, generate(random, value, depth + 1)]),
        );
      }
      const likely = 1.2 / (depth + 1);
      return Object.fromEntries(
        Object.entries(schema.properties ?? {})
          .filter(([name]) => name !== 'apiVersion' && name !== 'kind' && random() < likely)
          .map(([name, value]) => [name, generate(random, value, depth + 1)]),
      );
    }
    default:
      if (schema.format === 'byte') return pick(random, ['AAEC', 'aGVsbG8=']);
      return pick(random, ['x', 'längere Zeichen 🎈', 'y'.repeat(200)]);
  }
}

const named = builtinKinds.flatMap((kind) => {
  const name = messageNameOf(apiVersionOf(kind), kind.kind);
  return name === undefined ? [] : [{ kind, name }];
});

test('generated objects of all kinds come back as they were', () => {
  assert.ok(named.length > 50);
  for (const [seed, { kind, name }] of named.entries()) {
    const random = seededRandom(seed + 1);
    const schema = scheme.schemaOf(kind);
    for (let run = 0; run < 30; run++) {
      const object = generate(random, schema, 0) as Record<string, unknown>;
      const bytes = encodeMessage(object, name);
      assert.deepEqual(decodeMessage(bytes, name), object, `${name}, run ${run}`);
    }
  }
});

test("every field of a type's schema is in its message", () => {
  const definitions = [...scheme.definitions].map(([name, schema]) => {
    const [, home, version, kind] =
      /(?:^|\.)([a-z0-9]+)\.(v\d\w*)\.(\w+)$/.exec(name) ?? ([] as string[]);
    return { short: `${home}.${version}.${kind}`, schema };
  });
  const fieldsOf = (name: string): string[] =>
    [...messageOf(name).byNumber.values()].flatMap((field) =>
      field.shape === 'embedded' ? fieldsOf(field.type) : [field.name],
    );
  const known = new Set(messageNames());
  const wrong: string[] = [];
  let compared = 0;
  for (const { short, schema } of definitions) {
    const last = short.slice(short.lastIndexOf('.') + 1);
    if (!known.has(short) || !schema.properties || SPECIAL[last]) continue;
    compared++;
    const fields = new Set(fieldsOf(short));
    for (const property of Object.keys(schema.properties)) {
      if (fields.has(property) || property === 'apiVersion' || property === 'kind') continue;
      wrong.push(`${short}.${property}`);
    }
  }
  assert.ok(compared > 300);
  assert.deepEqual(wrong, []);
});

test('what is given stays given: zeros behind pointers, empty objects; null is nothing', () => {
  const pod = {
    metadata: { name: 'p', deletionGracePeriodSeconds: 0 },
    spec: {
      containers: [{ name: 'c', securityContext: {}, resources: {} }],
      volumes: [{ name: 'v', emptyDir: {} }],
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
    },
  };
  assert.deepEqual(decodeMessage(encodeMessage(pod, 'core.v1.Pod'), 'core.v1.Pod'), pod);
  const deployment = { spec: { replicas: 0, template: { metadata: { creationTimestamp: null } } } };
  assert.deepEqual(
    decodeMessage(encodeMessage(deployment, 'apps.v1.Deployment'), 'apps.v1.Deployment'),
    { spec: { replicas: 0, template: { metadata: {} } } },
  );
  const claim = { spec: { storageClassName: '' } };
  const name = 'core.v1.PersistentVolumeClaim';
  assert.deepEqual(decodeMessage(encodeMessage(claim, name), name), claim);
});

test('what Go writes for zero values is not taken for something given', () => {
  // An ObjectMeta with only a name, as the original's encoder writes it.
  const hex = '0a01701200' + '1a00' + '2200' + '2a00' + '3200' + '3800' + '4200';
  const raw = Buffer.concat([Buffer.from([0x0a, hex.length / 2]), Buffer.from(hex, 'hex')]);
  assert.deepEqual(decodeMessage(raw, 'core.v1.ConfigMap'), { metadata: { name: 'p' } });
});

test('bytes are those of the original encoder', () => {
  const object = { metadata: { name: 'p' }, data: { b: '2', a: '1' }, immutable: true };
  assert.equal(
    encodeMessage(object, 'core.v1.ConfigMap').toString('hex'),
    '0a030a0170' + '12060a01611201' + '31' + '12060a01621201' + '32' + '2001',
  );
  const time = { metadata: { creationTimestamp: '2023-11-14T22:13:20Z' } };
  assert.equal(
    encodeMessage(time, 'core.v1.ConfigMap').toString('hex'),
    '0a0a' + '4208' + '0880e2cfaa06' + '1000',
  );
  assert.equal(
    envelope('v1', 'Pod', Buffer.from([1, 2])).toString('hex'),
    '6b387300' + '0a090a0276311203506f64' + '12020102' + '1a00' + '2200',
  );
});

test('bodies, lists and watch frames', () => {
  const status = { apiVersion: 'v1', kind: 'Status', status: 'Failure', code: 404 };
  const body = readEnvelope(encodeBody(status) ?? Buffer.alloc(0));
  assert.deepEqual([body.apiVersion, body.kind], ['v1', 'Status']);
  assert.deepEqual(decodeMessage(body.raw, 'meta.v1.Status'), { status: 'Failure', code: 404 });
  assert.equal(encodeBody({ apiVersion: 'example.com/v1', kind: 'Widget' }), undefined);
  assert.equal(encodeBody({ apiVersion: 'meta.k8s.io/v1', kind: 'Table' }), undefined);

  const items = ['a', 'b'.repeat(300)].map((name) => ({ metadata: { name } }));
  const raws = items.map((item) => encodeMessage(item, 'core.v1.Pod'));
  const metadata = { resourceVersion: '7' };
  const list = joinMessages(metadata, raws, 'core.v1.PodList');
  assert.deepEqual(decodeMessage(list, 'core.v1.PodList'), { metadata, items });

  const frame = watchFrame('ADDED', envelope('v1', 'Pod', raws[1] ?? Buffer.alloc(0)));
  assert.equal(frame.readUInt32BE(0), frame.length - 4);
  // The object in the event is a whole body of its own.
  const at = frame.indexOf('k8s\0', 0, 'latin1');
  assert.deepEqual(decodeMessage(readEnvelope(frame.subarray(at)).raw, 'core.v1.Pod'), items[1]);
});

test('an object that does not fit its message is refused, and the next one is not harmed', () => {
  assert.throws(() => encodeMessage({ data: { a: 1 } }, 'core.v1.ConfigMap'), ProtobufError);
  assert.throws(() => encodeMessage({ metadata: 'x' }, 'core.v1.ConfigMap'), ProtobufError);
  assert.equal(encodeMessage({ immutable: false }, 'core.v1.ConfigMap').toString('hex'), '2000');
});

test('a large object makes the buffer grow', () => {
  const data = Object.fromEntries(
    Array.from({ length: 400 }, (_, i) => [`key-${String(i).padStart(4, '0')}`, 'z'.repeat(5_000)]),
  );
  const bytes = encodeMessage({ data }, 'core.v1.ConfigMap');
  assert.ok(bytes.length > 2_000_000);
  assert.deepEqual(decodeMessage(bytes, 'core.v1.ConfigMap'), { data });
});
