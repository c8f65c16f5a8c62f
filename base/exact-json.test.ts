import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exactInteger, parseExact } from '#base/exact-json.ts';

test('integers of 64 bits survive, whatever their size', () => {
  const text =
    '{"a":9007199254740993,"b":[-9223372036854775808,9223372036854775807],"c":1,"d":"9007199254740993"}';
  assert.equal(JSON.stringify(parseExact(text)), text);
  const value = parseExact(text) as { a: unknown; c: unknown };
  assert.equal(value.a, 9007199254740993n);
  assert.equal(value.c, 1);
});

test('what is no 64-bit integer is a number', () => {
  for (const text of [
    '9223372036854775808',
    '1e21',
    '100000000000000000000',
    '9007199254740992.0',
  ]) {
    assert.equal(typeof parseExact(text), 'number', text);
  }
  assert.equal(exactInteger(5n), 5);
});
