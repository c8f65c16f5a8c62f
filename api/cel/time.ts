import { type Overload, overload } from '#api/cel/function.ts';
import { CelError, type Duration, type Timestamp, type Value } from '#api/cel/values.ts';

/** Parts of times and durations. Source: CEL "Standard definitions", "Timestamps". */

const MILLION = 1_000_000n;

type Part = (date: Date) => number;

const PARTS: Readonly<Record<string, Part>> = {
  getFullYear: (date) => date.getUTCFullYear(),
  getMonth: (date) => date.getUTCMonth(),
  getDayOfYear: (date) => {
    const start = new Date(date);
    start.setUTCMonth(0, 1);
    return Math.floor((date.getTime() - start.getTime()) / 86_400_000);
  },
  getDayOfMonth: (date) => date.getUTCDate() - 1,
  getDate: (date) => date.getUTCDate(),
  getDayOfWeek: (date) => date.getUTCDay(),
  getHours: (date) => date.getUTCHours(),
  getMinutes: (date) => date.getUTCMinutes(),
  getSeconds: (date) => date.getUTCSeconds(),
  getMilliseconds: (date) => date.getUTCMilliseconds(),
};

/** A date whose UTC fields are those of the zone. */
function shifted(time: Timestamp, zone: string): Date | CelError {
  const millis = Number(floorDivide(time.nanos, MILLION));
  if (zone === '' || zone === 'UTC') return new Date(millis);
  const offset = /^([+-]?)(\d\d):(\d\d)$/.exec(zone);
  if (offset) {
    const minutes = Number(offset[2]) * 60 + Number(offset[3]);
    return new Date(millis + (offset[1] === '-' ? -minutes : minutes) * 60_000);
  }
  try {
    const format = new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' });
    const name = format.formatToParts(millis).find((part) => part.type === 'timeZoneName')?.value;
    const found = /GMT([+-])(\d\d):(\d\d)/.exec(name ?? '');
    if (!found) return new Date(millis);
    const minutes = Number(found[2]) * 60 + Number(found[3]);
    return new Date(millis + (found[1] === '-' ? -minutes : minutes) * 60_000);
  } catch {
    return new CelError(`unknown time zone ${zone}`);
  }
}

const floorDivide = (value: bigint, by: bigint): bigint => value / by - (value % by < 0n ? 1n : 0n);

const dateParts = Object.entries(PARTS).flatMap(([name, part]): Overload[] => {
  const run = (time: Timestamp, zone = ''): Value => {
    const date = shifted(time, zone);
    return date instanceof CelError ? date : BigInt(part(date));
  };
  return [
    overload(name, 'timestamp.() int', (time: Timestamp) => run(time)),
    overload(name, 'timestamp.(string) int', run),
  ];
});

const SPANS: Readonly<Record<string, bigint>> = {
  getHours: 3_600_000_000_000n,
  getMinutes: 60_000_000_000n,
  getSeconds: 1_000_000_000n,
};

export const timeFunctions: readonly Overload[] = [
  ...dateParts,
  ...Object.entries(SPANS).map(([name, size]) =>
    overload(name, 'duration.() int', (span: Duration) => span.nanos / size),
  ),
  overload(
    'getMilliseconds',
    'duration.() int',
    (span: Duration) => (span.nanos / MILLION) % 1000n,
  ),
];
