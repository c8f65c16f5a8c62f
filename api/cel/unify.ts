import {
  type CelType,
  DYN,
  formatType,
  listOf,
  mapOf,
  optionalOf,
  parametersOf,
  sameType,
  typeOf,
} from '#api/cel/types.ts';

/** What type parameters have been found to stand for, by their names. */
export type Bindings = Map<string, CelType>;

/** Whether every type can be what the other list has in its place; binds parameters if so. */
export function unifyAll(
  bindings: Bindings,
  from: readonly CelType[],
  to: readonly CelType[],
): boolean {
  const trial = new Map(bindings);
  if (!assignableAll(trial, from, to)) return false;
  for (const [name, type] of trial) bindings.set(name, type);
  return true;
}

export const unify = (bindings: Bindings, from: CelType, to: CelType): boolean =>
  unifyAll(bindings, [from], [to]);

function assignableAll(
  bindings: Bindings,
  from: readonly CelType[],
  to: readonly CelType[],
): boolean {
  if (from.length !== to.length) return false;
  return from.every((one, i) => {
    const other = to[i];
    return other !== undefined && assignable(bindings, one, other);
  });
}

const isWildcard = (type: CelType): boolean => type.kind === 'dyn' || type.kind === 'error';

function assignable(bindings: Bindings, from: CelType, to: CelType): boolean {
  if (to.kind === 'param') {
    const { valid, known } = substitution(bindings, from, to);
    if (valid) return true;
    if (known) return false;
  }
  if (from.kind === 'param') return substitution(bindings, to, from).valid;
  if (isWildcard(from) || isWildcard(to)) return true;
  if (from.kind === 'null') return isNullable(to);
  if (to.kind === 'null') return isNullable(from);
  if (from.kind === 'type') return to.kind === 'type';
  if (from.kind !== to.kind) return false;
  if (from.kind === 'opaque' || from.kind === 'object') return sameType(from, to);
  return assignableAll(bindings, parametersOf(from), parametersOf(to));
}

const NULLABLE = new Set(['null', 'opaque', 'object', 'optional', 'duration', 'timestamp']);
const isNullable = (type: CelType): boolean => NULLABLE.has(type.kind);

/** Whether `param` is or may become `type`, and whether it stood for something before. */
function substitution(
  bindings: Bindings,
  type: CelType,
  param: Extract<CelType, { kind: 'param' }>,
): { valid: boolean; known: boolean } {
  if (sameType(type, param)) return { valid: true, known: true };
  const bound = bindings.get(param.name);
  if (bound) {
    if (sameType(type, bound)) return { valid: true, known: true };
    if (!assignable(bindings, type, bound)) return { valid: false, known: true };
    const general = mostGeneral(type, bound);
    if (!occursIn(bindings, param, general)) bindings.set(param.name, general);
    return { valid: true, known: true };
  }
  if (occursIn(bindings, param, type)) return { valid: false, known: false };
  bindings.set(param.name, type);
  return { valid: true, known: false };
}

function occursIn(bindings: Bindings, param: CelType, type: CelType): boolean {
  if (sameType(param, type)) return true;
  if (type.kind === 'param') {
    const bound = bindings.get(type.name);
    return bound !== undefined && occursIn(bindings, param, bound);
  }
  return parametersOf(type).some((part) => occursIn(bindings, param, part));
}

/** Of two types that agree, the one that says less. */
export const mostGeneral = (a: CelType, b: CelType): CelType => (saysLess(a, b) ? a : b);

function saysLess(a: CelType, b: CelType): boolean {
  if (a.kind === 'dyn' || a.kind === 'param') return true;
  if (b.kind === 'dyn' || b.kind === 'param') return false;
  if (a.kind !== b.kind) return false;
  if (a.kind === 'type') return true;
  if (['list', 'map', 'optional'].includes(a.kind)) {
    const parts = parametersOf(b);
    return parametersOf(a).every((part, i) => saysLess(part, parts[i] ?? DYN));
  }
  return formatType(a) === formatType(b);
}

/** A type with its parameters replaced by what they stand for; unbound ones by dyn if asked. */
export function substitute(bindings: Bindings, type: CelType, unboundToDyn: boolean): CelType {
  switch (type.kind) {
    case 'param': {
      const bound = bindings.get(type.name);
      if (bound) return substitute(bindings, bound, unboundToDyn);
      return unboundToDyn ? DYN : type;
    }
    case 'list': {
      const element = substitute(bindings, type.element, unboundToDyn);
      return element === type.element ? type : listOf(element);
    }
    case 'map': {
      const key = substitute(bindings, type.key, unboundToDyn);
      const value = substitute(bindings, type.value, unboundToDyn);
      return key === type.key && value === type.value ? type : mapOf(key, value);
    }
    case 'optional': {
      const value = substitute(bindings, type.value, unboundToDyn);
      return value === type.value ? type : optionalOf(value);
    }
    case 'type':
      return type.of ? typeOf(substitute(bindings, type.of, unboundToDyn)) : type;
    default:
      return type;
  }
}
