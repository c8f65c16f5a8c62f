import { type Overload, overload } from '#api/cel/function.ts';
import { itemAt } from '#api/cel/std.ts';
import {
  CelError,
  CelList,
  CelMap,
  CelObject,
  Duration,
  NONE,
  Opaque,
  Optional,
  Timestamp,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** Values that may be missing. Source: cel-go "OptionalTypes". */

function isZero(value: Value): boolean {
  if (value === null || value === false || value === '' || value === 0n || value === 0) return true;
  if (value instanceof CelList || value instanceof Uint8Array) return value.length === 0;
  if (value instanceof CelMap) return value.size === 0;
  if (value instanceof CelObject) return value.names().length === 0;
  if (value instanceof Uint) return value.value === 0n;
  if (value instanceof Duration || value instanceof Timestamp) return value.nanos === 0n;
  if (value instanceof Opaque) return false;
  return value instanceof Optional && value.value === undefined;
}

const missing = (): CelError => new CelError('optional.none() dereference');

function optionalIndex(container: Value, index: Value): Value {
  const inner = container instanceof Optional ? container.value : container;
  if (inner === undefined) return NONE;
  if (inner instanceof CelList) {
    const item = itemAt(inner, index);
    return item instanceof CelError ? NONE : new Optional(item);
  }
  if (inner instanceof CelMap) return wrap(inner.get(index));
  if (inner instanceof CelObject && typeof index === 'string') return wrap(inner.get(index));
  return new CelError('no such overload');
}

const wrap = (value: Value | undefined): Value =>
  value === undefined ? NONE : new Optional(value);

function plainIndex(container: Optional, index: Value): Value {
  return optionalIndex(container, index);
}

export const optionalFunctions: readonly Overload[] = [
  overload('optional.none', '() optional<A>', () => NONE),
  overload('optional.of', '(A) optional<A>', (value: Value) => new Optional(value)),
  overload('optional.ofNonZeroValue', '(A) optional<A>', (value: Value) =>
    isZero(value) ? NONE : new Optional(value),
  ),
  overload('hasValue', 'optional<A>.() bool', (one: Optional) => one.value !== undefined),
  overload('value', 'optional<A>.() A', (one: Optional) =>
    one.value === undefined ? missing() : one.value,
  ),
  overload('or', 'optional<A>.(optional<A>) optional<A>', (one: Optional, other: Optional) =>
    one.value === undefined ? other : one,
  ),
  overload('orValue', 'optional<A>.(A) A', (one: Optional, other: Value) =>
    one.value === undefined ? other : one.value,
  ),
  overload('_[?_]', '(list<A>, int) optional<A>', optionalIndex),
  overload('_[?_]', '(optional<list<A>>, int) optional<A>', optionalIndex),
  overload('_[?_]', '(map<A, B>, A) optional<B>', optionalIndex),
  overload('_[?_]', '(optional<map<A, B>>, A) optional<B>', optionalIndex),
  overload('_[_]', '(optional<list<A>>, int) optional<A>', plainIndex),
  overload('_[_]', '(optional<map<A, B>>, A) optional<B>', plainIndex),
  overload('first', 'list<A>.() optional<A>', (list: CelList) =>
    list.length > 0 ? new Optional(list.at(0)) : NONE,
  ),
  overload('last', 'list<A>.() optional<A>', (list: CelList) =>
    list.length > 0 ? new Optional(list.at(list.length - 1)) : NONE,
  ),
];
