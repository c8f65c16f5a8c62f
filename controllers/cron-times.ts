import type { CronInterval, CronSchedule } from '#api/batch/cron-schedule.ts';

/** When a schedule fires, in a time zone. Pure. Times are milliseconds since 1970. */

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** A schedule without a date within so many years (the 30th of February) never fires. */
const MAX_YEARS = 5;
const MAX_DAYS = MAX_YEARS * 366;

/** Milliseconds by which a zone's wall clock is ahead of UTC at a time. */
export type ZoneOffset = (atMs: number) => number;

/** Undefined when there is no such zone. UTC for ''. */
export function zoneOffset(timeZone: string): ZoneOffset | undefined {
  if (timeZone === '' || timeZone === 'UTC' || timeZone === 'Etc/UTC') return () => 0;
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    });
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return (atMs) => {
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(atMs)) part[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
    const wall = Date.UTC(year, month - 1, day, hour, minute, second);
    return wall - Math.floor(atMs / 1000) * 1000;
  };
}

/** The first time after `afterMs`; undefined when there is none within five years. */
export function nextTime(
  schedule: CronSchedule | CronInterval,
  afterMs: number,
  offset: ZoneOffset,
): number | undefined {
  if ('everyMs' in schedule) return Math.floor(afterMs / 1000) * 1000 + schedule.everyMs;
  const wallAfter = afterMs + offset(afterMs);
  const firstDay = Math.floor(wallAfter / DAY_MS) * DAY_MS;
  // A day earlier, because a clock that was put back shows some times twice.
  for (let day = firstDay - DAY_MS, n = 0; n <= MAX_DAYS; day += DAY_MS, n++) {
    if (!firesOn(schedule, day)) continue;
    const found = firstIn(schedule, { day, afterMs, offset });
    if (found !== undefined) return found;
  }
  return undefined;
}

function firesOn(schedule: CronSchedule, dayMs: number): boolean {
  const date = new Date(dayMs);
  if (!schedule.months.has(date.getUTCMonth() + 1)) return false;
  const day = schedule.days.has(date.getUTCDate());
  const weekday = schedule.weekdays.has(date.getUTCDay());
  // Source: crontab(5): with both given, one of them is enough.
  return schedule.anyDay || schedule.anyWeekday ? day && weekday : day || weekday;
}

type Search = { day: number; afterMs: number; offset: ZoneOffset };

function firstIn(schedule: CronSchedule, { day, afterMs, offset }: Search): number | undefined {
  let best: number | undefined;
  // The zone's offsets around this day: two of them when the clock is changed.
  const offsets = new Set([offset(day - DAY_MS), offset(day + DAY_MS), offset(day + 2 * DAY_MS)]);
  for (const ahead of offsets) {
    const start = day - ahead;
    for (const hour of schedule.hours) {
      const hourMs = start + hour * HOUR_MS;
      if (hourMs + HOUR_MS <= afterMs || (best !== undefined && hourMs >= best)) continue;
      for (const minute of schedule.minutes) {
        const atMs = hourMs + minute * MINUTE_MS;
        if (atMs <= afterMs || (best !== undefined && atMs >= best)) continue;
        // A time that the clock skips does not exist.
        if (offset(atMs) === ahead) best = atMs;
      }
    }
  }
  return best;
}

/** The newest time a schedule should have fired, and how many before it may have been missed. */
export type Due = { atMs: number; missed: number };

/**
 * The newest time in (earliest, now]; undefined when there is none.
 * Source: upstream's mostRecentScheduleTime, which estimates the missed ones from the first two.
 */
export function lastDue(
  schedule: CronSchedule | CronInterval,
  { earliestMs, now, offset }: { earliestMs: number; now: number; offset: ZoneOffset },
): Due | undefined {
  const first = nextTime(schedule, earliestMs, offset);
  if (first === undefined || first > now) return undefined;
  const second = nextTime(schedule, first, offset);
  if (second === undefined || second > now) return { atMs: first, missed: 0 };
  const step = second - first;
  const missed = Math.floor((now - first) / step) + 1;
  // From shortly before the estimate; further back for schedules whose steps differ.
  for (let back = 2; ; back *= 2) {
    let from = Math.max(first, first + (missed - back) * step);
    let atMs = from === first ? first : undefined;
    for (;;) {
      const next = nextTime(schedule, from, offset);
      if (next === undefined || next > now) break;
      atMs = next;
      from = next;
    }
    if (atMs !== undefined) return { atMs, missed };
  }
}
