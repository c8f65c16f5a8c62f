import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseYaml, yamlToJson } from '#api/yaml.ts';

const TEXT = `# a comment
apiVersion: v1
kind: Pod
spec:
  containers:
    - name: c
      image: x
    - {name: d, imag: y}
---
kind: Service
spec: {a: 1, a: 2}
`;

test('documents come with the places of their members', () => {
  const [pod, service] = parseYaml(TEXT, { source: 'a.yaml' });
  assert.equal(pod?.line, 2);
  assert.deepEqual(pod?.positionOf(['spec', 'containers', 0, 'image']), { line: 7, column: 7 });
  assert.deepEqual(pod?.positionOf(['spec', 'containers', 1, 'imag']), { line: 8, column: 17 });
  assert.deepEqual(pod?.positionOf(['spec', 'containers', 1]), { line: 8, column: 7 });
  assert.equal(pod?.positionOf(['spec', 'none']), undefined);
  assert.equal(service?.line, 10);
  assert.deepEqual(service?.duplicates, [{ path: 'spec.a', line: 11, column: 14 }]);
  assert.deepEqual(service?.value, { kind: 'Service', spec: { a: 2 } });
});

const deepA = (value: unknown): unknown => (value as { a: unknown } | undefined)?.a;

test('values are read as upstream reads them', () => {
  const value = (text: string): unknown => deepA(parseYaml(text)[0]?.value);
  assert.equal(value('a: yes'), true);
  assert.equal(value('a: "yes"'), 'yes');
  assert.equal(value('a: 2024-01-01'), '2024-01-01');
  assert.equal(value('a: 2024-01-01T00:00:00Z'), '2024-01-01T00:00:00Z');
  assert.equal(value('a: 12:30'), '12:30');
  assert.equal(value('a: 0755'), 493);
  assert.equal(value('a: ~'), null);
  assert.deepEqual(parseYaml('a: &x {b: 1}\nc: {<<: *x, d: 2}')[0]?.value, {
    a: { b: 1 },
    c: { b: 1, d: 2 },
  });
});

test('what cannot be read names its place', () => {
  assert.throws(() => parseYaml('a: 1\nb: [1\nc: 2', { source: 'f.yaml' }), {
    code: 400,
    message: /^f\.yaml:3:\d+: /,
  });
  assert.throws(() => parseYaml('metadata:\n\tname: a'), { code: 400, message: /^yaml:2:1: / });
  assert.throws(() => parseYaml('metadata:\n  name: a\n name: b\n'), { code: 400 });
});

test('bombs are refused', () => {
  const lines = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 9; i++) {
    lines.push(`a${i}: &a${i} [${Array.from({ length: 10 }, () => `*a${i - 1}`).join(',')}]`);
  }
  assert.throws(() => parseYaml(lines.join('\n')), { code: 400, message: /alias/ });
  assert.throws(() => parseYaml(`a: ${'['.repeat(1500)}${']'.repeat(1500)}`), { code: 400 });
  assert.throws(() => parseYaml('a: {__proto__: {x: 1}}'), { code: 400, message: /__proto__/ });
});

test('a body is its first document', () => {
  assert.deepEqual(yamlToJson('metadata: {name: a}\n---\nmetadata: {name: b}\n').value, {
    metadata: { name: 'a' },
  });
  assert.equal(yamlToJson('').value, null);
  assert.deepEqual(yamlToJson('a: 1\na: 2', { findDuplicates: true }).duplicates, ['a']);
  assert.throws(() => yamlToJson('a: [', { kind: 'Pod' }), {
    code: 400,
    message: /^the object provided is unrecognized \(must be of type Pod\): /,
  });
});

test('a merge of what is no map is refused, not a failure of the reader', () => {
  assert.throws(() => parseYaml('<<: *nothing\na: b\n'), { code: 400 });
  assert.throws(() => parseYaml('<<: [1]\na: b\n'), { code: 400 });
  assert.deepEqual(parseYaml('a: "\\ud800"')[0]?.value, { a: '\ufffd' });
});
