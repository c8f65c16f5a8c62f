import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import type { Random } from '#base/random.ts';
import { cloneJson } from '#api/json.ts';
import { jsonPatch, mergePatch, readPatch } from '#api/patch.ts';
import { MAX_OPERATIONS } from '#api/patch-json.ts';

const target = () => ({ a: { b: ['x', 'y'], 'c/d': 1, 'e~f': 2 }, n: null });

test('JSON Patch operations', () => {
  const table: [object[], unknown][] = [
    [[{ op: 'add', path: '/a/z', value: 1 }], { ...target(), a: { ...target().a, z: 1 } }],
    [[{ op: 'add', path: '/a/b/1', value: 'n' }], { a: { b: ['x', 'n', 'y'] } }],
    [[{ op: 'add', path: '/a/b/-', value: 'n' }], { a: { b: ['x', 'y', 'n'] } }],
    [[{ op: 'remove', path: '/a/b/0' }], { a: { b: ['y'] } }],
    [[{ op: 'replace', path: '/a/b/0', value: 'r' }], { a: { b: ['r', 'y'] } }],
    [[{ op: 'replace', path: '/a/missing', value: 'r' }], { a: { missing: 'r' } }],
    [[{ op: 'remove', path: '/a/c~1d' }], { a: { 'c/d': undefined } }],
    [[{ op: 'test', path: '/a/e~0f', value: 2 }], {}],
    [[{ op: 'test', path: '/a/missing', value: null }], {}],
    [[{ op: 'move', from: '/a/b/0', path: '/m' }], { m: 'x', a: { b: ['y'] } }],
    [[{ op: 'copy', from: '/a/b', path: '/m' }], { m: ['x', 'y'] }],
    [[{ op: 'add', path: '/new' }], { new: null }],
    [[], {}],
  ];
  for (const [operations, expected] of table) {
    const before = target();
    const after = jsonPatch(before, operations) as Record<string, unknown>;
    assert.deepEqual(before, target(), 'the target stays as it was');
    const want = cloneJson(target()) as Record<string, unknown>;
    for (const [key, value] of Object.entries(expected as Record<string, unknown>)) {
      want[key] = key === 'a' ? { ...target().a, ...(value as object) } : value;
    }
    assert.equal(JSON.stringify(after), JSON.stringify(want), JSON.stringify(operations));
  }
  assert.deepEqual(jsonPatch(target(), [{ op: 'replace', path: '', value: { w: 1 } }]), { w: 1 });
});

test('JSON Patch operations that cannot be done are refused', () => {
  const table: object[] = [
    { op: 'test', path: '/a/b/0', value: 'z' },
    { op: 'remove', path: '/a/none' },
    { op: 'remove', path: '/a/b/5' },
    { op: 'add', path: '/none/x', value: 1 },
    { op: 'add', path: '/a/b/01', value: 1 },
    { op: 'add', path: '/a/b/-1', value: 1 },
    { op: 'replace', path: '/a/b/-', value: 1 },
    { op: 'replace', path: '/a/b/side/image', value: 1 },
    { op: 'copy', from: '/none', path: '/x' },
    { op: 'move', path: '/x' },
    { op: 'move', from: '/a', path: '/a/b' },
    { op: 'merge', path: '/a', value: 1 },
    { op: 'add', value: 1 },
    { op: 'add', path: 'a', value: 1 },
    { op: 'add', path: '/a/__proto__', value: {} },
    { op: 'add', path: '/a/toString/x', value: {} },
  ];
  for (const operation of table) {
    assert.throws(
      () => jsonPatch(target(), [operation]),
      { code: 422, reason: 'Invalid' },
      JSON.stringify(operation),
    );
  }
  const many = Array.from({ length: MAX_OPERATIONS + 1 }, () => ({ op: 'test', path: '/n' }));
  assert.throws(() => jsonPatch(target(), many), { code: 413 });
  const big = { a: 'x'.repeat(1024 * 1024) };
  const copies = [1, 2, 3].map((i) => ({ op: 'copy', from: '/a', path: `/${i}` }));
  assert.throws(() => jsonPatch(big, copies), { code: 422 });
});

test('patch bodies are read with the refusals clients know', () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const table: ['json' | 'merge', string, string][] = [
    [
      'json',
      '{}',
      'error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp',
    ],
    ['json', '[{', 'error decoding patch: unexpected end of JSON input'],
    ['merge', '{"a":', 'unexpected end of JSON input'],
    ['merge', '[]', 'json: cannot unmarshal array into Go value of type map[string]interface {}'],
  ];
  for (const [type, body, message] of table) {
    assert.throws(() => readPatch(type, bytes(body)), { code: 400, message });
  }
  const { duplicates } = readPatch('merge', bytes('{"a":1,"a":2}'), { findDuplicates: true });
  assert.deepEqual(duplicates, ['a']);
  const noted = readPatch('json', bytes('[{"op":"test","path":"/a","value":1,"comment":"why"}]'));
  assert.deepEqual(noted.unknown, ['unknown field "[0].comment"']);
});

test('merge patches (the examples of RFC 7386)', () => {
  const table: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [before, patch, after] of table) assert.deepEqual(mergePatch(before, patch), after);
});

function randomValue(random: Random, depth: number): unknown {
  const choice = Math.floor(random() * (depth > 0 ? 5 : 3));
  if (choice === 0) return Math.floor(random() * 3);
  if (choice === 1) return ['x', 'y', 'z'][Math.floor(random() * 3)];
  if (choice === 2) return random() < 0.5;
  const size = Math.floor(random() * 3);
  if (choice === 3) return Array.from({ length: size }, () => randomValue(random, depth - 1));
  const object: Record<string, unknown> = {};
  for (let i = 0; i < size; i++) {
    object[`m${Math.floor(random() * 4)}`] = randomValue(random, depth - 1);
  }
  return object;
}

/** The merge patch that leads from one object to another. */
function difference(from: unknown, to: unknown): unknown {
  const isMap = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isMap(from) || !isMap(to)) return to;
  const patch: Record<string, unknown> = {};
  for (const key of Object.keys(from)) if (!(key in to)) patch[key] = null;
  for (const [key, value] of Object.entries(to)) {
    if (JSON.stringify(from[key]) !== JSON.stringify(value)) {
      patch[key] = isMap(value) && !isMap(from[key]) ? value : difference(from[key], value);
    }
  }
  return patch;
}

test('a merge patch made of a difference leads from one object to the other, and is idempotent', () => {
  const random = seededRandom(11);
  for (let round = 0; round < 500; round++) {
    const from = { root: randomValue(random, 3) };
    const to = { root: randomValue(random, 3), other: randomValue(random, 2) };
    const patch = difference(from, to);
    const result = mergePatch(from, patch);
    assert.deepEqual(result, to);
    assert.deepEqual(mergePatch(result, patch), to);
  }
});
