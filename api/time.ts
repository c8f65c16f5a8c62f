/**
 * Times as the API writes them: RFC 3339 in UTC, `metav1.Time` to the second and
 * `metav1.MicroTime` to the microsecond. Source: RFC 3339, metav1.Time, metav1.MicroTime.
 */

const SHAPE = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)$/;
const CANONICAL_SECONDS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

/** `2024-05-01T10:00:00Z` out of milliseconds since 1970. */
export const formatTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** `2024-05-01T10:00:00.123000Z` out of milliseconds since 1970. */
export const formatMicroTime = (ms: number): string =>
  `${new Date(ms).toISOString().slice(0, 23)}000Z`;

/** Milliseconds since 1970; NaN when the text is no RFC 3339 time. */
export function parseTime(text: string): number {
  return SHAPE.test(text) ? Date.parse(text.replace(',', '.')) : Number.NaN;
}

export class TimeError extends Error {}

/** To the second in UTC. Throws TimeError in Go's words, which clients see. */
export function canonicalTime(text: string): string {
  const ms = parseTime(text);
  if (Number.isNaN(ms) || !isRealDay(text)) {
    throw new TimeError(explain(text, '2006-01-02T15:04:05Z07:00'));
  }
  if (CANONICAL_SECONDS.test(text)) return text;
  return formatTime(Math.floor(ms / 1000) * 1000);
}

/** To the microsecond in UTC; all six digits have to be there. Throws TimeError. */
export function canonicalMicroTime(text: string): string {
  const ms = parseTime(text);
  const fraction = SHAPE.exec(text)?.[7] ?? '';
  if (Number.isNaN(ms) || !isRealDay(text) || fraction.length !== 6) {
    throw new TimeError(explain(text, '2006-01-02T15:04:05.000000Z07:00'));
  }
  return `${formatTime(Math.floor(ms / 1000) * 1000).slice(0, -1)}.${fraction}Z`;
}

/** Date.parse lets the 30th of February pass as the 2nd of March. */
function isRealDay(text: string): boolean {
  const [year = 0, month = 0, day = 0] = text.slice(0, 10).split('-').map(Number);
  if (month < 1 || month > 12 || day < 1) return false;
  return day <= 28 || day <= new Date(Date.UTC(year, month, 0)).getUTCDate();
}

/** The last of the clock's parts: with a fixed number of digits, or with any. */
const secondsOf = (layout: string): [RegExp, string][] =>
  layout.includes('.')
    ? [
        [/^\d\d/, '05'],
        [/^[.,]\d{6}/, '.000000'],
      ]
    : [[/^\d\d(?:[.,]\d+)?/, '05']];

/** The part that does not fit, and what should stand there, as Go's time.Parse tells it. */
function explain(text: string, layout: string): string {
  const parts: [RegExp, string][] = [
    [/^\d{4}/, '2006'],
    [/^-/, '-'],
    [/^\d\d/, '01'],
    [/^-/, '-'],
    [/^\d\d/, '02'],
    [/^T/, 'T'],
    [/^\d\d/, '15'],
    [/^:/, ':'],
    [/^\d\d/, '04'],
    [/^:/, ':'],
    ...secondsOf(layout),
    [/^(?:Z|[+-]\d\d:\d\d)/, 'Z07:00'],
  ];
  let rest = text;
  for (const [shape, name] of parts) {
    const found = shape.exec(rest);
    if (!found) {
      return `parsing time "${text}" as "${layout}": cannot parse "${rest}" as "${name}"`;
    }
    rest = rest.slice(found[0].length);
  }
  if (rest !== '') return `parsing time "${text}": extra text: "${rest}"`;
  return `parsing time "${text}": ${firstOutOfRange(text)} out of range`;
}

function firstOutOfRange(text: string): string {
  if (Number(text.slice(11, 13)) > 23) return 'hour';
  if (Number(text.slice(14, 16)) > 59) return 'minute';
  if (Number(text.slice(17, 19)) > 59) return 'second';
  const month = Number(text.slice(5, 7));
  return month < 1 || month > 12 ? 'month' : 'day';
}

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Go's durations (`1h30m`, `-1.5s`) in milliseconds; undefined when the text is none. */
export function parseDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/.exec(text);
  if (!match) return undefined;
  let total = 0;
  for (const [, number, unit = ''] of (match[2] ?? '').matchAll(/([\d.]+)([a-zµμ]+)/g)) {
    total += Number(number) * (UNITS[unit] ?? 0);
  }
  return match[1] === '-' ? -total : total;
}

/** Age as kubectl prints it: `5s`, `3m20s`, `2h`, `4d3h`, `2y`. */
export function formatAge(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (hours < 192) return two(days, 'd', hours % 24, 'h');
  if (days < 730) return `${days}d`;
  const years = Math.floor(days / 365);
  return years < 8 ? two(years, 'y', days % 365, 'd') : `${years}y`;
}

const two = (a: number, unitA: string, b: number, unitB: string): string =>
  b === 0 ? `${a}${unitA}` : `${a}${unitA}${b}${unitB}`;
