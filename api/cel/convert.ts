import { codePoints } from '#api/cel/cost.ts';
import { type Overload, overload } from '#api/cel/function.ts';
import { doubleText } from '#api/cel/number-text.ts';
import { regexOf } from '#api/cel/regex.ts';
import { int, uint } from '#api/cel/std.ts';
import {
  CelError,
  type CelList,
  CelMap,
  type CelObject,
  checkedTime,
  Duration,
  durationOf,
  durationText,
  Timestamp,
  timestampOf,
  timestampText,
  typeNameOf,
  TypeValue,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** Conversions, sizes, and what the standard has for text. Source: CEL "Standard definitions". */

const BILLION = 1_000_000_000n;
const range = (value: number, convert: (whole: bigint) => Value): Value =>
  Number.isFinite(value) ? convert(BigInt(Math.trunc(value))) : new CelError('integer overflow');

function parsedInt(text: string): Value {
  return /^[+-]?\d+$/.test(text) ? int(BigInt(text)) : badParse('int', text);
}

function parsedUint(text: string): Value {
  return /^\d+$/.test(text) ? uint(BigInt(text)) : badParse('uint', text);
}

const badParse = (type: string, text: string): CelError =>
  new CelError(`type conversion error from '${text}' to '${type}'`);

const BOOLS: Readonly<Record<string, boolean>> = {
  '1': true,
  t: true,
  T: true,
  true: true,
  TRUE: true,
  True: true,
  '0': false,
  f: false,
  F: false,
  false: false,
  FALSE: false,
  False: false,
};

function parsedDouble(text: string): Value {
  if (/^[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)$/.test(text))
    return Number(text);
  if (/^[+-]?inf(?:inity)?$/i.test(text)) {
    return text.startsWith('-') ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }
  return /^nan$/i.test(text) ? Number.NaN : badParse('double', text);
}

function decoded(bytes: Uint8Array): Value {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new CelError('invalid UTF-8 in bytes, cannot convert to string');
  }
}

const conversions: Overload[] = [
  overload('int', '(int) int', (value: bigint) => value),
  overload('int', '(uint) int', (value: Uint) => int(value.value)),
  overload('int', '(double) int', (value: number) => range(value, int)),
  overload('int', '(string) int', parsedInt),
  overload('int', '(timestamp) int', (time: Timestamp) => floorSeconds(time.nanos)),
  overload('int', '(duration) int', (span: Duration) => span.nanos),
  overload('uint', '(uint) uint', (value: Uint) => value),
  overload('uint', '(int) uint', (value: bigint) => uint(value)),
  overload('uint', '(double) uint', (value: number) => range(value, uint)),
  overload('uint', '(string) uint', parsedUint),
  overload('double', '(double) double', (value: number) => value),
  overload('double', '(int) double', (value: bigint) => Number(value)),
  overload('double', '(uint) double', (value: Uint) => Number(value.value)),
  overload('double', '(string) double', parsedDouble),
  overload('bool', '(bool) bool', (value: boolean) => value),
  overload('bool', '(string) bool', (text: string) => BOOLS[text] ?? badParse('bool', text)),
  overload('string', '(string) string', (text: string) => text),
  overload('string', '(bool) string', (value: boolean) => String(value)),
  overload('string', '(int) string', (value: bigint) => String(value)),
  overload('string', '(uint) string', (value: Uint) => String(value.value)),
  overload('string', '(double) string', (value: number) => doubleText(value)),
  overload('string', '(bytes) string', decoded),
  overload('string', '(timestamp) string', timestampText),
  overload('string', '(duration) string', durationText),
  overload('bytes', '(bytes) bytes', (bytes: Uint8Array) => bytes),
  overload('bytes', '(string) bytes', (text: string) => new TextEncoder().encode(text)),
  overload('timestamp', '(timestamp) timestamp', (time: Timestamp) => time),
  overload('timestamp', '(int) timestamp', (seconds: bigint) => checkedTime(seconds * BILLION)),
  overload('timestamp', '(string) timestamp', timestampOf),
  overload('duration', '(duration) duration', (span: Duration) => span),
  overload('duration', '(int) duration', (nanos: bigint) => new Duration(nanos)),
  overload('duration', '(string) duration', durationOf),
  overload('dyn', '(A) dyn', (value: Value) => value),
  overload('type', '(A) type<A>', (value: Value) => new TypeValue(typeNameOf(value))),
];

function floorSeconds(nanos: bigint): bigint {
  const seconds = nanos / BILLION;
  return nanos % BILLION < 0n ? seconds - 1n : seconds;
}

const mapSize = (map: CelMap | CelObject): bigint =>
  BigInt(map instanceof CelMap ? map.size : map.names().length);

const sizes: Overload[] = [
  overload('size', '(string) int', (text: string) => BigInt(codePoints(text))),
  overload('size', 'string.() int', (text: string) => BigInt(codePoints(text))),
  overload('size', '(bytes) int', (bytes: Uint8Array) => BigInt(bytes.length)),
  overload('size', 'bytes.() int', (bytes: Uint8Array) => BigInt(bytes.length)),
  overload('size', '(list<A>) int', (list: CelList) => BigInt(list.length)),
  overload('size', 'list<A>.() int', (list: CelList) => BigInt(list.length)),
  overload('size', '(map<A, B>) int', mapSize),
  overload('size', 'map<A, B>.() int', mapSize),
];

const matches = (text: string, pattern: string): Value => {
  const regex = regexOf(pattern);
  return regex instanceof CelError ? regex : regex.test(text);
};

const texts: Overload[] = [
  overload('contains', 'string.(string) bool', (a: string, b: string) => a.includes(b)),
  overload('startsWith', 'string.(string) bool', (a: string, b: string) => a.startsWith(b)),
  overload('endsWith', 'string.(string) bool', (a: string, b: string) => a.endsWith(b)),
  overload('matches', '(string, string) bool', matches),
  overload('matches', 'string.(string) bool', matches),
];

export const conversionFunctions: readonly Overload[] = [...conversions, ...sizes, ...texts];
