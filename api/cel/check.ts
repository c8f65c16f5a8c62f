import { ACCUMULATOR, type Expr, type Fold, type Problem } from '#api/cel/ast.ts';
import type { Functions, Overload } from '#api/cel/function.ts';
import { regexOf } from '#api/cel/regex.ts';
import {
  BOOL,
  BYTES,
  type CelType,
  DOUBLE,
  DYN,
  ERROR,
  formatType,
  INT,
  listOf,
  mapOf,
  NULL,
  type StructTypes,
  optionalOf,
  parseType,
  STRING,
  TIMESTAMP,
  DURATION,
  typeOf,
  UINT,
} from '#api/cel/types.ts';
import { type Bindings, mostGeneral, substitute, unify, unifyAll } from '#api/cel/unify.ts';
import { CelError, durationOf, timestampOf, Uint } from '#api/cel/values.ts';

/** What an expression may refer to. */
export type Scope = {
  /** Types of variables, by name; names may have dots. */
  variables: ReadonlyMap<string, CelType>;
  functions: Functions;
  /** Object types that `Name{field: value}` may construct. */
  structs?: StructTypes;
};

/** What a name or call was found to mean. */
export type Reference =
  | { kind: 'variable'; name: string }
  | { kind: 'local'; name: string }
  | { kind: 'type'; name: string }
  | { kind: 'overloads'; overloads: readonly Overload[]; args: readonly Expr[] };

export type Checked = {
  types: ReadonlyMap<Expr, CelType>;
  references: ReadonlyMap<Expr, Reference>;
  problems: Problem[];
};

/** Names of types that expressions may compare with `type(x)`. */
const TYPE_NAMES: ReadonlyMap<string, CelType> = new Map([
  ...['bool', 'bytes', 'double', 'int', 'string', 'uint', 'dyn'].map(
    (name) => [name, parseType(name)] as const,
  ),
  ['list', listOf(DYN)],
  ['map', mapOf(DYN, DYN)],
  ['null_type', NULL],
  ['type', typeOf(null)],
  ['optional_type', optionalOf(DYN)],
  ['google.protobuf.Timestamp', TIMESTAMP],
  ['google.protobuf.Duration', DURATION],
  ...['kubernetes.URL', 'net.IP', 'net.CIDR', 'kubernetes.Quantity', 'kubernetes.Semver'].map(
    (name) => [name, parseType(name)] as const,
  ),
]);

/** Gives every part of an expression its type. Source: CEL language definition, "Type checking". */
export function checkCel(expr: Expr, scope: Scope): Checked {
  const checker = new Checker(scope);
  checker.check(expr);
  return checker.finish();
}

class Checker {
  #scope: Scope;
  #locals: ReadonlyMap<string, CelType>[] = [];
  #types = new Map<Expr, CelType>();
  #references = new Map<Expr, Reference>();
  #problems: Problem[] = [];
  #bindings: Bindings = new Map();
  #free = 0;
  /** How many calls of format() the expression at hand is an argument of. */
  #formatting = 0;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  finish(): Checked {
    for (const [expr, type] of this.#types) {
      this.#types.set(expr, substitute(this.#bindings, type, true));
    }
    const problems = this.#problems.sort((a, b) => a.at - b.at);
    return { types: this.#types, references: this.#references, problems };
  }

  #report(at: number, message: string): CelType {
    this.#problems.push({ at, message });
    return ERROR;
  }

  #undeclared(at: number, name: string): CelType {
    return this.#report(at, `undeclared reference to '${name}' (in container '')`);
  }

  check(expr: Expr): CelType {
    const type = this.#typeOf(expr);
    this.#types.set(expr, type);
    return type;
  }

  #typeOf(expr: Expr): CelType {
    switch (expr.kind) {
      case 'literal':
        return literalType(expr.value);
      case 'ident':
        return this.#name(expr, expr.name) ?? this.#undeclared(expr.at, expr.name);
      case 'select':
        return this.#select(expr);
      case 'call':
        return this.#call(expr);
      case 'list':
        return this.#list(expr);
      case 'map':
        return this.#map(expr);
      case 'struct':
        return this.#struct(expr);
      case 'fold':
        return this.#fold(expr);
    }
  }

  /** What a possibly dotted name means, if anything. */
  #name(expr: Expr, spelled: string): CelType | null {
    const name = spelled.startsWith('.') ? spelled.slice(1) : spelled;
    if (name === spelled) {
      for (let i = this.#locals.length - 1; i >= 0; i--) {
        const local = this.#locals[i]?.get(name);
        if (!local) continue;
        this.#references.set(expr, { kind: 'local', name });
        return local;
      }
    }
    const variable = this.#scope.variables.get(name);
    if (variable) {
      this.#references.set(expr, { kind: 'variable', name });
      return variable;
    }
    const named = TYPE_NAMES.get(name) ?? this.#scope.structs?.get(name);
    if (!named) return null;
    this.#references.set(expr, { kind: 'type', name });
    return typeOf(named);
  }

  #select(expr: Extract<Expr, { kind: 'select' }>): CelType {
    const dotted = expr.testOnly ? null : qualifiedName(expr);
    if (dotted !== null && !this.#isLocal(dotted)) {
      const named = this.#name(expr, dotted);
      if (named) return named;
    }
    const type = this.#field(expr, expr.operand, expr.field, false);
    return expr.testOnly ? BOOL : substitute(this.#bindings, type, false);
  }

  /** Whether the first word of a dotted name is a loop's variable, which hides all else. */
  #isLocal(dotted: string): boolean {
    const first = dotted.split('.', 1)[0] ?? '';
    return this.#locals.some((scope) => scope.has(first));
  }

  #field(expr: Expr, operand: Expr, field: string, optional: boolean): CelType {
    const type = substitute(this.#bindings, this.check(operand), false);
    const target = type.kind === 'optional' ? type.value : type;
    const found = this.#fieldOf(expr.at, target, field);
    return type.kind === 'optional' || optional ? optionalOf(found) : found;
  }

  #fieldOf(at: number, target: CelType, field: string): CelType {
    switch (target.kind) {
      case 'map':
        return target.value;
      case 'object':
        return target.fields.get(field) ?? this.#report(at, `undefined field '${field}'`);
      case 'param':
        unify(this.#bindings, DYN, target);
        return DYN;
      case 'dyn':
      case 'error':
        return DYN;
      default:
        this.#report(at, `type '${formatType(target)}' does not support field selection`);
        return DYN;
    }
  }

  #call(expr: Extract<Expr, { kind: 'call' }>): CelType {
    const { name, target, args } = expr;
    if (name === '_?._') {
      const [operand, field] = args;
      if (!operand || field?.kind !== 'literal' || typeof field.value !== 'string') return ERROR;
      return substitute(this.#bindings, this.#field(expr, operand, field.value, true), false);
    }
    const formats = name === 'format' && target !== null ? 1 : 0;
    this.#formatting += formats;
    for (const arg of args) this.check(arg);
    this.#formatting -= formats;
    this.#checkLiterals(name, args);
    const { functions } = this.#scope;
    if (!target) {
      const found = functions.get(name.startsWith('.') ? name.slice(1) : name);
      if (!found) return this.#undeclared(expr.at, name);
      return this.#resolve(expr, name, found, false, args);
    }
    const prefix = qualifiedName(target);
    const namespaced = prefix === null ? '' : `${prefix}.${name}`;
    const qualified = functions.get(namespaced);
    if (qualified) return this.#resolve(expr, namespaced, qualified, false, args);
    this.check(target);
    const found = functions.get(name);
    if (!found) return this.#undeclared(expr.at, name);
    return this.#resolve(expr, name, found, true, [target, ...args]);
  }

  /** Constants that can only fail are refused at once. */
  #checkLiterals(name: string, args: readonly Expr[]): void {
    const [arg] = args;
    if (args.length !== 1 || arg?.kind !== 'literal' || typeof arg.value !== 'string') return;
    const parse = LITERAL_CHECKS[name];
    if (parse?.(arg.value) instanceof CelError) this.#report(arg.at, `invalid ${name} argument`);
  }

  #resolve(
    expr: Expr,
    name: string,
    candidates: readonly Overload[],
    member: boolean,
    args: readonly Expr[],
  ): CelType {
    const argTypes = args.map((arg) => this.#types.get(arg) ?? ERROR);
    if (name === '_&&_' || name === '_||_') {
      this.#references.set(expr, { kind: 'overloads', overloads: candidates, args });
      return this.#logic(args, argTypes);
    }
    let result: CelType | null = null;
    const overloads: Overload[] = [];
    for (const overload of candidates) {
      if (overload.member !== member) continue;
      const fresh: Bindings = new Map();
      for (const parameter of overload.parameters) fresh.set(parameter, this.#freeType());
      const wanted = overload.args.map((type) => substitute(fresh, type, false));
      if (!unifyAll(this.#bindings, argTypes, wanted)) continue;
      overloads.push(overload);
      const type = substitute(this.#bindings, substitute(fresh, overload.result, false), false);
      if (!result) result = type;
      else if (result.kind !== 'dyn' && formatType(result) !== formatType(type)) result = DYN;
    }
    if (!result) return this.#noOverload(expr.at, name, argTypes, member);
    this.#references.set(expr, { kind: 'overloads', overloads, args });
    return result;
  }

  #logic(args: readonly Expr[], types: readonly CelType[]): CelType {
    let result: CelType = BOOL;
    args.forEach((arg, i) => {
      const type = types[i] ?? ERROR;
      if (unify(this.#bindings, type, BOOL)) return;
      result = this.#report(arg.at, `expected type 'bool' but found '${formatType(type)}'`);
    });
    return result;
  }

  #noOverload(at: number, name: string, types: readonly CelType[], member: boolean): CelType {
    const texts = types.map((type) => formatType(substitute(this.#bindings, type, true)));
    const receiver = member ? `${texts.shift()}.` : '';
    const applied = `${receiver}(${texts.join(', ')})`;
    return this.#report(at, `found no matching overload for '${name}' applied to '${applied}'`);
  }

  #freeType(): CelType {
    return { kind: 'param', name: `_var${this.#free++}` };
  }

  #list(expr: Extract<Expr, { kind: 'list' }>): CelType {
    let element: CelType | null = null;
    expr.elements.forEach((item, i) => {
      const type = this.#unwrap(item, expr.optional?.has(i) ?? false);
      element = this.#join(item, element, type);
    });
    return listOf(element ?? this.#freeType());
  }

  #map(expr: Extract<Expr, { kind: 'map' }>): CelType {
    let key: CelType | null = null;
    let value: CelType | null = null;
    for (const entry of expr.entries) {
      key = this.#join(entry.key, key, this.check(entry.key));
      value = this.#join(entry.value, value, this.#unwrap(entry.value, entry.optional));
    }
    return mapOf(key ?? this.#freeType(), value ?? this.#freeType());
  }

  /** The type of a part; of what it holds if it is marked with `?`. */
  #unwrap(expr: Expr, optional: boolean): CelType {
    const type = this.check(expr);
    if (!optional) return type;
    if (type.kind === 'optional') return type.value;
    if (type.kind !== 'dyn') this.#mismatch(expr.at, optionalOf(type), type);
    return type;
  }

  #mismatch(at: number, expected: CelType, found: CelType): CelType {
    const text = `expected type '${formatType(expected)}' but found '${formatType(found)}'`;
    return this.#report(at, text);
  }

  #join(expr: Expr, previous: CelType | null, current: CelType): CelType {
    if (!previous) return current;
    if (unify(this.#bindings, previous, current)) return mostGeneral(previous, current);
    return this.#mixed(expr, previous, current);
  }

  /** Lists and maps of mixed types are only for format(). */
  #mixed(expr: Expr, previous: CelType, current: CelType): CelType {
    if (this.#formatting === 0) this.#mismatch(expr.at, previous, current);
    return DYN;
  }

  #struct(expr: Extract<Expr, { kind: 'struct' }>): CelType {
    const name = expr.name.startsWith('.') ? expr.name.slice(1) : expr.name;
    const type = this.#scope.structs?.get(name);
    if (!type) {
      const builtin = TYPE_NAMES.get(name);
      for (const field of expr.fields) this.check(field.value);
      if (builtin) return this.#report(expr.at, `'${name}' is not a message type`);
      return this.#undeclared(expr.at, expr.name);
    }
    this.#references.set(expr, { kind: 'type', name });
    for (const field of expr.fields) {
      const value = this.#unwrap(field.value, field.optional);
      const wanted = type.fields.get(field.name);
      if (!wanted) this.#report(field.at, `undefined field '${field.name}'`);
      else if (!unify(this.#bindings, wanted, value)) {
        const texts = [wanted, value].map((one) =>
          formatType(substitute(this.#bindings, one, true)),
        );
        const message = `expected type of field '${field.name}' is '${texts[0]}' but provided type is '${texts[1]}'`;
        this.#report(field.at, message);
      }
    }
    return type;
  }

  #fold(expr: Fold): CelType {
    const range = substitute(this.#bindings, this.check(expr.range), false);
    const accumulator = this.check(expr.init);
    this.#locals.push(new Map([[ACCUMULATOR, accumulator]]));
    const [first, second] = this.#items(expr, range);
    const loop = new Map([[expr.variable, first]]);
    if (expr.variable2 !== null) loop.set(expr.variable2, second);
    this.#locals.push(loop);
    this.#assert(expr.condition, BOOL);
    this.#assert(expr.step, accumulator);
    this.#locals.pop();
    const result = this.check(expr.result);
    this.#locals.pop();
    return substitute(this.#bindings, result, false);
  }

  #assert(expr: Expr, wanted: CelType): void {
    const type = this.check(expr);
    if (!unify(this.#bindings, wanted, type)) this.#mismatch(expr.at, wanted, type);
  }

  /** The types of a loop's variables. */
  #items(expr: Fold, range: CelType): readonly [CelType, CelType] {
    switch (range.kind) {
      case 'list':
        return expr.variable2 === null ? [range.element, DYN] : [INT, range.element];
      case 'map':
        return [range.key, range.value];
      case 'dyn':
      case 'error':
      case 'param':
        unify(this.#bindings, DYN, range);
        return [DYN, DYN];
      default: {
        const text = `expression of type '${formatType(range)}' cannot be range of a comprehension (must be list, map, or dynamic)`;
        this.#report(expr.range.at, text);
        return [ERROR, ERROR];
      }
    }
  }
}

const LITERAL_CHECKS: Readonly<Record<string, (text: string) => unknown>> = {
  duration: durationOf,
  timestamp: timestampOf,
  matches: regexOf,
};

function literalType(value: Extract<Expr, { kind: 'literal' }>['value']): CelType {
  if (value === null) return NULL;
  if (value instanceof Uint) return UINT;
  if (value instanceof Uint8Array) return BYTES;
  switch (typeof value) {
    case 'boolean':
      return BOOL;
    case 'bigint':
      return INT;
    case 'number':
      return DOUBLE;
    default:
      return STRING;
  }
}

/** `a.b.c` of nested selections; null when it is more than names. */
export function qualifiedName(expr: Expr): string | null {
  if (expr.kind === 'ident') return expr.name;
  if (expr.kind !== 'select' || expr.testOnly) return null;
  const prefix = qualifiedName(expr.operand);
  return prefix === null ? null : `${prefix}.${expr.field}`;
}
