/**
 * Exact resource quantities: `500m`, `1.5Gi`, `2e3`. Counted in billionths, which is the finest that
 * the API keeps; finer fractions round away from zero.
 * Source: "Quantity" of the Kubernetes API reference.
 */
export type Quantity = {
  readonly nano: bigint;
  /** How it was written decides how it is printed. */
  readonly format: 'DecimalSI' | 'BinarySI' | 'DecimalExponent';
};

const DECIMAL: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  '': 0,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};
const BINARY: readonly string[] = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
const SUFFIX_OF_EXPONENT = new Map(Object.entries(DECIMAL).map(([suffix, e]) => [e, suffix]));

/** Upstream's words; clients print and compare them. */
export const QUANTITY_FORMAT_ERROR =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX_ERROR = "unable to parse quantity's suffix";

const SHAPE = /^([+-]?)(\d*)(?:\.(\d*))?([eEinumkKMGTP]*)([-+]?\d*)$/;
const NANO = 1_000_000_000n;
/** Numbers beyond this many decimal places in either direction mean nothing to anybody. */
const MAX_EXPONENT = 60;
/** Upstream caps every quantity at the largest 64-bit integer. */
const MAX_NANO = ((1n << 63n) - 1n) * NANO;

export class QuantityError extends Error {}

/** Throws QuantityError with upstream's message when the text is no quantity. */
export function parseQuantity(text: string): Quantity {
  const match = SHAPE.exec(text);
  const whole = match?.[2] ?? '';
  const fraction = match?.[3] ?? '';
  if (!match || whole + fraction === '') throw new QuantityError(QUANTITY_FORMAT_ERROR);
  const letters = match[4] ?? '';
  const exponentText = match[5] ?? '';
  let exponent = 0;
  let factor = 1n;
  let format: Quantity['format'] = 'DecimalSI';
  if (exponentText !== '') {
    if ((letters !== 'e' && letters !== 'E') || !/\d/.test(exponentText)) {
      throw new QuantityError(SUFFIX_ERROR);
    }
    exponent = Number(exponentText);
    format = 'DecimalExponent';
  } else if (Object.hasOwn(DECIMAL, letters)) {
    exponent = DECIMAL[letters] ?? 0;
  } else {
    const power = BINARY.indexOf(letters);
    if (power < 1) throw new QuantityError(SUFFIX_ERROR);
    factor = 1024n ** BigInt(power);
    format = 'BinarySI';
  }
  if (Math.abs(exponent) > MAX_EXPONENT) throw new QuantityError(SUFFIX_ERROR);
  const places = exponent - fraction.length + 9;
  const digits = BigInt(whole + fraction) * factor;
  const size =
    places >= 0 ? digits * 10n ** BigInt(places) : divideUp(digits, 10n ** BigInt(-places));
  const nano = size > MAX_NANO ? MAX_NANO : size;
  return { nano: match[1] === '-' ? -nano : nano, format };
}

/** Division of non-negative numbers, rounded up. */
const divideUp = (value: bigint, by: bigint): bigint => (value + by - 1n) / by;

/** Rounded away from zero, as upstream does. */
const awayFromZero = (value: bigint, by: bigint): bigint =>
  value < 0n ? -divideUp(-value, by) : divideUp(value, by);

/** Whole units, rounded up: bytes of memory, whole cores. */
export const quantityValue = (quantity: Quantity): number =>
  Number(awayFromZero(quantity.nano, NANO));

/** Thousandths, rounded up: CPU. */
export const quantityMilli = (quantity: Quantity): number =>
  Number(awayFromZero(quantity.nano, 1_000_000n));

export const compareQuantity = (a: Quantity, b: Quantity): number =>
  a.nano < b.nano ? -1 : a.nano > b.nano ? 1 : 0;

/** The sum is printed as the first one was written, unless that is zero. */
export const addQuantity = (a: Quantity, b: Quantity): Quantity => ({
  nano: a.nano + b.nano,
  format: a.nano === 0n ? b.format : a.format,
});

export const subtractQuantity = (a: Quantity, b: Quantity): Quantity => ({
  nano: a.nano - b.nano,
  format: a.nano === 0n ? b.format : a.format,
});

export const wholeQuantity = (
  value: number,
  format: Quantity['format'] = 'DecimalSI',
): Quantity => ({
  nano: BigInt(Math.round(value)) * NANO,
  format,
});

export const milliQuantity = (milli: number): Quantity => ({
  nano: BigInt(Math.round(milli)) * 1_000_000n,
  format: 'DecimalSI',
});

/** Canonical text: no fraction, the largest suffix that allows it. */
export function formatQuantity({ nano, format }: Quantity): string {
  if (nano === 0n) return '0';
  const small = nano < 1024n * NANO && nano > -1024n * NANO;
  if (format === 'BinarySI' && !small) {
    let value = awayFromZero(nano, NANO);
    let power = 0;
    while (power < BINARY.length - 1 && value % 1024n === 0n) {
      value /= 1024n;
      power++;
    }
    return `${value}${BINARY[power]}`;
  }
  let value = nano;
  let exponent = -9;
  while (exponent < 18 && value % 1000n === 0n) {
    value /= 1000n;
    exponent += 3;
  }
  if (format === 'DecimalExponent') return exponent === 0 ? `${value}` : `${value}e${exponent}`;
  return `${value}${SUFFIX_OF_EXPONENT.get(exponent) ?? ''}`;
}

/** Quantities repeat, so most are looked up. The bound keeps strange clients from filling memory. */
const MAX_CACHED = 2048;
const canonical = new Map<string, string>();

/** `0.5` → `500m`, `1024Mi` → `1Gi`. Throws QuantityError. */
export function canonicalQuantity(text: string): string {
  const known = canonical.get(text);
  if (known !== undefined) return known;
  const result = formatQuantity(parseQuantity(text));
  if (canonical.size >= MAX_CACHED) canonical.clear();
  canonical.set(text, result);
  return result;
}
