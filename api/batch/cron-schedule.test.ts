import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCronSchedule } from '#api/batch/cron-schedule.ts';

const GOOD = [
  '* * * * *',
  '*/5 0-6 1,15 jan-mar MON',
  '0 0 ? * 0',
  '@hourly',
  '@yearly',
  '@every 1h30m',
  '0 23 * * 1-5/2',
];

const BAD = ['', '* * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '5-1 * * * *', '@often', 'x'];

test('schedules: what is one and what is not', () => {
  for (const text of GOOD) assert.equal(parseCronSchedule(text).ok, true, text);
  for (const text of BAD) assert.equal(parseCronSchedule(text).ok, false, text);
});
