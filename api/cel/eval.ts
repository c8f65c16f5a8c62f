import { ACCUMULATOR, type Expr, type Fold } from '#api/cel/ast.ts';
import type { Checked } from '#api/cel/check.ts';
import { callCost } from '#api/cel/cost.ts';
import type { Overload } from '#api/cel/function.ts';
import type { CelType, StructTypes } from '#api/cel/types.ts';
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
  TypeValue,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** One evaluation. */
export type Frame = {
  variable(name: string): Value;
  locals: Value[];
  cost: number;
  limit: number;
};

export type Step = (frame: Frame) => Value;

/** Ends an evaluation that costs too much. Source: cel-go "CostLimit". */
export class CostExceeded extends Error {}

function charge(frame: Frame, cost: number): void {
  frame.cost += cost;
  if (frame.cost > frame.limit) {
    throw new CostExceeded('operation cancelled: actual cost limit exceeded');
  }
}

const LIST_COST = 10;
const MAP_COST = 30;
const STRUCT_COST = 40;

type Plan = {
  checked: Checked;
  structs: StructTypes | undefined;
  /** Names of loop variables that are in scope; the index is the slot. */
  slots: readonly string[];
};

/** Turns a checked expression into a function. */
export function planCel(expr: Expr, checked: Checked, structs: StructTypes | undefined): Step {
  return plan(expr, { checked, structs, slots: [] });
}

function plan(expr: Expr, scope: Plan): Step {
  const reference = scope.checked.references.get(expr);
  if (reference?.kind === 'variable') return variableStep(reference.name, expr);
  if (reference?.kind === 'local') return localStep(reference.name, scope);
  if (reference?.kind === 'type' && expr.kind !== 'struct') {
    const value = new TypeValue(reference.name);
    return () => value;
  }
  const constant = constantOf(expr, scope);
  if (constant !== undefined) return () => constant;
  switch (expr.kind) {
    case 'literal':
      return () => expr.value;
    case 'ident':
      return () => new CelError(`no such attribute: ${expr.name}`);
    case 'select':
      return selectStep(expr, scope);
    case 'call':
      return callStep(expr, scope);
    case 'list':
      return listStep(expr, scope);
    case 'map':
      return mapStep(expr, scope);
    case 'struct':
      return structStep(expr, scope);
    case 'fold':
      return foldStep(expr, scope);
  }
}

const CONVERSIONS = 'bool bytes double duration dyn int string timestamp uint'.split(' ');

/** What upstream folds when it plans: literals, lists and maps of them, conversions of them. */
function constantOf(expr: Expr, scope: Plan): Value | undefined {
  switch (expr.kind) {
    case 'literal':
      return expr.value;
    case 'list':
      if (expr.optional || expr.elements.length === 0) return undefined;
      return constants(expr.elements, scope) && new CelList(constants(expr.elements, scope) ?? []);
    case 'map': {
      const keys = constants(
        expr.entries.map((entry) => entry.key),
        scope,
      );
      const values = constants(
        expr.entries.map((entry) => entry.value),
        scope,
      );
      if (!keys?.length || !values || expr.entries.some((entry) => entry.optional))
        return undefined;
      const map = CelMap.of(keys.map((key, i) => [key, values[i] ?? null] as const));
      return map.size === keys.length ? map : undefined;
    }
    case 'call': {
      const reference = scope.checked.references.get(expr);
      if (expr.target || !CONVERSIONS.includes(expr.name)) return undefined;
      const args = constants(expr.args, scope);
      if (!args || reference?.kind !== 'overloads') return undefined;
      const value = reference.overloads.find((one) => accepts(one, args))?.run(...args);
      return value instanceof CelError ? undefined : value;
    }
    default:
      return undefined;
  }
}

function constants(exprs: readonly Expr[], scope: Plan): Value[] | undefined {
  const values: Value[] = [];
  for (const expr of exprs) {
    const value = constantOf(expr, scope);
    if (value === undefined) return undefined;
    values.push(value);
  }
  return values;
}

/** A dotted name costs what selecting its parts would. */
function variableStep(name: string, expr: Expr): Step {
  const cost = expr.kind === 'select' ? name.split('.').length : 1;
  return (frame) => {
    charge(frame, cost);
    return frame.variable(name);
  };
}

function localStep(name: string, scope: Plan): Step {
  const slot = scope.slots.lastIndexOf(name);
  return (frame) => {
    charge(frame, 1);
    return frame.locals[slot] as Value;
  };
}

function selectStep(expr: Extract<Expr, { kind: 'select' }>, scope: Plan): Step {
  const operand = plan(expr.operand, scope);
  const { field } = expr;
  if (expr.testOnly) {
    return (frame) => {
      const value = operand(frame);
      return value instanceof CelError ? value : hasField(value, field);
    };
  }
  return (frame) => {
    const value = operand(frame);
    if (value instanceof CelError) return value;
    charge(frame, 1);
    if (value instanceof Optional) return selectOptional(value, field);
    return selectField(value, field);
  };
}

function hasField(value: Value, field: string): Value {
  if (value instanceof CelMap) return value.has(field);
  if (value instanceof CelObject) return value.get(field) !== undefined;
  if (value instanceof Optional)
    return value.value === undefined ? false : hasField(value.value, field);
  return new CelError('no such overload');
}

function selectField(value: Value, field: string): Value {
  if (value instanceof CelMap || value instanceof CelObject) {
    const found = value.get(field);
    return found === undefined ? new CelError(`no such key: ${field}`) : found;
  }
  return new CelError('no such overload');
}

/** Selection from what may be missing gives what may be missing. */
function selectOptional(value: Value, field: string): Value {
  const inner = value instanceof Optional ? value.value : value;
  if (inner === undefined) return NONE;
  if (!(inner instanceof CelMap || inner instanceof CelObject)) {
    return new CelError('no such overload');
  }
  const found = inner.get(field);
  return found instanceof CelError ? found : found === undefined ? NONE : new Optional(found);
}

function callStep(expr: Extract<Expr, { kind: 'call' }>, scope: Plan): Step {
  const { name, args } = expr;
  const parts = args.map((arg) => plan(arg, scope));
  const [first, second, third] = parts;
  if (first && second) {
    if (name === '_&&_') return logicStep(first, second, false);
    if (name === '_||_') return logicStep(first, second, true);
    if (name === '_?_:_' && third) return choiceStep(first, second, third);
    if (name === '_?._') {
      const field = args[1]?.kind === 'literal' ? String(args[1].value) : '';
      return (frame) => {
        const value = first(frame);
        charge(frame, 1);
        return value instanceof CelError ? value : selectOptional(value, field);
      };
    }
  }
  if (name === '@not_strictly_false' && first) {
    return (frame) => {
      const value = first(frame);
      charge(frame, 1);
      return value !== false;
    };
  }
  return strictCall(expr, scope);
}

/** And, or: a deciding side wins over an error on the other. */
function logicStep(left: Step, right: Step, decides: boolean): Step {
  return (frame) => {
    const a = left(frame);
    if (a === decides) return decides;
    const b = right(frame);
    if (b === decides) return decides;
    if (a instanceof CelError) return a;
    if (b instanceof CelError) return b;
    if (typeof a !== 'boolean' || typeof b !== 'boolean') return new CelError('no such overload');
    return !decides;
  };
}

function choiceStep(condition: Step, yes: Step, no: Step): Step {
  return (frame) => {
    const chosen = condition(frame);
    if (chosen === true) return yes(frame);
    if (chosen === false) return no(frame);
    return chosen instanceof CelError ? chosen : new CelError('no such overload');
  };
}

/** Functions whose arguments are all evaluated first; an error among them is the result. */
function strictCall(expr: Extract<Expr, { kind: 'call' }>, scope: Plan): Step {
  const reference = scope.checked.references.get(expr);
  if (reference?.kind !== 'overloads') return () => new CelError(`no such overload`);
  const { overloads } = reference;
  const args = reference.args.map((arg) => plan(arg, scope));
  const sure =
    overloads.length === 1 &&
    reference.args.every((arg, i) => isSure(scope.checked.types.get(arg), overloads[0]?.args[i]));
  const only = overloads[0];
  const attribute = expr.name === '_[_]';
  const [, inList] = reference.args;
  const free =
    expr.name === '@in' && inList !== undefined && constantOf(inList, scope) instanceof CelList;
  const [head] = reference.args;
  const grows = expr.name === '_+_' && head?.kind === 'ident' && head.name === ACCUMULATOR;
  return (frame) => {
    const values: Value[] = [];
    for (const arg of args) {
      const value = arg(frame);
      if (value instanceof CelError) return value;
      values.push(value);
    }
    const overload = sure ? only : overloads.find((one) => accepts(one, values));
    if (!overload) return new CelError('no such overload');
    const [list, more] = values;
    if (grows && list instanceof CelList && more instanceof CelList) {
      charge(frame, 1);
      return CelList.grow(list, more);
    }
    const result = overload.run(...values);
    charge(frame, free ? 0 : attribute ? 1 : callCost(overload, values, result));
    return result;
  };
}

/** Whether the static types leave nothing to check when the program runs. */
function isSure(type: CelType | undefined, wanted: CelType | undefined): boolean {
  if (!type || !wanted) return false;
  if (wanted.kind === 'dyn' || wanted.kind === 'param') return true;
  return type.kind === wanted.kind;
}

function accepts(overload: Overload, values: readonly Value[]): boolean {
  return overload.args.every((type, i) => fits(values[i] as Value, type));
}

function fits(value: Value, type: CelType): boolean {
  switch (type.kind) {
    case 'dyn':
    case 'param':
    case 'error':
      return true;
    case 'bool':
      return typeof value === 'boolean';
    case 'int':
      return typeof value === 'bigint';
    case 'double':
      return typeof value === 'number';
    case 'string':
      return typeof value === 'string';
    case 'null':
      return value === null;
    case 'uint':
      return value instanceof Uint;
    case 'bytes':
      return value instanceof Uint8Array;
    case 'timestamp':
      return value instanceof Timestamp;
    case 'duration':
      return value instanceof Duration;
    case 'list':
      return value instanceof CelList;
    case 'map':
      return value instanceof CelMap || value instanceof CelObject;
    case 'optional':
      return value instanceof Optional;
    case 'type':
      return value instanceof TypeValue;
    case 'opaque':
      return value instanceof Opaque && value.type === type.name;
    case 'object':
      return value instanceof CelObject;
  }
}

function listStep(expr: Extract<Expr, { kind: 'list' }>, scope: Plan): Step {
  const parts = expr.elements.map((element) => plan(element, scope));
  const { optional } = expr;
  return (frame) => {
    const items: Value[] = [];
    for (let i = 0; i < parts.length; i++) {
      const value = (parts[i] as Step)(frame);
      if (value instanceof CelError) return value;
      if (!optional?.has(i)) items.push(value);
      else if (!(value instanceof Optional)) return new CelError('no such overload');
      else if (value.value !== undefined) items.push(value.value);
    }
    charge(frame, LIST_COST);
    return new CelList(items);
  };
}

function mapStep(expr: Extract<Expr, { kind: 'map' }>, scope: Plan): Step {
  const parts = expr.entries.map((entry) => ({
    key: plan(entry.key, scope),
    value: plan(entry.value, scope),
    optional: entry.optional,
  }));
  return (frame) => {
    const entries: [Value, Value][] = [];
    for (const part of parts) {
      const key = part.key(frame);
      if (key instanceof CelError) return key;
      if (!isKey(key)) return new CelError('unsupported key type');
      const value = part.value(frame);
      if (value instanceof CelError) return value;
      if (!part.optional) entries.push([key, value]);
      else if (!(value instanceof Optional)) return new CelError('no such overload');
      else if (value.value !== undefined) entries.push([key, value.value]);
    }
    charge(frame, MAP_COST);
    const map = CelMap.of(entries);
    return map.size < entries.length ? new CelError('Failed with repeated key') : map;
  };
}

const isKey = (value: Value): boolean =>
  ['string', 'boolean', 'bigint', 'number'].includes(typeof value) || value instanceof Uint;

function structStep(expr: Extract<Expr, { kind: 'struct' }>, scope: Plan): Step {
  const name = expr.name.replace(/^\./, '');
  const type = scope.structs?.get(name);
  const parts = expr.fields.map((field) => ({ ...field, step: plan(field.value, scope) }));
  return (frame) => {
    if (!type) return new CelError(`unknown type: ${name}`);
    const fields = new Map<string, Value>();
    for (const part of parts) {
      const value = part.step(frame);
      if (value instanceof CelError) return value;
      if (!part.optional) fields.set(part.name, value);
      else if (!(value instanceof Optional)) return new CelError('no such overload');
      else if (value.value !== undefined) fields.set(part.name, value.value);
    }
    charge(frame, STRUCT_COST);
    return new CelObject(
      type,
      (field) => fields.get(field),
      () => [...fields.keys()],
    );
  };
}

function foldStep(expr: Fold, scope: Plan): Step {
  const range = plan(expr.range, scope);
  const init = plan(expr.init, scope);
  const outer = [...scope.slots, ACCUMULATOR];
  const loop = [...outer, expr.variable];
  if (expr.variable2 !== null) loop.push(expr.variable2);
  const accumulator = outer.length - 1;
  const inner = { ...scope, slots: loop };
  const condition = plan(expr.condition, inner);
  const step = plan(expr.step, inner);
  const result = plan(expr.result, { ...scope, slots: outer });
  return (frame) => {
    const over = range(frame);
    if (over instanceof CelError) return over;
    const pairs = pairsOf(over, expr.variable2 !== null);
    if (!pairs) return new CelError('no such overload');
    frame.locals[accumulator] = init(frame);
    for (const [first, second] of pairs) {
      frame.locals[accumulator + 1] = first;
      if (expr.variable2 !== null) frame.locals[accumulator + 2] = second;
      if (condition(frame) === false) break;
      const next = step(frame);
      frame.locals[accumulator] = next;
    }
    return result(frame);
  };
}

function pairsOf(value: Value, two: boolean): Iterable<readonly [Value, Value]> | null {
  if (value instanceof CelList) return listPairs(value, two);
  if (value instanceof CelMap) {
    return value.keys().map((key) => [key, two ? (value.get(key) ?? null) : null] as const);
  }
  if (value instanceof CelObject) {
    return value.names().map((name) => [name, two ? (value.get(name) ?? null) : null] as const);
  }
  return null;
}

function* listPairs(list: CelList, two: boolean): Generator<readonly [Value, Value]> {
  for (let i = 0; i < list.length; i++) {
    yield two ? [BigInt(i), list.at(i)] : [list.at(i), null];
  }
}
