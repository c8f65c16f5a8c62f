import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertKey, prefixEnd } from '#apiserver/store/key-range.ts';

const ENDS = [
  ['a', 'b'],
  ['/registry/pods/', '/registry/pods0'],
  ['\u007f', '\u0080'],
  ['x\ud7ff', 'x\ue000'],
  ['x\uffff', 'x\u{10000}'],
  ['x\u{10ffff}', 'y'],
  ['\u{10ffff}', null],
  ['', null],
] as const;

for (const [prefix, end] of ENDS) {
  test(`keys that begin with ${JSON.stringify(prefix)} end before ${JSON.stringify(end)}`, () => {
    assert.equal(prefixEnd(prefix), end);
    if (end === null) return;
    assert.ok(Buffer.compare(Buffer.from(`${prefix}\u{10ffff}`), Buffer.from(end)) < 0);
  });
}

for (const key of ['', 'a\0b', '\ud800']) {
  test(`${JSON.stringify(key)} is no key`, () => {
    assert.throws(() => assertKey(key));
  });
}
