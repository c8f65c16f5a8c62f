import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProtobufError } from '#proto/kubernetes-messages.ts';
import { decodeMessage, readEnvelope } from '#proto/kubernetes.ts';

/** A few bytes by hand: field number, wire type, content. */
const varint = (value: number): number[] =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
const part = (field: number, content: readonly number[]): number[] => [
  ...varint((field << 3) | 2),
  ...varint(content.length),
  ...content,
];
const text = (field: number, value: string): number[] => part(field, [...Buffer.from(value)]);
const number = (field: number, value: number): number[] => [
  ...varint(field << 3),
  ...varint(value),
];
const entry = (field: number, key: string, value: number[]): number[] =>
  part(field, [...text(1, key), ...value]);

const POD = 'core.v1.Pod';

test('an envelope says what it holds', () => {
  const body = Buffer.from([
    ...Buffer.from('k8s\0'),
    ...part(1, [...text(1, 'v1'), ...text(2, 'Pod')]),
    ...part(2, [1, 2, 3]),
    ...text(4, 'application/x'),
  ]);
  const { apiVersion, kind, raw } = readEnvelope(body);
  assert.deepEqual([apiVersion, kind, [...raw]], ['v1', 'Pod', [1, 2, 3]]);
  assert.throws(() => readEnvelope(Buffer.from('{"kind":"Pod"}')), ProtobufError);
});

test('fields, lists, maps, times, quantities and embedded messages become JSON', () => {
  const meta = [
    ...text(1, 'p'),
    ...part(8, number(1, 1_700_000_000)),
    ...entry(11, 'app', text(2, 'web')),
    ...entry(11, 'empty', []),
    ...text(14, 'a'),
    ...text(14, 'b'),
  ];
  const quantity = part(2, text(1, '100m'));
  const port = part(6, [...number(3, 8080), ...text(4, 'TCP')]);
  const container = [
    ...text(1, 'c'),
    ...port,
    ...part(8, entry(2, 'cpu', quantity)),
    ...part(
      10,
      part(1, part(2, [...text(1, '/'), ...part(2, [...number(1, 1), ...text(3, 'http')])])),
    ),
  ];
  const volume = [...text(1, 'v'), ...part(2, part(19, part(1, text(1, 'settings'))))];
  const spec = [...part(1, volume), ...part(2, container), ...number(4, 30)];
  const pod = Buffer.from([...part(1, meta), ...part(2, spec), ...text(99, 'unknown')]);
  const json = decodeMessage(pod, POD) as {
    metadata: object;
    spec: {
      containers: [{ livenessProbe: object; ports: object; resources: object }];
      volumes: object;
    };
  };
  assert.deepEqual(json.metadata, {
    name: 'p',
    creationTimestamp: '2023-11-14T22:13:20Z',
    labels: { app: 'web', empty: '' },
    finalizers: ['a', 'b'],
  });
  assert.deepEqual(json.spec.containers[0].ports, [{ containerPort: 8080, protocol: 'TCP' }]);
  assert.deepEqual(json.spec.containers[0].resources, { requests: { cpu: '100m' } });
  assert.deepEqual(json.spec.containers[0].livenessProbe, { httpGet: { path: '/', port: 'http' } });
  assert.deepEqual(json.spec.volumes, [{ name: 'v', configMap: { name: 'settings' } }]);
});

test('what is cut off or lies about its length is refused', () => {
  const whole = Buffer.from(part(1, text(1, 'name')));
  for (let end = 1; end < whole.length; end++) {
    assert.throws(() => decodeMessage(whole.subarray(0, end), POD), ProtobufError, `cut at ${end}`);
  }
  assert.throws(() => decodeMessage(Buffer.from(number(1, 5)), POD), ProtobufError);
  assert.throws(() => decodeMessage(Buffer.from([]), 'core.v1.Nothing'), ProtobufError);
  let deep = text(1, 'x');
  for (let i = 0; i < 100; i++) deep = part(5, deep);
  assert.doesNotThrow(() => decodeMessage(Buffer.from(deep), POD));
});
