import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  candidates,
  canonicalAddress,
  formatAddress,
  parseAddressRange,
  parsePortRange,
} from '#apiserver/resource/address-range.ts';
import { seededRandom } from '#base/random.ts';

const RANGES = [
  // cidr, canonical, first, last, first of the dynamic band
  ['10.96.0.0/16', '10.96.0.0/16', '10.96.0.1', '10.96.255.254', '10.96.1.1'],
  ['10.0.0.77/24', '10.0.0.0/24', '10.0.0.1', '10.0.0.254', '10.0.0.17'],
  ['10.0.0.0/28', '10.0.0.0/28', '10.0.0.1', '10.0.0.14', '10.0.0.1'],
  ['fd00::/108', 'fd00::/108', 'fd00::1', 'fd00::f:ffff', 'fd00::101'],
  [
    'fd00:0:0:1::/64',
    'fd00:0:0:1::/64',
    'fd00:0:0:1::1',
    'fd00::1:ffff:ffff:ffff:ffff',
    'fd00:0:0:1::101',
  ],
] as const;

for (const [text, cidr, first, last, dynamic] of RANGES) {
  test(`the range ${text}`, () => {
    const range = parseAddressRange(text);
    const format = (number: bigint) => formatAddress(number, range.family);
    assert.deepEqual(
      [range.cidr, format(range.first), format(range.last), format(range.dynamic.first)],
      [cidr, first, last, dynamic],
    );
  });
}

for (const text of [
  '',
  '10.0.0.0',
  '10.0.0.0/33',
  '10.0.0.0/32',
  'fd00::/48',
  'a/8',
  '10.0.0.0/-1',
]) {
  test(`"${text}" is no range of addresses`, () => {
    assert.throws(() => parseAddressRange(text), RangeError);
  });
}

test('the default node ports', () => {
  const range = parsePortRange('30000-32767');
  assert.deepEqual(range.reserved, { first: 30_000n, last: 30_085n });
  assert.deepEqual(range.dynamic, { first: 30_086n, last: 32_767n });
});

for (const text of ['', '30000', '30000-29999', '0-10', '1-70000', '1-2-3']) {
  test(`"${text}" is no range of ports`, () => {
    assert.throws(() => parsePortRange(text), RangeError);
  });
}

test('candidates are every number once, those of the dynamic band first', () => {
  const range = parsePortRange('1000-1099');
  for (const seed of [1, 2, 3]) {
    const all = [...candidates(range, seededRandom(seed))].map(Number);
    assert.equal(new Set(all).size, 100);
    assert.ok(all.slice(0, 84).every((port) => port >= 1016));
    assert.ok(all.slice(84).every((port) => port < 1016));
  }
  assert.notEqual(
    candidates(range, seededRandom(1)).next().value,
    candidates(range, seededRandom(2)).next().value,
  );
});

test('one address has one text', () => {
  assert.equal(canonicalAddress('FD00:0::0001'), 'fd00::1');
  assert.equal(canonicalAddress('10.0.0.1'), '10.0.0.1');
});
