import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeObject } from '#api/encode.ts';
import { cloneJson, equalJson, parseJson } from '#api/json.ts';
import { MAX_DEPTH, scanJson } from '#api/json-scan.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('reads bytes and text; the last of two keys wins', () => {
  assert.deepEqual(parseJson(bytes('{"a":"ü"}')), { value: { a: 'ü' }, duplicates: [] });
  assert.deepEqual(parseJson('{"a":1,"a":2}'), { value: { a: 2 }, duplicates: [] });
});

test('duplicate keys are reported with their paths', () => {
  const text = String.raw`{"spec":{"replicas":1,"replicas":2,"c":[{},{"a":1,"\u0061":2}]},"spec":0}`;
  const { duplicates } = parseJson(text, { findDuplicates: true });
  assert.deepEqual(duplicates, ['spec.replicas', 'spec.c[1].a', 'spec']);
});

test('broken text is explained in the words clients know', () => {
  const table: Record<string, string> = {
    '': 'unexpected end of JSON input',
    '{': 'unexpected end of JSON input',
    '{"a":1,}': "invalid character '}' looking for beginning of object key string",
    'not json': "invalid character 'o' in literal null (expecting 'u')",
    '{"a" 1}': "invalid character '1' after object key",
    '{"a":1 "b"}': `invalid character '"' after object key:value pair`,
    '[1 2]': "invalid character '2' after array element",
    '{} x': "invalid character 'x' after top-level value",
    '[01]': "invalid character '1' after array element",
    '[-a]': "invalid character 'a' in numeric literal",
    '[1.]': "invalid character ']' after decimal point in numeric literal",
    '["\n"]': String.raw`invalid character '\n' in string literal`,
    [String.raw`["\x"]`]: "invalid character 'x' in string escape code",
    '{a:1}': "invalid character 'a' looking for beginning of object key string",
    "['a']": String.raw`invalid character '\'' looking for beginning of value`,
  };
  for (const [text, error] of Object.entries(table)) {
    assert.deepEqual(scanJson(text), { error }, text);
    assert.throws(() => JSON.parse(text), text);
  }
});

test('a broken body becomes a 400 that quotes its start', () => {
  const refuse = (body: string, message: string): void =>
    assert.throws(() => parseJson(body, { kind: 'ConfigMap' }), {
      code: 400,
      message: `the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: ${message}`,
    });
  refuse('', 'unexpected end of JSON input (<empty>)');
  refuse('{', 'unexpected end of JSON input ({)');
  refuse('not json', "invalid character 'o' in literal null (expecting 'u') (6e6f74206a736f6e)");
  refuse(
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"',
    'unexpected end of JSON input ({"apiVersion":"v1","kind":"Con ...)',
  );
});

test('bodies cannot exhaust the stack or reach prototypes', () => {
  const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
  assert.throws(() => parseJson(deep(MAX_DEPTH + 1)), /exceeded max depth/);
  assert.ok(parseJson(deep(MAX_DEPTH)).value);
  const wide = `["${'['.repeat(5000)}"]`;
  assert.ok(parseJson(wide).value);
  assert.throws(() => parseJson('{"a":[{"__proto__":{"x":1}}]}'), /__proto__/);
  assert.throws(() => parseJson(String.raw`{"\u005f_proto__":{"x":1}}`), /__proto__/);
  assert.ok(parseJson('{"a":"__proto__"}').value);
});

test('objects are written with their names first', () => {
  const text = (object: Record<string, unknown>): string =>
    Buffer.from(encodeObject(object)).toString();
  assert.equal(
    text({ spec: {}, kind: 'Pod', metadata: { name: 'a' }, apiVersion: 'v1' }),
    '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}}',
  );
  assert.equal(text({ b: 1, metadata: {} }), '{"metadata":{},"b":1}');
});

test('clones and comparisons are deep', () => {
  const value = { a: [1, { b: null }], c: 'x' };
  const copy = cloneJson(value);
  assert.deepEqual(copy, value);
  assert.notEqual(copy.a[1], value.a[1]);
  assert.ok(equalJson(value, { c: 'x', a: [1, { b: null }], d: undefined }));
  assert.ok(!equalJson(value, { c: 'x', a: [1, { b: 0 }] }));
  assert.ok(!equalJson({ a: 1 }, { a: 1, b: 2 }));
  assert.ok(!equalJson({ a: 1, b: 2 }, { a: 1 }));
  assert.ok(!equalJson([], {}));
  assert.ok(!equalJson([1], [1, 2]));
});

test('halves of surrogate pairs are replaced, as nothing can store them', () => {
  assert.deepEqual(parseJson('{"a":"\\ud800","\\udfff":["\\ud83d\\ude00"]}').value, {
    a: '\ufffd',
    '\ufffd': ['\u{1f600}'],
  });
});
