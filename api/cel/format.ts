import { doubleText } from '#api/cel/number-text.ts';
import {
  CelError,
  CelList,
  CelMap,
  Duration,
  durationText,
  Timestamp,
  timestampText,
  TypeValue,
  typeNameOf,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** Digits after the point where the format does not say. */
const DEFAULT_PRECISION = 6;
/** More digits than this a double does not have; JavaScript prints at most so many. */
const MAX_PRECISION = 100;

const CLAUSE = /%(?:\.(\d+))?([a-zA-Z%])?/g;

/** `'%d of %s'.format([1, 'x'])`. Source: cel-go "Strings", format. */
export function formatText(template: string, args: CelList): Value {
  let next = 0;
  let failure: CelError | null = null;
  const text = template.replaceAll(CLAUSE, (all, digits: string | undefined, verb = '') => {
    if (failure) return '';
    if (all === '%%') return '%';
    if (verb === '') {
      failure = new CelError('unexpected end of string');
      return '';
    }
    if (next >= args.length) {
      failure = new CelError(`index ${next} out of range`);
      return '';
    }
    const value = args.at(next++);
    const shown = clause(verb, value, digits === undefined ? DEFAULT_PRECISION : Number(digits));
    if (shown instanceof CelError) failure = shown;
    return shown instanceof CelError ? '' : shown;
  });
  if (failure) return failure;
  if (next < args.length) return new CelError(`not all arguments were used: ${args.length - next}`);
  return text;
}

function clause(verb: string, value: Value, precision: number): string | CelError {
  switch (verb) {
    case 's':
      return anyText(value);
    case 'd':
      if (typeof value === 'bigint') return String(value);
      if (value instanceof Uint) return String(value.value);
      return wrong('decimal clause can only be used on integers', value);
    case 'f':
      return numeric(value, 'fixed-point', (number) => grouped(number.toFixed(bound(precision))));
    case 'e':
      return numeric(value, 'scientific', (number) => scientific(number, bound(precision)));
    case 'b':
      return binary(value);
    case 'x':
    case 'X':
      return hex(value, verb === 'X');
    case 'o':
      if (typeof value === 'bigint') return value.toString(8);
      if (value instanceof Uint) return value.value.toString(8);
      return wrong('octal clause can only be used on integers', value);
    default:
      return new CelError(
        `could not parse formatting clause: unrecognized formatting clause "${verb}"`,
      );
  }
}

const bound = (precision: number): number => Math.min(precision, MAX_PRECISION);

const wrong = (rule: string, value: Value): CelError =>
  new CelError(`error during formatting: ${rule}, was given ${typeNameOf(value)}`);

const SPECIAL: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};

function numeric(value: Value, what: string, show: (number: number) => string): string | CelError {
  const number = typeof value === 'string' ? SPECIAL[value] : value;
  if (typeof number !== 'number') return wrong(`${what} clause can only be used on doubles`, value);
  if (Number.isNaN(number)) return 'NaN';
  if (!Number.isFinite(number)) return number > 0 ? '\u221e' : '-\u221e';
  return show(number);
}

/** English thousands, as the text package that upstream prints with writes them. */
const grouped = (digits: string): string =>
  digits.replace(
    /^(-?)(\d+)/,
    (_all, sign: string, whole: string) => sign + whole.replaceAll(/\B(?=(\d{3})+$)/g, ','),
  );

const RAISED = '\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079';

/** `3.140000\u00d710\u2070\u2070`. */
function scientific(number: number, precision: number): string {
  const [mantissa = '', power = '0'] = number.toExponential(precision).split('e');
  const digits = power.replace(/^[+-]/, '').padStart(2, '0');
  const raised = [...digits].map((digit) => RAISED[Number(digit)]).join('');
  return `${mantissa}\u00d710${power.startsWith('-') ? '\u207b' : ''}${raised}`;
}

function binary(value: Value): string | CelError {
  if (typeof value === 'bigint') return value.toString(2);
  if (value instanceof Uint) return value.value.toString(2);
  if (typeof value === 'boolean') return value ? '1' : '0';
  return wrong('binary clause can only be used on integers and bools', value);
}

function hex(value: Value, upper: boolean): string | CelError {
  const text =
    typeof value === 'bigint'
      ? value.toString(16)
      : value instanceof Uint
        ? value.value.toString(16)
        : typeof value === 'string'
          ? Buffer.from(value).toString('hex')
          : value instanceof Uint8Array
            ? Buffer.from(value).toString('hex')
            : null;
  if (text === null)
    return wrong('only integers, byte buffers, and strings can be formatted as hex', value);
  return upper ? text.toUpperCase() : text;
}

function anyText(value: Value): string | CelError {
  if (value === null) return 'null';
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return doubleText(value);
  if (typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (value instanceof Uint) return String(value.value);
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (value instanceof Timestamp) return timestampText(value);
  if (value instanceof Duration) return durationText(value);
  if (value instanceof TypeValue) return value.name;
  if (value instanceof CelList) return partsText([...value].map(partText), '[', ']');
  if (value instanceof CelMap) return mapText(value);
  return wrong(
    'string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps',
    value,
  );
}

function mapText(map: CelMap): string | CelError {
  const parts = map.keys().map((key) => {
    const name = partText(key);
    const value = partText(map.get(key) ?? null);
    if (name instanceof CelError) return name;
    return value instanceof CelError ? value : `${name}: ${value}`;
  });
  const failed = parts.find((part) => part instanceof CelError);
  if (failed) return failed;
  return partsText((parts as string[]).sort(), '{', '}');
}

function partsText(
  parts: readonly (string | CelError)[],
  open: string,
  close: string,
): string | CelError {
  const failed = parts.find((part) => part instanceof CelError);
  return failed instanceof CelError ? failed : `${open}${parts.join(', ')}${close}`;
}

/** Inside of lists and maps values are written as literals. */
function partText(value: Value): string | CelError {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return value.toFixed(DEFAULT_PRECISION);
  if (value instanceof Uint8Array) return `b${JSON.stringify(new TextDecoder().decode(value))}`;
  if (value instanceof Timestamp) return `timestamp("${timestampText(value)}")`;
  if (value instanceof Duration) return `duration("${durationText(value)}")`;
  return anyText(value);
}
