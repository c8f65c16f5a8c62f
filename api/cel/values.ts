import { type CelType, DYN, type ObjectType } from '#api/cel/types.ts';

/**
 * Values of CEL: null, boolean, string, bigint (int), number (double), Uint8Array (bytes), and the
 * classes here. Lists, maps and objects wrap what they are made from and convert an item when it
 * is read: binding a large object costs nothing. An error is a value, because `||` and `&&` may
 * absorb it.
 */
export type Value =
  | null
  | boolean
  | string
  | bigint
  | number
  | Uint8Array
  | Uint
  | Timestamp
  | Duration
  | CelList
  | CelMap
  | CelObject
  | Optional
  | TypeValue
  | Opaque
  | CelError;

export class Uint {
  readonly value: bigint;
  constructor(value: bigint) {
    this.value = value;
  }
}

/** Nanoseconds since 1970, UTC. */
export class Timestamp {
  readonly nanos: bigint;
  constructor(nanos: bigint) {
    this.nanos = nanos;
  }
}

export class Duration {
  readonly nanos: bigint;
  constructor(nanos: bigint) {
    this.nanos = nanos;
  }
}

export class CelError {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

export class Optional {
  readonly value: Value | undefined;
  constructor(value: Value | undefined) {
    this.value = value;
  }
}

export const NONE = new Optional(undefined);

/** What type(x) gives, and what type names stand for. */
export class TypeValue {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** A value that only functions make and read: a URL, an address, a quantity, an authorizer. */
export class Opaque<T = unknown> {
  readonly type: string;
  readonly value: T;
  #same: (other: unknown) => boolean;
  constructor(type: string, value: T, same: (other: T) => boolean) {
    this.type = type;
    this.value = value;
    this.#same = same as (other: unknown) => boolean;
  }
  /** Whether another value of the same type is the same. */
  equals(other: unknown): boolean {
    return this.#same(other);
  }
}

export class CelList {
  readonly length: number;
  /** Lists of a schema: sets and maps are equal in any order. */
  readonly type: Extract<CelType, { kind: 'list' }> | null;
  #source: readonly unknown[];
  #element: CelType | null;

  /** `element` null: the source holds values, not JSON. */
  constructor(
    source: readonly unknown[],
    element: CelType | null = null,
    type: Extract<CelType, { kind: 'list' }> | null = null,
  ) {
    this.#source = source;
    this.#element = element;
    this.length = source.length;
    this.type = type;
  }

  at(index: number): Value {
    const item = this.#source[index];
    return this.#element ? fromJson(item, this.#element) : (item as Value);
  }

  *[Symbol.iterator](): Generator<Value> {
    for (let i = 0; i < this.length; i++) yield this.at(i);
  }

  /**
   * `list + more`, for the accumulator of a loop: appends to the same array, so that a loop is not
   * quadratic. The old list keeps its length, and a list that has been appended to is copied.
   */
  static grow(list: CelList, more: CelList): CelList {
    const shared = list.#element === null && list.#source.length === list.length;
    const items = shared ? (list.#source as unknown[]) : [...list];
    for (const item of more) items.push(item);
    return new CelList(items);
  }
}

export class CelMap {
  #json: Readonly<Record<string, unknown>> | null;
  #value: CelType;
  #entries: Map<string, readonly [Value, Value]> | null;

  private constructor(
    json: Readonly<Record<string, unknown>> | null,
    value: CelType,
    entries: Map<string, readonly [Value, Value]> | null,
  ) {
    this.#json = json;
    this.#value = value;
    this.#entries = entries;
  }

  static ofJson(json: Readonly<Record<string, unknown>>, value: CelType): CelMap {
    return new CelMap(json, value, null);
  }

  static of(entries: Iterable<readonly [Value, Value]>): CelMap {
    const byKey = new Map<string, readonly [Value, Value]>();
    for (const entry of entries) byKey.set(keyText(entry[0]), entry);
    return new CelMap(null, DYN, byKey);
  }

  /** `map` with one more entry, added in place: for the accumulator of a loop. */
  static insert(map: CelMap, key: Value, value: Value): CelMap {
    const entries = map.#entries ?? new Map();
    entries.set(keyText(key), [key, value]);
    return map.#entries ? map : new CelMap(null, DYN, entries);
  }

  get size(): number {
    return this.#entries?.size ?? Object.keys(this.#json ?? {}).length;
  }

  get(key: Value): Value | undefined {
    if (this.#entries) return this.#entries.get(keyText(key))?.[1];
    const json = this.#json ?? {};
    if (typeof key !== 'string' || !Object.hasOwn(json, key)) return undefined;
    return fromJson(json[key], this.#value);
  }

  has(key: Value): boolean {
    if (this.#entries) return this.#entries.has(keyText(key));
    return typeof key === 'string' && Object.hasOwn(this.#json ?? {}, key);
  }

  keys(): Value[] {
    return this.#entries
      ? [...this.#entries.values()].map(([key]) => key)
      : Object.keys(this.#json ?? {});
  }
}

/** An object whose fields are declared; read by CEL name. */
export class CelObject {
  readonly type: ObjectType;
  #read: (field: string) => Value | undefined;
  #names: () => readonly string[];

  constructor(
    type: ObjectType,
    read: (field: string) => Value | undefined,
    names: () => readonly string[],
  ) {
    this.type = type;
    this.#read = read;
    this.#names = names;
  }

  /** Undefined when the field is not set. */
  get(field: string): Value | undefined {
    return this.#read(field);
  }

  /** The fields that are set, by CEL name. */
  names(): readonly string[] {
    return this.#names();
  }
}

/** Equal keys of any number type are one key. */
function keyText(key: Value): string {
  if (typeof key === 'string') return `s${key}`;
  if (typeof key === 'boolean') return `b${key}`;
  if (typeof key === 'number') return Number.isInteger(key) ? `n${BigInt(key)}` : `n${key}`;
  if (key instanceof Uint) return `n${key.value}`;
  return `n${String(key)}`;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** JSON as a value of `type`; what does not fit the type is read as what it is. */
export function fromJson(json: unknown, type: CelType): Value {
  if (json === null || json === undefined) return null;
  switch (type.kind) {
    case 'double':
      if (typeof json === 'bigint') return Number(json);
      return typeof json === 'number' ? json : fromPlain(json);
    case 'list':
      return Array.isArray(json) ? new CelList(json, type.element, type) : fromPlain(json);
    case 'map':
      return isRecord(json) ? CelMap.ofJson(json, type.value) : fromPlain(json);
    case 'object':
      return isRecord(json) ? objectOf(json, type) : fromPlain(json);
    case 'optional':
      return new Optional(fromJson(json, type.value));
    case 'bytes':
    case 'timestamp':
    case 'duration':
      return typeof json === 'string' ? fromText(json, type.kind) : fromPlain(json);
    default:
      return fromPlain(json);
  }
}

function fromPlain(json: unknown): Value {
  if (typeof json === 'number') return Number.isInteger(json) ? BigInt(json) : json;
  if (Array.isArray(json)) return new CelList(json, DYN);
  if (isRecord(json)) return isValue(json) ? json : CelMap.ofJson(json, DYN);
  return json as Value;
}

function fromText(text: string, kind: 'bytes' | 'timestamp' | 'duration'): Value {
  if (kind === 'bytes') return new Uint8Array(Buffer.from(text, 'base64'));
  return kind === 'timestamp' ? timestampOf(text) : durationOf(text);
}

function objectOf(json: Readonly<Record<string, unknown>>, type: ObjectType): CelObject {
  const jsonName = (field: string): string => type.jsonNames?.get(field) ?? field;
  return new CelObject(
    type,
    (field) => {
      const name = jsonName(field);
      const fieldType = type.fields.get(field);
      if (!fieldType || !Object.hasOwn(json, name)) return undefined;
      return fromJson(json[name], fieldType);
    },
    () => [...type.fields.keys()].filter((field) => Object.hasOwn(json, jsonName(field))),
  );
}

/** Whether something is one of the classes here, and no JSON. */
export function isValue(
  value: object,
): value is Exclude<Value, null | boolean | string | bigint | number> {
  return (
    value instanceof CelList ||
    value instanceof CelMap ||
    value instanceof CelObject ||
    value instanceof Optional ||
    value instanceof Opaque ||
    value instanceof Timestamp ||
    value instanceof Duration ||
    value instanceof Uint ||
    value instanceof TypeValue ||
    value instanceof CelError ||
    value instanceof Uint8Array
  );
}

/** The name of a value's type, as `type(x)` has it. */
export function typeNameOf(value: Value): string {
  if (value === null) return 'null_type';
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'string':
      return 'string';
    case 'bigint':
      return 'int';
    case 'number':
      return 'double';
    default:
      return classNameOf(value);
  }
}

function classNameOf(value: object): string {
  if (value instanceof CelList) return 'list';
  if (value instanceof CelMap) return 'map';
  if (value instanceof CelObject) return value.type.name;
  if (value instanceof Opaque) return value.type;
  if (value instanceof Uint) return 'uint';
  if (value instanceof Uint8Array) return 'bytes';
  if (value instanceof Timestamp) return 'google.protobuf.Timestamp';
  if (value instanceof Duration) return 'google.protobuf.Duration';
  if (value instanceof Optional) return 'optional_type';
  return value instanceof TypeValue ? 'type' : 'error';
}

const MIN_TIME = -62_135_596_800n * 1_000_000_000n;
const MAX_TIME = 253_402_300_799n * 1_000_000_000n + 999_999_999n;
const TIMESTAMP =
  /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d))?$/;

/** RFC 3339, or a date alone. */
export function timestampOf(text: string): Timestamp | CelError {
  const match = TIMESTAMP.exec(text);
  const bad = new CelError(`invalid timestamp: ${JSON.stringify(text)}`);
  if (!match) return bad;
  const [, year, month, day, hour = '00', minute = '00', second = '00', rest = '', zone = 'Z'] =
    match;
  const millis = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(millis) || new Date(millis).getUTCDate() !== Number(day)) return bad;
  const sign = zone.startsWith('-') ? -1n : 1n;
  const offset =
    zone === 'Z' ? 0n : sign * (BigInt(zone.slice(1, 3)) * 60n + BigInt(zone.slice(4, 6)));
  const fraction = BigInt(rest.slice(0, 9).padEnd(9, '0'));
  return checkedTime(BigInt(millis) * 1_000_000n - offset * 60_000_000_000n + fraction);
}

export function checkedTime(nanos: bigint): Timestamp | CelError {
  if (nanos < MIN_TIME || nanos > MAX_TIME) return new CelError('timestamp overflow');
  return new Timestamp(nanos);
}

const UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  '\u00b5s': 1_000n,
  '\u03bcs': 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

const INT64 = 2n ** 63n;

/** Go's notation: `1h30m`, `1.5s`, `-2ms`. */
export function durationOf(text: string): Duration | CelError {
  const bad = new CelError(`invalid duration: ${JSON.stringify(text)}`);
  const sign = text.startsWith('-') ? -1n : 1n;
  const body = text.replace(/^[+-]/, '');
  if (body === '0') return new Duration(0n);
  if (!/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+$/.test(body)) return bad;
  let nanos = 0n;
  for (const [, whole = '', fraction = '', unit = ''] of body.matchAll(
    /(\d*)\.?(\d*)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g,
  )) {
    const size = UNITS[unit] ?? 0n;
    nanos += BigInt(whole || '0') * size;
    if (fraction) nanos += (BigInt(fraction) * size) / 10n ** BigInt(fraction.length);
  }
  if (nanos >= INT64) return bad;
  return new Duration(sign * nanos);
}

/** As `string(duration)` shows it: seconds. */
export function durationText(duration: Duration): string {
  const negative = duration.nanos < 0n;
  const nanos = negative ? -duration.nanos : duration.nanos;
  const seconds = nanos / 1_000_000_000n;
  const rest = String(nanos % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${negative ? '-' : ''}${seconds}${rest ? `.${rest}` : ''}s`;
}

/** RFC 3339 with as many digits of the second as it takes. */
export function timestampText(time: Timestamp): string {
  const billion = 1_000_000_000n;
  let rest = time.nanos % billion;
  if (rest < 0n) rest += billion;
  const seconds = (time.nanos - rest) / billion;
  const date = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const fraction = String(rest).padStart(9, '0').replace(/0+$/, '');
  return `${date}${fraction ? `.${fraction}` : ''}Z`;
}
