import { ACCUMULATOR, type Expr, type Fold } from '#api/cel/ast.ts';
import { codePoints, REGEX_FACTOR, STRING_FACTOR } from '#api/cel/cost.ts';
import {
  add,
  callEstimate,
  costOf,
  fixed,
  type Estimate,
  MOST,
  sum,
  times,
  union,
  type Node,
  type Range,
} from '#api/cel/estimate-calls.ts';
import type { Overload } from '#api/cel/function.ts';
import type { CelType } from '#api/cel/types.ts';
import type { CelProgram } from '#api/cel/cel.ts';

/**
 * What an expression can cost before anything is known of the values but the bounds of their schema.
 * It decides which rules a CustomResourceDefinition may have, so it has to be upstream's.
 * Source: cel-go "checker/cost.go"; Kubernetes "Resource use by validation functions".
 */
export function estimateCost(program: CelProgram): Range {
  return new Estimator(program).cost(program.expr);
}

type Entry = { list: boolean; key: Range; value: Range };
type Local = { path: readonly string[]; size: Range | null; entry: Entry | null };

const LIST_COST = 10;
const MAP_COST = 30;
const STRUCT_COST = 40;
const UNKNOWN: Range = { min: 0, max: MOST };
const NOTHING: Range = { min: MOST, max: 0 };

class Estimator {
  #program: CelProgram;
  #locals = new Map<string, Local[]>();
  #paths = new Map<Expr, readonly string[]>();
  #sizes = new Map<Expr, Range>();
  #entries = new Map<Expr, Entry>();

  constructor(program: CelProgram) {
    this.#program = program;
  }

  cost(expr: Expr): Range {
    switch (expr.kind) {
      case 'literal':
        return fixed(0);
      case 'ident':
        this.#paths.set(expr, this.#local(expr.name)?.path ?? [expr.name]);
        return this.#isTypeName(expr) ? fixed(0) : fixed(1);
      case 'select':
        return this.#select(expr);
      case 'call':
        return this.#call(expr);
      case 'list':
        return this.#list(expr);
      case 'map':
        return this.#map(expr);
      case 'struct':
        return sum(fixed(STRUCT_COST), ...expr.fields.map(({ value }) => this.cost(value)));
      case 'fold':
        return this.#fold(expr);
    }
  }

  #isTypeName(expr: Expr): boolean {
    return this.#program.checked.references.get(expr)?.kind === 'type';
  }

  #typeOf(expr: Expr): CelType {
    return this.#program.checked.types.get(expr) ?? { kind: 'dyn' };
  }

  #local(name: string): Local | undefined {
    return this.#locals.get(name)?.at(-1);
  }

  #select(expr: Extract<Expr, { kind: 'select' }>): Range {
    const reference = this.#program.checked.references.get(expr);
    if (reference?.kind === 'variable') {
      this.#paths.set(expr, [reference.name]);
      return fixed(1);
    }
    const operand = this.cost(expr.operand);
    if (expr.testOnly) return operand;
    this.#paths.set(expr, [...this.#path(expr.operand), expr.field]);
    const { kind } = this.#typeOf(expr.operand);
    return kind === 'map' || kind === 'object' ? add(operand, fixed(1)) : operand;
  }

  #call(expr: Extract<Expr, { kind: 'call' }>): Range {
    const reference = this.#program.checked.references.get(expr);
    const [first] = expr.args;
    if (expr.name === 'dyn' && first) {
      const cost = add(fixed(1), this.cost(first));
      this.#copy(expr, first);
      return cost;
    }
    const costs = expr.args.map((arg) => this.cost(arg));
    if (reference?.kind !== 'overloads') return sum(...costs);
    const member = reference.args.length > expr.args.length ? expr.target : null;
    const before = member ? this.cost(member) : fixed(0);
    let cost: Range = NOTHING;
    let size: Range | null = null;
    for (const overload of reference.overloads) {
      const estimate = this.#estimate(expr, overload, member, costs);
      cost = union(cost, estimate.cost);
      if (estimate.size) size = size ? union(size, estimate.size) : estimate.size;
      if (expr.name === '_[_]' && first) size = this.#index(expr, first, overload) ?? size;
      size ??= this.#size(expr);
    }
    if (size) this.#sizes.set(expr, size);
    return add(before, cost);
  }

  #index(expr: Expr, container: Expr, overload: Overload): Range | null {
    const step = overload.args[0]?.kind === 'list' ? '@items' : '@values';
    this.#paths.set(expr, [...this.#path(container), step]);
    return this.#entry(container)?.value ?? null;
  }

  #estimate(
    expr: Extract<Expr, { kind: 'call' }>,
    overload: Overload,
    target: Expr | null,
    costs: readonly Range[],
  ): Estimate {
    const args = expr.args.map((arg) => this.#node(arg));
    const known = callEstimate(overload, target ? this.#node(target) : null, args);
    if (known) return { ...known, cost: sum(known.cost, ...costs) };
    const [left = UNKNOWN, right = UNKNOWN] = args.map(({ size }) => size ?? UNKNOWN);
    const [a, b, c] = expr.args;
    const [costA = fixed(0), costB = fixed(0), costC = fixed(0)] = costs;
    switch (expr.name) {
      case '_||_':
      case '_&&_':
        return { cost: { min: costA.min, max: add(costA, costB).max }, size: null };
      case '_?_:_': {
        const sizes = args.slice(1).map(({ size }) => size ?? UNKNOWN);
        const entry = b && c ? unionEntry(this.#entry(b), this.#entry(c)) : null;
        if (entry) this.#entries.set(expr, entry);
        const cost = add(costA, union(costB, costC));
        return { cost, size: union(sizes[0] ?? UNKNOWN, sizes[1] ?? UNKNOWN) };
      }
      case '_+_': {
        const { kind } = overload.args[0] ?? { kind: 'dyn' };
        if (kind !== 'string' && kind !== 'bytes' && kind !== 'list') break;
        const size = add(left, right);
        const entry = a && b ? unionEntry(this.#entry(a), this.#entry(b)) : null;
        if (entry) this.#entries.set(expr, entry);
        const own = kind === 'list' ? fixed(1) : times(size, STRING_FACTOR);
        return { cost: sum(own, ...costs), size };
      }
      default:
    }
    return {
      cost: sum(operatorCost(expr.name, overload, args, target && this.#node(target)), ...costs),
      size: null,
    };
  }

  #list(expr: Extract<Expr, { kind: 'list' }>): Range {
    let cost = fixed(LIST_COST);
    let value: Range = expr.elements.length === 0 ? fixed(0) : NOTHING;
    for (const element of expr.elements) {
      cost = add(cost, this.cost(element));
      value = union(value, this.#size(element) ?? UNKNOWN);
    }
    this.#entries.set(expr, { list: true, key: fixed(1), value });
    return cost;
  }

  #map(expr: Extract<Expr, { kind: 'map' }>): Range {
    let cost = fixed(MAP_COST);
    let key: Range = expr.entries.length === 0 ? fixed(0) : NOTHING;
    let value = key;
    for (const entry of expr.entries) {
      cost = sum(cost, this.cost(entry.key), this.cost(entry.value));
      key = union(key, this.#size(entry.key) ?? UNKNOWN);
      value = union(value, this.#size(entry.value) ?? UNKNOWN);
    }
    this.#entries.set(expr, { list: false, key, value });
    return cost;
  }

  #fold(expr: Fold): Range {
    const before = add(this.cost(expr.range), this.cost(expr.init));
    this.#push(ACCUMULATOR, {
      path: this.#path(expr.init),
      size: this.#size(expr.init),
      entry: this.#entry(expr.init),
    });
    const names = this.#pushVariables(expr);
    const step = add(this.cost(expr.condition), this.cost(expr.step));
    for (const name of names) this.#locals.get(name)?.pop();
    const result = this.cost(expr.result);
    this.#locals.get(ACCUMULATOR)?.pop();
    const count = this.#size(expr.range) ?? UNKNOWN;
    if (expr.init.kind === 'literal') {
      const size = this.#size(expr.init);
      if (size) this.#sizes.set(expr, size);
    } else if (expr.init.kind === 'list' || expr.init.kind === 'map') {
      this.#sizes.set(expr, count);
      const entry = this.#entry(expr.step);
      if (entry) this.#entries.set(expr, entry);
    }
    return sum(before, result, costOf(count, step));
  }

  #pushVariables(expr: Fold): string[] {
    const entry = this.#entry(expr.range);
    const list = entry?.list ?? this.#typeOf(expr.range).kind === 'list';
    const path = this.#path(expr.range);
    const push = (name: string, step: string, size: Range | null): void =>
      this.#push(name, { path: [...path, step], size, entry: null });
    if (expr.variable2 === null) {
      const size = list ? entry?.value : entry?.key;
      push(expr.variable, list ? '@items' : '@keys', size ?? null);
      return [expr.variable];
    }
    push(expr.variable, list ? '@indices' : '@keys', entry?.key ?? null);
    push(expr.variable2, list ? '@items' : '@values', entry?.value ?? null);
    return [expr.variable, expr.variable2];
  }

  #push(name: string, local: Local): void {
    const stack = this.#locals.get(name);
    if (stack) stack.push(local);
    else this.#locals.set(name, [local]);
  }

  #path(expr: Expr): readonly string[] {
    if (expr.kind === 'ident') {
      const local = this.#local(expr.name);
      if (local) return local.path;
    }
    return this.#paths.get(expr) ?? [];
  }

  #copy(to: Expr, from: Expr): void {
    const size = this.#size(from);
    const entry = this.#entry(from);
    if (size) this.#sizes.set(to, size);
    if (entry) this.#entries.set(to, entry);
  }

  #entry(expr: Expr): Entry | null {
    const known = this.#entries.get(expr);
    if (known) return known;
    return expr.kind === 'ident' ? (this.#local(expr.name)?.entry ?? null) : null;
  }

  #size(expr: Expr): Range | null {
    const known = this.#sizes.get(expr);
    if (known) return known;
    const written = writtenSize(expr);
    if (written !== null) return fixed(written);
    const path = this.#path(expr);
    const declared = path[0] === ACCUMULATOR ? null : this.#declared(path);
    if (declared) return declared;
    const type = this.#typeOf(expr);
    if (isScalar(type)) return fixed(1);
    return expr.kind === 'ident' ? (this.#local(expr.name)?.size ?? null) : null;
  }

  /** The bound that the schema sets to what is at a path. */
  #declared(path: readonly string[]): Range | null {
    const [root, ...steps] = path;
    if (root === undefined) return null;
    let type: CelType | undefined = this.#program.variables[root];
    if (type?.kind === 'optional') type = type.value;
    for (const step of steps) {
      if (step === '@items' && type?.kind === 'list') type = type.element;
      else if (step === '@values' && type?.kind === 'map') type = type.value;
      else if (step === '@keys' && type?.kind === 'map') type = type.key;
      else if (type?.kind === 'object') type = type.fields.get(step);
      else return null;
    }
    if (!type || type.kind === 'optional') return null;
    return { min: 0, max: 'maxElements' in type ? (type.maxElements ?? 0) : 0 };
  }

  #node(expr: Expr): Node {
    const path = this.#path(expr);
    const type = this.#typeOf(expr);
    const item: Range | null =
      type.kind === 'list' && path.length > 0 ? this.#declared([...path, '@items']) : null;
    return { expr, type, size: this.#size(expr), item };
  }
}

function unionEntry(a: Entry | null, b: Entry | null): Entry | null {
  if (!a || !b) return null;
  return { list: a.list, key: union(a.key, b.key), value: union(a.value, b.value) };
}

/** Operators and functions of the standard. */
function operatorCost(
  name: string,
  overload: Overload,
  args: readonly Node[],
  target: Node | null,
): Range {
  const sizes = args.map(({ size }) => size ?? UNKNOWN);
  const [left = UNKNOWN, right = UNKNOWN] = sizes;
  const whole = target?.size ?? UNKNOWN;
  const text = ['string', 'bytes'].includes(overload.args[0]?.kind ?? '');
  switch (name) {
    case 'startsWith':
    case 'endsWith':
      return times(left, STRING_FACTOR);
    case 'format':
      return times(whole, STRING_FACTOR);
    case '@in':
      return overload.args[1]?.kind === 'list' ? times(right, 1) : fixed(1);
    case 'matches': {
      const subject = target ? whole : left;
      const pattern = target ? left : right;
      return costOf(times(add(subject, fixed(1)), STRING_FACTOR), times(pattern, REGEX_FACTOR));
    }
    case 'contains':
      return costOf(times(whole, STRING_FACTOR), times(left, STRING_FACTOR));
    case 'bytes':
      return overload.args[0]?.kind === 'string' ? times(left, STRING_FACTOR) : fixed(1);
    case 'string':
      return overload.args[0]?.kind === 'bytes' ? times(left, STRING_FACTOR) : fixed(1);
    case '_==_':
    case '_!=_':
      return comparison(left, right);
    case '_<_':
    case '_<=_':
    case '_>_':
    case '_>=_':
      return text ? comparison(left, right) : fixed(1);
    default:
      return fixed(1);
  }
}

function comparison(left: Range, right: Range): Range {
  const max = Math.min(left.max, right.max);
  return times({ min: max > 0 ? 1 : 0, max }, STRING_FACTOR);
}

function writtenSize(expr: Expr): number | null {
  if (expr.kind === 'list') return expr.elements.length;
  if (expr.kind === 'map') return expr.entries.length;
  if (expr.kind !== 'literal') return null;
  if (typeof expr.value === 'string') return codePoints(expr.value);
  return expr.value instanceof Uint8Array ? expr.value.length : 1;
}

const SCALARS = new Set(['bool', 'double', 'duration', 'int', 'timestamp', 'uint']);

const isScalar = (type: CelType): boolean =>
  type.kind === 'optional' ? isScalar(type.value) : SCALARS.has(type.kind);
