import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import {
  addQuantity,
  canonicalQuantity,
  compareQuantity,
  formatQuantity,
  milliQuantity,
  parseQuantity,
  quantityMilli,
  quantityValue,
  subtractQuantity,
  wholeQuantity,
} from '#api/quantity.ts';

test('canonical forms', () => {
  const table: Record<string, string> = {
    '0': '0',
    '0.5': '500m',
    '1000m': '1',
    '1500m': '1500m',
    '1.5Gi': '1536Mi',
    '1024Mi': '1Gi',
    '1000000': '1M',
    '0.5Ki': '512',
    '1e3': '1e3',
    '12E6': '12e6',
    '1E': '1E',
    '+2': '2',
    '-1.5': '-1500m',
    '.5': '500m',
    '5.': '5',
    '100000n': '100u',
    '1Ki': '1Ki',
    '1023': '1023',
    '0.0000000001': '1n',
    '1000Ki': '1000Ki',
    '9999999999999999999999': '9223372036854775807',
  };
  for (const [text, expected] of Object.entries(table)) {
    assert.equal(canonicalQuantity(text), expected, text);
  }
});

test('what is no quantity is refused in upstream words', () => {
  for (const text of ['', 'lots', '1GiB', '1 Gi', '.', '+', '1.2.3', ' 1']) {
    assert.throws(() => parseQuantity(text), /quantities must match the regular expression/, text);
  }
  for (const text of ['1kk', '1ki', '1e', '1mi', '1m3', '1e999']) {
    assert.throws(() => parseQuantity(text), /unable to parse quantity's suffix/, text);
  }
});

test('values round up, sums keep the first form', () => {
  assert.equal(quantityValue(parseQuantity('1500m')), 2);
  assert.equal(quantityMilli(parseQuantity('0.0001')), 1);
  assert.equal(quantityValue(parseQuantity('1Gi')), 1 << 30);
  const sum = addQuantity(parseQuantity('1Gi'), parseQuantity('512Mi'));
  assert.equal(formatQuantity(sum), '1536Mi');
  const none = parseQuantity('0');
  assert.equal(formatQuantity(addQuantity(none, parseQuantity('1Mi'))), '1Mi');
  assert.equal(formatQuantity(subtractQuantity(parseQuantity('1'), milliQuantity(250))), '750m');
  assert.equal(formatQuantity(wholeQuantity(2048, 'BinarySI')), '2Ki');
  assert.ok(compareQuantity(parseQuantity('1000m'), parseQuantity('1.1')) < 0);
  assert.equal(compareQuantity(parseQuantity('1Ki'), parseQuantity('1024')), 0);
});

test('canonical text means the same and is its own canonical text', () => {
  const random = seededRandom(7);
  const suffixes = ['', 'n', 'u', 'm', 'k', 'M', 'G', 'Ki', 'Mi', 'Gi', 'e3', 'e-3'];
  for (let round = 0; round < 2000; round++) {
    const number = Math.floor(random() * 1e6) / 10 ** Math.floor(random() * 4);
    const text = `${number}${suffixes[Math.floor(random() * suffixes.length)]}`;
    const printed = canonicalQuantity(text);
    assert.equal(canonicalQuantity(printed), printed, text);
    const { nano, format } = parseQuantity(text);
    const again = parseQuantity(printed).nano;
    // Binary quantities are printed in whole units.
    const exact = format === 'BinarySI' ? nano / 1_000_000_000n : nano;
    const back = format === 'BinarySI' ? again / 1_000_000_000n : again;
    assert.ok(back === exact || back === exact + 1n, `${text} -> ${printed}`);
  }
});
