import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  canonicalMicroTime,
  canonicalTime,
  formatAge,
  formatMicroTime,
  formatTime,
  parseDuration,
  parseTime,
} from '#api/time.ts';

test('times are canonical: UTC, seconds or microseconds', () => {
  assert.equal(canonicalTime('2024-05-01T10:00:00Z'), '2024-05-01T10:00:00Z');
  assert.equal(canonicalTime('2024-05-01T12:00:00.9+02:00'), '2024-05-01T10:00:00Z');
  assert.equal(
    canonicalMicroTime('2024-05-01T12:00:00.123456+02:00'),
    '2024-05-01T10:00:00.123456Z',
  );
  for (const [text, rest, wanted] of [
    ['2024-05-01T10:00:00Z', 'Z', '.000000'],
    ['2024-05-01T10:00:00.123Z', '.123Z', '.000000'],
    ['2024-05-01T10:00:00.1234567Z', '7Z', 'Z07:00'],
  ]) {
    assert.throws(() => canonicalMicroTime(String(text)), {
      message: `parsing time "${text}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "${rest}" as "${wanted}"`,
    });
  }
  assert.equal(formatTime(parseTime('2024-05-01T10:00:00Z')), '2024-05-01T10:00:00Z');
  assert.equal(formatMicroTime(1), '1970-01-01T00:00:00.001000Z');
  assert.equal(canonicalTime('2024-02-29T00:00:00Z'), '2024-02-29T00:00:00Z');
});

test('what is no time is refused in the words clients know', () => {
  const table: Record<string, string> = {
    yesterday:
      'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
    '2024-01-01':
      'parsing time "2024-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"',
    '2023-02-29T00:00:00Z': 'parsing time "2023-02-29T00:00:00Z": day out of range',
    '2023-02-20T25:00:00Z': 'parsing time "2023-02-20T25:00:00Z": hour out of range',
    '2023-02-20T20:00:00Zx': 'parsing time "2023-02-20T20:00:00Zx": extra text: "x"',
  };
  for (const [text, message] of Object.entries(table)) {
    assert.throws(() => canonicalTime(text), { message });
  }
});

test('durations and ages', () => {
  assert.equal(parseDuration('1h30m'), 5_400_000);
  assert.equal(parseDuration('-1.5s'), -1500);
  assert.equal(parseDuration('0'), 0);
  assert.equal(parseDuration('5'), undefined);
  assert.equal(parseDuration('m'), undefined);
  const ages: [number, string][] = [
    [5, '5s'],
    [119, '119s'],
    [200, '3m20s'],
    [3600, '60m'],
    [4 * 3600, '4h'],
    [4 * 3600 + 120, '4h2m'],
    [47 * 3600, '47h'],
    [75 * 3600, '3d3h'],
    [400 * 86400, '400d'],
    [800 * 86400, '2y70d'],
  ];
  for (const [seconds, text] of ages) assert.equal(formatAge(seconds * 1000), text);
});
