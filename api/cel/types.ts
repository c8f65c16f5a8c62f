/**
 * Types of CEL, as the checker knows them. Source: CEL language definition, "Values" and
 * "Type parameters"; the notation is that of upstream's error messages.
 */

type Sized = {
  /** Most characters, items or entries that a value can have; for the cost estimate. */
  maxElements?: number;
  /** Least bytes that a value takes in JSON; for the cost estimate. */
  minSize?: number;
};

export type CelType =
  | ({ kind: ScalarKind } & Sized)
  | ({
      kind: 'list';
      element: CelType;
      listType?: 'set' | 'map';
      mapKeys?: readonly string[];
    } & Sized)
  | ({ kind: 'map'; key: CelType; value: CelType } & Sized)
  | { kind: 'optional'; value: CelType }
  | { kind: 'type'; of: CelType | null }
  | { kind: 'param'; name: string }
  /** Types that only functions make: kubernetes.URL, net.IP, ... */
  | { kind: 'opaque'; name: string }
  | ObjectType;

export type ScalarKind =
  | 'bool'
  | 'bytes'
  | 'double'
  | 'duration'
  | 'dyn'
  | 'error'
  | 'int'
  | 'null'
  | 'string'
  | 'timestamp'
  | 'uint';

/** Fields of an object; a type may know every name there can be. */
export type FieldTypes = Pick<ReadonlyMap<string, CelType>, 'get' | 'keys'>;

/** Types that `Name{field: value}` makes; there may be one for every name there can be. */
export type StructTypes = { get(name: string): ObjectType | undefined };

/** An object with declared fields, by their CEL names. */
export type ObjectType = {
  kind: 'object';
  name: string;
  fields: FieldTypes;
  /** The JSON name of a field, where it differs from the CEL name. */
  jsonNames?: ReadonlyMap<string, string>;
} & Sized;

export const BOOL: CelType = { kind: 'bool', minSize: 4 };
export const BYTES: CelType = { kind: 'bytes' };
export const DOUBLE: CelType = { kind: 'double', minSize: 1 };
export const DURATION: CelType = { kind: 'duration' };
export const DYN: CelType = { kind: 'dyn' };
export const ERROR: CelType = { kind: 'error' };
export const INT: CelType = { kind: 'int', minSize: 1 };
export const NULL: CelType = { kind: 'null' };
export const STRING: CelType = { kind: 'string' };
export const TIMESTAMP: CelType = { kind: 'timestamp' };
export const UINT: CelType = { kind: 'uint' };

export const listOf = (element: CelType): CelType => ({ kind: 'list', element });
export const mapOf = (key: CelType, value: CelType): CelType => ({ kind: 'map', key, value });
export const optionalOf = (value: CelType): CelType => ({ kind: 'optional', value });
export const typeOf = (of: CelType | null): CelType => ({ kind: 'type', of });
export const opaque = (name: string): CelType => ({ kind: 'opaque', name });

/** Declares an object type from its fields. */
export function objectType(name: string, fields: Readonly<Record<string, CelType>>): ObjectType {
  return { kind: 'object', name, fields: new Map(Object.entries(fields)) };
}

/** As in `found no matching overload for '_+_' applied to '(list(int), string)'`. */
export function formatType(type: CelType): string {
  switch (type.kind) {
    case 'list':
      return `list(${formatType(type.element)})`;
    case 'map':
      return `map(${formatType(type.key)}, ${formatType(type.value)})`;
    case 'optional':
      return `optional_type(${formatType(type.value)})`;
    case 'type':
      return type.of ? `type(${formatType(type.of)})` : 'type';
    case 'error':
      return '!error!';
    case 'param':
    case 'opaque':
    case 'object':
      return type.name;
    default:
      return type.kind;
  }
}

/** The types a type is made of. */
export function parametersOf(type: CelType): readonly CelType[] {
  switch (type.kind) {
    case 'list':
      return [type.element];
    case 'map':
      return [type.key, type.value];
    case 'optional':
      return [type.value];
    case 'type':
      return type.of ? [type.of] : [];
    default:
      return [];
  }
}

export function sameType(a: CelType, b: CelType): boolean {
  if (a === b) return true;
  if (a.kind !== b.kind) return false;
  if ('name' in a && 'name' in b) return a.name === b.name;
  const left = parametersOf(a);
  const right = parametersOf(b);
  return (
    left.length === right.length &&
    left.every((one, i) => {
      const other = right[i];
      return other !== undefined && sameType(one, other);
    })
  );
}

const SCALARS: Readonly<Record<string, CelType>> = {
  bool: BOOL,
  bytes: BYTES,
  double: DOUBLE,
  duration: DURATION,
  dyn: DYN,
  int: INT,
  null: NULL,
  string: STRING,
  timestamp: TIMESTAMP,
  uint: UINT,
};

/** Reads the notation of function declarations: `list<A>`, `map<A,B>`, `optional<A>`, `net.IP`. */
export function parseType(text: string): CelType {
  const open = text.indexOf('<');
  if (open < 0) {
    const scalar = SCALARS[text];
    if (scalar) return scalar;
    if (text === 'type') return typeOf(null);
    return /^[A-Z]$/.test(text) ? { kind: 'param', name: text } : opaque(text);
  }
  const name = text.slice(0, open);
  const [first = DYN, second = DYN] = splitTypes(text.slice(open + 1, -1)).map(parseType);
  if (name === 'list') return listOf(first);
  if (name === 'map') return mapOf(first, second);
  if (name === 'optional') return optionalOf(first);
  return typeOf(first);
}

/** Splits at the commas that are not inside of `<>`. */
export function splitTypes(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = '';
  for (const letter of text) {
    if (letter === '<') depth++;
    if (letter === '>') depth--;
    if (letter === ',' && depth === 0) {
      parts.push(part.trim());
      part = '';
    } else part += letter;
  }
  if (part.trim()) parts.push(part.trim());
  return parts;
}
