import {
  CelError,
  CelList,
  CelMap,
  CelObject,
  Duration,
  Opaque,
  Optional,
  Timestamp,
  TypeValue,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** Whether two values are equal; numbers of different types by their size. Errors never get here. */
export function equalValues(a: Value, b: Value): boolean {
  if (a === b) return true;
  const numbers = compareNumbers(a, b);
  if (numbers !== null) return numbers === 0;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (a instanceof CelList) return b instanceof CelList && equalLists(a, b);
  if (a instanceof CelMap) return b instanceof CelMap && equalMaps(a, b);
  if (a instanceof CelObject) return b instanceof CelObject && equalObjects(a, b);
  if (a instanceof Timestamp) return b instanceof Timestamp && a.nanos === b.nanos;
  if (a instanceof Duration) return b instanceof Duration && a.nanos === b.nanos;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
  if (a instanceof TypeValue) return b instanceof TypeValue && a.name === b.name;
  if (a instanceof Opaque) return b instanceof Opaque && a.type === b.type && a.equals(b.value);
  if (a instanceof Optional) {
    if (!(b instanceof Optional)) return false;
    if (a.value === undefined || b.value === undefined) return a.value === b.value;
    return equalValues(a.value, b.value);
  }
  return false;
}

function equalLists(a: CelList, b: CelList): boolean {
  if (a.length !== b.length) return false;
  const type = a.type ?? b.type;
  if (type?.listType) {
    const keys = type.listType === 'map' ? (type.mapKeys ?? []) : null;
    const others = [...b];
    for (const item of a) {
      const found = others.findIndex((other) =>
        keys ? sameKeys(item, other, keys) : equalValues(item, other),
      );
      if (found < 0 || !equalValues(item, others[found] as Value)) return false;
      others.splice(found, 1);
    }
    return true;
  }
  for (let i = 0; i < a.length; i++) if (!equalValues(a.at(i), b.at(i))) return false;
  return true;
}

/** Whether two items of a list of type map are the same item. */
export function sameKeys(a: Value, b: Value, keys: readonly string[]): boolean {
  return keys.every((key) => {
    const left = fieldOf(a, key);
    const right = fieldOf(b, key);
    if (left === undefined || right === undefined) return left === right;
    return equalValues(left, right);
  });
}

function fieldOf(value: Value, name: string): Value | undefined {
  return value instanceof CelMap || value instanceof CelObject ? value.get(name) : undefined;
}

function equalMaps(a: CelMap, b: CelMap): boolean {
  if (a.size !== b.size) return false;
  return a.keys().every((key) => {
    const left = a.get(key);
    const right = b.get(key);
    return left !== undefined && right !== undefined && equalValues(left, right);
  });
}

function equalObjects(a: CelObject, b: CelObject): boolean {
  const names = a.names();
  if (names.length !== b.names().length) return false;
  return names.every((name) => {
    const left = a.get(name);
    const right = b.get(name);
    return left !== undefined && right !== undefined && equalValues(left, right);
  });
}

const isNumber = (value: Value): value is bigint | number | Uint =>
  typeof value === 'bigint' || typeof value === 'number' || value instanceof Uint;

/** Negative, zero or positive; null when one is no number; NaN when one is NaN. */
export function compareNumbers(a: Value, b: Value): number | null {
  if (!isNumber(a) || !isNumber(b)) return null;
  const left = a instanceof Uint ? a.value : a;
  const right = b instanceof Uint ? b.value : b;
  if (Number.isNaN(left) || Number.isNaN(right)) return Number.NaN;
  // JavaScript compares a bigint with a number by their exact sizes.
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Order of two values of one type; an error where they have none. */
export function compareValues(a: Value, b: Value): number | CelError {
  const numbers = compareNumbers(a, b);
  if (numbers !== null) return numbers;
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b);
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b);
  if (a instanceof Timestamp && b instanceof Timestamp) return sign(a.nanos - b.nanos);
  if (a instanceof Duration && b instanceof Duration) return sign(a.nanos - b.nanos);
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b);
  return new CelError('no such overload');
}

const sign = (value: bigint): number => (value < 0n ? -1 : value > 0n ? 1 : 0);

/** By code point: JavaScript's own order is by UTF-16 unit. */
function compareText(a: string, b: string): number {
  if (a === b) return 0;
  for (let i = 0; i < a.length && i < b.length; i++) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left === right) continue;
    const leftHigh = left >= 0xd800 && left < 0xe000;
    const rightHigh = right >= 0xd800 && right < 0xe000;
    if (leftHigh !== rightHigh)
      return leftHigh ? (right >= 0xe000 ? -1 : 1) : left >= 0xe000 ? 1 : -1;
    return left - right;
  }
  return a.length - b.length;
}
