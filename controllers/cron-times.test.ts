import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCronSchedule } from '#api/batch/cron-schedule.ts';
import { lastDue, nextTime, zoneOffset } from '#controllers/cron-times.ts';

function schedule(text: string) {
  const parsed = parseCronSchedule(text);
  assert.ok(parsed.ok);
  return parsed.schedule;
}

function next(text: string, after: string, zone = ''): string {
  const offset = zoneOffset(zone);
  assert.ok(offset);
  const found = nextTime(schedule(text), Date.parse(after), offset);
  return found === undefined ? 'never' : new Date(found).toISOString().slice(0, 16);
}

const cases: { text: string; after: string; zone?: string; then: string }[] = [
  { text: '* * * * *', after: '2026-01-01T10:00:30Z', then: '2026-01-01T10:01' },
  { text: '* * * * *', after: '2026-01-01T10:01:00Z', then: '2026-01-01T10:02' },
  { text: '*/15 * * * *', after: '2026-01-01T10:46:00Z', then: '2026-01-01T11:00' },
  { text: '0 0 1 1 *', after: '2026-01-01T00:00:00Z', then: '2027-01-01T00:00' },
  { text: '30 6 * * 1-5', after: '2026-01-02T07:00:00Z', then: '2026-01-05T06:30' },
  { text: '0 12 13 * 5', after: '2026-01-01T00:00:00Z', then: '2026-01-02T12:00' },
  { text: '0 12 13 * *', after: '2026-01-01T00:00:00Z', then: '2026-01-13T12:00' },
  { text: '0 0 29 2 *', after: '2026-01-01T00:00:00Z', then: '2028-02-29T00:00' },
  { text: '0 0 30 2 *', after: '2026-01-01T00:00:00Z', then: 'never' },
  { text: '@every 90s', after: '2026-01-01T10:00:00Z', then: '2026-01-01T10:01' },
  {
    text: '0 9 * * *',
    after: '2026-01-01T00:00:00Z',
    zone: 'Asia/Tokyo',
    then: '2026-01-02T00:00',
  },
  {
    text: '0 9 * * *',
    after: '2026-07-01T00:00:00Z',
    zone: 'Europe/Berlin',
    then: '2026-07-01T07:00',
  },
  // The clock jumps from 2 to 3 o'clock on March 29, and back from 3 to 2 on October 25.
  {
    text: '30 2 * * *',
    after: '2026-03-28T12:00:00Z',
    zone: 'Europe/Berlin',
    then: '2026-03-30T00:30',
  },
  {
    text: '30 2 * * *',
    after: '2026-10-24T12:00:00Z',
    zone: 'Europe/Berlin',
    then: '2026-10-25T00:30',
  },
  {
    text: '30 * * * *',
    after: '2026-10-25T00:30:00Z',
    zone: 'Europe/Berlin',
    then: '2026-10-25T01:30',
  },
  {
    text: '0 0 * * *',
    after: '2026-01-01T12:00:00Z',
    zone: 'America/New_York',
    then: '2026-01-02T05:00',
  },
];
for (const { text, after, zone = '', then } of cases) {
  test(`${text} ${zone} after ${after} is ${then}`, () => {
    assert.equal(next(text, after, zone), then);
  });
}

test('an unknown zone is told', () => {
  assert.equal(zoneOffset('Mars/Olympus'), undefined);
});

const dues: { text: string; earliest: string; now: string; at: string; missed: number }[] = [
  { text: '0 * * * *', earliest: '10:10', now: '10:50', at: 'none', missed: 0 },
  { text: '0 * * * *', earliest: '10:10', now: '11:10', at: '11:00', missed: 0 },
  { text: '0 * * * *', earliest: '10:10', now: '14:10', at: '14:00', missed: 4 },
  { text: '* * * * *', earliest: '10:10', now: '20:00', at: '20:00', missed: 590 },
  { text: '30 6-16/4 * * *', earliest: '00:00', now: '23:00', at: '14:30', missed: 5 },
  { text: '@every 45m', earliest: '10:00', now: '12:00', at: '11:30', missed: 2 },
];
for (const { text, earliest, now, at, missed } of dues) {
  test(`${text} since ${earliest} is due at ${at} by ${now}`, () => {
    const day = (time: string): number => Date.parse(`2026-01-01T${time}:00Z`);
    const times = { earliestMs: day(earliest), now: day(now), offset: () => 0 };
    const due = lastDue(schedule(text), times);
    assert.deepEqual(due, at === 'none' ? undefined : { atMs: day(at), missed });
  });
}
