import { compareValues, equalValues } from '#api/cel/equal.ts';
import { type Overload, overload } from '#api/cel/function.ts';
import {
  CelError,
  CelList,
  CelMap,
  CelObject,
  checkedTime,
  Duration,
  Timestamp,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** The operators. Source: CEL language definition, "Standard definitions". */

const INT_MIN = -(2n ** 63n);
const INT_MAX = 2n ** 63n - 1n;
const UINT_MAX = 2n ** 64n - 1n;

export const int = (value: bigint): Value =>
  value < INT_MIN || value > INT_MAX ? new CelError('integer overflow') : value;
export const uint = (value: bigint): Value =>
  value < 0n || value > UINT_MAX ? new CelError('unsigned integer overflow') : new Uint(value);
const duration = (nanos: bigint): Value =>
  nanos < INT_MIN || nanos > INT_MAX ? new CelError('duration overflow') : new Duration(nanos);

const arithmetic: Overload[] = [
  overload('_+_', '(int, int) int', (a: bigint, b: bigint) => int(a + b)),
  overload('_+_', '(uint, uint) uint', (a: Uint, b: Uint) => uint(a.value + b.value)),
  overload('_+_', '(double, double) double', (a: number, b: number) => a + b),
  overload('_+_', '(string, string) string', (a: string, b: string) => a + b),
  overload(
    '_+_',
    '(bytes, bytes) bytes',
    (a: Uint8Array, b: Uint8Array) => new Uint8Array(Buffer.concat([a, b])),
  ),
  overload('_+_', '(list<A>, list<A>) list<A>', (a: CelList, b: CelList) => concat(a, b)),
  overload('_+_', '(duration, duration) duration', (a: Duration, b: Duration) =>
    duration(a.nanos + b.nanos),
  ),
  overload('_+_', '(timestamp, duration) timestamp', (a: Timestamp, b: Duration) =>
    checkedTime(a.nanos + b.nanos),
  ),
  overload('_+_', '(duration, timestamp) timestamp', (a: Duration, b: Timestamp) =>
    checkedTime(a.nanos + b.nanos),
  ),
  overload('_-_', '(int, int) int', (a: bigint, b: bigint) => int(a - b)),
  overload('_-_', '(uint, uint) uint', (a: Uint, b: Uint) => uint(a.value - b.value)),
  overload('_-_', '(double, double) double', (a: number, b: number) => a - b),
  overload('_-_', '(duration, duration) duration', (a: Duration, b: Duration) =>
    duration(a.nanos - b.nanos),
  ),
  overload('_-_', '(timestamp, duration) timestamp', (a: Timestamp, b: Duration) =>
    checkedTime(a.nanos - b.nanos),
  ),
  overload('_-_', '(timestamp, timestamp) duration', (a: Timestamp, b: Timestamp) =>
    duration(a.nanos - b.nanos),
  ),
  overload('_*_', '(int, int) int', (a: bigint, b: bigint) => int(a * b)),
  overload('_*_', '(uint, uint) uint', (a: Uint, b: Uint) => uint(a.value * b.value)),
  overload('_*_', '(double, double) double', (a: number, b: number) => a * b),
  overload('_/_', '(int, int) int', (a: bigint, b: bigint) =>
    b === 0n ? new CelError('division by zero') : int(a / b),
  ),
  overload('_/_', '(uint, uint) uint', (a: Uint, b: Uint) =>
    b.value === 0n ? new CelError('division by zero') : uint(a.value / b.value),
  ),
  overload('_/_', '(double, double) double', (a: number, b: number) => a / b),
  overload('_%_', '(int, int) int', (a: bigint, b: bigint) =>
    b === 0n ? new CelError('modulus by zero') : int(a % b),
  ),
  overload('_%_', '(uint, uint) uint', (a: Uint, b: Uint) =>
    b.value === 0n ? new CelError('modulus by zero') : uint(a.value % b.value),
  ),
  overload('-_', '(int) int', (a: bigint) => int(-a)),
  overload('-_', '(double) double', (a: number) => -a),
  overload('!_', '(bool) bool', (a: boolean) => !a),
];

/** Lists of a schema that are sets or maps are merged, as server-side apply would. */
function concat(a: CelList, b: CelList): CelList {
  const type = a.type;
  if (!type?.listType) return new CelList([...a, ...b]);
  const items = [...a];
  for (const item of b) {
    const at = items.findIndex((one) =>
      type.listType === 'set' ? equalValues(one, item) : sameItem(one, item, type.mapKeys ?? []),
    );
    if (at < 0) items.push(item);
    else items[at] = item;
  }
  return new CelList(items, null, type);
}

function sameItem(a: Value, b: Value, keys: readonly string[]): boolean {
  const read = (value: Value, key: string): Value =>
    value instanceof CelMap || value instanceof CelObject ? (value.get(key) ?? null) : null;
  return keys.every((key) => equalValues(read(a, key), read(b, key)));
}

const ORDERED = ['bool', 'bytes', 'duration', 'string', 'timestamp'];
const NUMBERS = ['int', 'uint', 'double'];

const TESTS: Readonly<Record<string, (order: number) => boolean>> = {
  '_<_': (order) => order < 0,
  '_<=_': (order) => order <= 0,
  '_>_': (order) => order > 0,
  '_>=_': (order) => order >= 0,
};

const comparisons: Overload[] = Object.entries(TESTS).flatMap(([name, test]) => {
  const run = (a: Value, b: Value): Value => {
    const order = compareValues(a, b);
    return order instanceof CelError ? order : test(order);
  };
  return [
    ...ORDERED.map((type) => overload(name, `(${type}, ${type}) bool`, run)),
    ...NUMBERS.flatMap((a) => NUMBERS.map((b) => overload(name, `(${a}, ${b}) bool`, run))),
  ];
});

const general: Overload[] = [
  overload('_==_', '(A, A) bool', (a: Value, b: Value) => equalValues(a, b)),
  overload('_!=_', '(A, A) bool', (a: Value, b: Value) => !equalValues(a, b)),
  overload('_&&_', '(bool, bool) bool', (a: boolean, b: boolean) => a && b),
  overload('_||_', '(bool, bool) bool', (a: boolean, b: boolean) => a || b),
  overload('_?_:_', '(bool, A, A) A', (test: boolean, yes: Value, no: Value) => (test ? yes : no)),
  overload('@not_strictly_false', '(bool) bool', (value: boolean) => value),
  overload('@in', '(A, list<A>) bool', (item: Value, list: CelList) => {
    for (const one of list) if (equalValues(one, item)) return true;
    return false;
  }),
  overload('@in', '(A, map<A, B>) bool', (key: Value, map: CelMap | CelObject) =>
    map instanceof CelMap ? map.has(key) : typeof key === 'string' && map.get(key) !== undefined,
  ),
  overload('_[_]', '(list<A>, int) A', (list: CelList, index: bigint) => itemAt(list, index)),
  overload('_[_]', '(map<A, B>, A) B', (map: CelMap | CelObject, key: Value) => valueAt(map, key)),
  overload(
    'cel.@mapInsert',
    '(map<A, B>, A, B) map<A, B>',
    (map: CelMap, key: Value, value: Value) =>
      map.has(key) ? repeated(key) : CelMap.insert(map, key, value),
  ),
  overload('cel.@mapInsert', '(map<A, B>, map<A, B>) map<A, B>', (map: CelMap, more: CelMap) => {
    let result = map;
    for (const key of more.keys()) {
      if (result.has(key)) return repeated(key);
      result = CelMap.insert(result, key, more.get(key) ?? null);
    }
    return result;
  }),
];

const repeated = (key: Value): CelError =>
  new CelError(`insert failed: key ${String(key)} already exists`);

/** An item of a list. Numbers without a fraction will do where the index is not known to be int. */
export function itemAt(list: CelList, index: Value): Value {
  const at = index instanceof Uint ? index.value : index;
  const whole = typeof at === 'bigint' || (typeof at === 'number' && Number.isInteger(at));
  if (!whole) return new CelError(`unsupported index type '${typeof at}' in list`);
  if (at < 0 || at >= list.length) return new CelError(`index out of bounds: ${at}`);
  return list.at(Number(at));
}

export function valueAt(map: CelMap | CelObject, key: Value): Value {
  const found =
    map instanceof CelMap ? map.get(key) : typeof key === 'string' ? map.get(key) : undefined;
  if (found !== undefined) return found;
  return new CelError(`no such key: ${key instanceof Uint ? key.value : String(key)}`);
}

export const operators: readonly Overload[] = [...arithmetic, ...comparisons, ...general];
