/**
 * JSON with integers beyond 2^53: those of 64 bits become bigint, everything else is as JSON.parse
 * reads it. Integers beyond 64 bits stay floating point.
 */

/** Fewer digits than this are always safe, and almost no text has more. */
const MAYBE_LONG = /\d{16}/;
const INTEGER = /^-?\d+$/;

const MAX_INT64 = 2n ** 63n - 1n;
const MIN_INT64 = -(2n ** 63n);

/** Whether a text may hold an integer that a number cannot. */
export const hasLongNumber = (text: string): boolean => MAYBE_LONG.test(text);

/** Throws SyntaxError. */
export function parseExact(text: string): unknown {
  return hasLongNumber(text) ? JSON.parse(text, exactNumber) : JSON.parse(text);
}

function exactNumber(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
  const { source = '' } = context ?? {};
  return INTEGER.test(source) ? exactInteger(BigInt(source)) : value;
}

/** An integer as values of the API hold it: a number where that is exact, a bigint up to int64. */
export function exactInteger(value: bigint): number | bigint {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  return value >= MIN_INT64 && value <= MAX_INT64 ? value : number;
}

export const isInteger = (value: unknown): value is number | bigint =>
  typeof value === 'bigint' || Number.isInteger(value);

/** Newer than the types that the compiler knows. */
const rawJson = JSON as unknown as { rawJSON(text: string): unknown };

// JSON.stringify refuses bigint unless it has this; the text keeps every digit.
Object.defineProperty(BigInt.prototype, 'toJSON', {
  configurable: true,
  value(this: bigint): unknown {
    return rawJson.rawJSON(this.toString());
  },
});
