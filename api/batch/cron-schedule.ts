/** The minutes, hours, days, months and weekdays at which a schedule fires. */
export type CronSchedule = {
  minutes: ReadonlySet<number>;
  hours: ReadonlySet<number>;
  days: ReadonlySet<number>;
  months: ReadonlySet<number>;
  /** 0 = Sunday. */
  weekdays: ReadonlySet<number>;
  /** Given as `*`: then the other of days and weekdays decides alone. */
  anyDay: boolean;
  anyWeekday: boolean;
};

/** `@every 90s` has no calendar. */
export type CronInterval = { everyMs: number };

export type CronResult =
  | { ok: true; schedule: CronSchedule | CronInterval }
  | { ok: false; error: string };

type Field = { low: number; high: number; names?: Readonly<Record<string, number>> };

const nameTable = (names: string, first: number): Record<string, number> =>
  Object.fromEntries(names.split(' ').map((name, i) => [name, i + first]));

const FIELDS: readonly Field[] = [
  { low: 0, high: 59 },
  { low: 0, high: 23 },
  { low: 1, high: 31 },
  { low: 1, high: 12, names: nameTable('jan feb mar apr may jun jul aug sep oct nov dec', 1) },
  { low: 0, high: 6, names: nameTable('sun mon tue wed thu fri sat', 0) },
];

const DESCRIPTORS: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

class CronError extends Error {}

/**
 * Reads a schedule of five fields, a descriptor (`@hourly`) or an interval (`@every 1h30m`).
 * Source: batch/v1 CronJobSpec.schedule; the errors are worded as upstream's parser does.
 */
export function parseCronSchedule(text: string): CronResult {
  try {
    return { ok: true, schedule: parse(text.trim()) };
  } catch (error) {
    if (error instanceof CronError) return { ok: false, error: error.message };
    throw error;
  }
}

function parse(text: string): CronSchedule | CronInterval {
  if (text.startsWith('@every ')) return interval(text.slice('@every '.length), text);
  if (text.startsWith('@')) {
    const fields = DESCRIPTORS[text];
    if (!fields) throw new CronError(`unrecognized descriptor: ${text}`);
    return parse(fields);
  }
  const parts = text.split(/\s+/).filter((part) => part !== '');
  if (parts.length !== FIELDS.length) {
    throw new CronError(
      `expected exactly ${FIELDS.length} fields, found ${parts.length}: [${parts.join(' ')}]`,
    );
  }
  const sets = FIELDS.map((field, i) => parseField(parts[i] ?? '', field));
  const [minutes, hours, days, months, weekdays] = sets as [
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
  ];
  const any = (part: string | undefined): boolean => part === '*' || part === '?';
  return {
    minutes,
    hours,
    days,
    months,
    weekdays,
    anyDay: any(parts[2]),
    anyWeekday: any(parts[4]),
  };
}

function parseField(text: string, field: Field): Set<number> {
  const values = new Set<number>();
  for (const part of text.split(',')) addRange(values, part, field);
  return values;
}

/** `*`, `5`, `1-5`, each with an optional `/step`. */
function addRange(values: Set<number>, text: string, field: Field): void {
  const [range = '', stepText, ...rest] = text.split('/');
  if (rest.length > 0) throw new CronError(`too many slashes: ${text}`);
  const [from = '', to, ...more] = range.split('-');
  if (more.length > 0) throw new CronError(`too many hyphens: ${text}`);
  const all = from === '*' || from === '?';
  const start = all ? field.low : number(from, field, text);
  let end = all ? field.high : to === undefined ? start : number(to, field, text);
  const step = stepText === undefined ? 1 : wholeNumber(stepText, text);
  // `5/15` means from 5 on.
  if (!all && to === undefined && stepText !== undefined) end = field.high;
  if (start < field.low) {
    throw new CronError(`beginning of range (${start}) below minimum (${field.low}): ${text}`);
  }
  if (end > field.high) {
    throw new CronError(`end of range (${end}) above maximum (${field.high}): ${text}`);
  }
  if (start > end) {
    throw new CronError(`beginning of range (${start}) beyond end of range (${end}): ${text}`);
  }
  if (step === 0) throw new CronError(`step of range should be a positive number: ${text}`);
  for (let value = start; value <= end; value += step) values.add(value);
}

function number(text: string, field: Field, expression: string): number {
  return field.names?.[text.toLowerCase()] ?? wholeNumber(text, expression);
}

function wholeNumber(text: string, expression: string): number {
  if (!/^[+-]?\d+$/.test(text)) {
    throw new CronError(
      `failed to parse int from ${text}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  }
  const value = Number(text);
  if (value < 0) {
    throw new CronError(`negative number (${value}) not allowed: ${expression}`);
  }
  return value;
}

const UNITS_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

function interval(text: string, whole: string): CronInterval {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)];
  const read = parts.map((part) => part[0]).join('');
  if (parts.length === 0 || read !== text) {
    throw new CronError(
      `failed to parse duration ${whole}: time: invalid duration ${JSON.stringify(text)}`,
    );
  }
  const ms = parts.reduce((sum, part) => sum + Number(part[1]) * (UNITS_MS[part[2] ?? ''] ?? 0), 0);
  // Schedules count in seconds, and at least one of them.
  return { everyMs: Math.max(1000, Math.floor(ms / 1000) * 1000) };
}
