import { compareValues, equalValues } from '#api/cel/equal.ts';
import { type Overload, overload } from '#api/cel/function.ts';
import { int } from '#api/cel/std.ts';
import { CelError, CelList, Duration, Uint, type Value } from '#api/cel/values.ts';

/** Lists and sets. Source: Kubernetes CEL "lists" library; cel-go "Lists" 3 and "Sets". */

const COMPARABLE = ['int', 'uint', 'double', 'bool', 'duration', 'timestamp', 'string', 'bytes'];
const SUMMABLE = ['int', 'uint', 'double', 'duration'];

function isSorted(list: CelList): Value {
  for (let i = 1; i < list.length; i++) {
    const order = compareValues(list.at(i - 1), list.at(i));
    if (order instanceof CelError) return order;
    if (order > 0) return false;
  }
  return true;
}

function extreme(list: CelList, name: 'max' | 'min'): Value {
  if (list.length === 0) return new CelError(`${name} called on empty list`);
  let best = list.at(0);
  for (let i = 1; i < list.length; i++) {
    const order = compareValues(list.at(i), best);
    if (order instanceof CelError) return order;
    if (name === 'max' ? order > 0 : order < 0) best = list.at(i);
  }
  return best;
}

function sum(list: CelList, type: string): Value {
  if (type === 'double') {
    let total = 0;
    for (const item of list) total += Number(item);
    return total;
  }
  let total = 0n;
  for (const item of list) {
    if (typeof item === 'bigint') total += item;
    else if (item instanceof Uint) total += item.value;
    else if (item instanceof Duration) total += item.nanos;
    const whole = int(total);
    if (whole instanceof CelError) return whole;
  }
  if (type === 'uint') return new Uint(total);
  return type === 'duration' ? new Duration(total) : total;
}

function position(list: CelList, wanted: Value, last: boolean): bigint {
  for (let n = 0; n < list.length; n++) {
    const i = last ? list.length - 1 - n : n;
    if (equalValues(list.at(i), wanted)) return BigInt(i);
  }
  return -1n;
}

function slice(list: CelList, start: bigint, end: bigint): Value {
  const range = (text: string): CelError => new CelError(`cannot slice(${start}, ${end}), ${text}`);
  if (start < 0n || end < 0n) return range('negative indexes not supported');
  if (start > end) return range('start index must be less than or equal to end index');
  if (end > BigInt(list.length)) return range(`list is length ${list.length}`);
  return new CelList([...list].slice(Number(start), Number(end)));
}

function flatten(list: CelList, depth: bigint): Value {
  if (depth < 0n) return new CelError('level must be non-negative');
  const items: Value[] = [];
  for (const item of list) {
    if (!(item instanceof CelList) || depth === 0n) items.push(item);
    else {
      const inner = flatten(item, depth - 1n);
      if (inner instanceof CelList) for (const one of inner) items.push(one);
    }
  }
  return new CelList(items);
}

function sorted(list: CelList, keys: CelList): Value {
  if (list.length !== keys.length)
    return new CelError('@sortByAssociatedKeys() expected a list of the same size');
  const pairs = [...list].map((item, i) => [item, keys.at(i)] as const);
  let failure: CelError | null = null;
  pairs.sort(([, a], [, b]) => {
    const order = compareValues(a, b);
    if (order instanceof CelError) failure = order;
    return order instanceof CelError ? 0 : order;
  });
  return failure ?? new CelList(pairs.map(([item]) => item));
}

function distinct(list: CelList): CelList {
  const items: Value[] = [];
  for (const item of list) if (!items.some((one) => equalValues(one, item))) items.push(item);
  return new CelList(items);
}

/** A range is made whole, so it is bounded. */
const MAX_RANGE = 1_000_000n;

function range(count: bigint): Value {
  if (count > MAX_RANGE) return new CelError(`lists.range() exceeds ${MAX_RANGE} items`);
  return new CelList(Array.from({ length: Math.max(Number(count), 0) }, (_, i) => BigInt(i)));
}

const includes = (list: CelList, item: Value): boolean => position(list, item, false) >= 0n;
const containsAll = (list: CelList, other: CelList): boolean =>
  [...other].every((item) => includes(list, item));

export const listFunctions: readonly Overload[] = [
  ...COMPARABLE.flatMap((type) => [
    overload('isSorted', `list<${type}>.() bool`, isSorted),
    overload('max', `list<${type}>.() ${type}`, (list: CelList) => extreme(list, 'max')),
    overload('min', `list<${type}>.() ${type}`, (list: CelList) => extreme(list, 'min')),
    overload('sort', `list<${type}>.() list<${type}>`, (list: CelList) => sorted(list, list)),
    overload('@sortByAssociatedKeys', `list<T>.(list<${type}>) list<T>`, sorted),
  ]),
  ...SUMMABLE.map((type) =>
    overload('sum', `list<${type}>.() ${type}`, (list: CelList) => sum(list, type)),
  ),
  overload('indexOf', 'list<T>.(T) int', (list: CelList, item: Value) =>
    position(list, item, false),
  ),
  overload('lastIndexOf', 'list<T>.(T) int', (list: CelList, item: Value) =>
    position(list, item, true),
  ),
  overload('slice', 'list<T>.(int, int) list<T>', slice),
  overload('flatten', 'list<list<T>>.() list<T>', (list: CelList) => flatten(list, 1n)),
  overload('flatten', 'list<dyn>.(int) list<dyn>', flatten),
  overload('reverse', 'list<T>.() list<T>', (list: CelList) => new CelList([...list].reverse())),
  overload('distinct', 'list<T>.() list<T>', distinct),
  overload('lists.range', '(int) list<int>', range),
  overload('sets.contains', '(list<T>, list<T>) bool', containsAll),
  overload(
    'sets.equivalent',
    '(list<T>, list<T>) bool',
    (a: CelList, b: CelList) => containsAll(a, b) && containsAll(b, a),
  ),
  overload('sets.intersects', '(list<T>, list<T>) bool', (a: CelList, b: CelList) =>
    [...a].some((item) => includes(b, item)),
  ),
];
