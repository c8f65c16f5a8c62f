import { ACCUMULATOR, type Expr, type Fold } from '#api/cel/ast.ts';

type Expansion = { expr: Expr } | { at: number; message: string };
type Macro = (build: Builder, target: Expr, args: readonly Expr[]) => Expansion;

/**
 * Replaces the calls that are no functions: has, all, exists, map and their like. Null: not one.
 * Source: CEL language definition, "Macros"; cel-go "two-variable comprehensions".
 */
export function expandMacro(
  at: number,
  name: string,
  target: Expr | null,
  args: readonly Expr[],
): Expansion | null {
  if (target === null) {
    const [subject] = args;
    if (name !== 'has' || args.length !== 1 || !subject) return null;
    if (subject.kind !== 'select') {
      return { at: subject.at, message: 'invalid argument to has() macro' };
    }
    const { operand, field } = subject;
    return { expr: { kind: 'select', operand, field, testOnly: true, at } };
  }
  if (name === 'sortBy' && args.length === 2) return sortBy(new Builder(at), target, args);
  const macro = MACROS[`${name}/${args.length}`];
  return macro ? macro(new Builder(at), target, args) : null;
}

/** `list.sortBy(x, key)`: the keys of all items, then the list by these. */
function sortBy(build: Builder, list: Expr, args: readonly Expr[]): Expansion {
  const keys = MACROS['map/2']?.(build, list, args);
  if (!keys || !('expr' in keys)) return keys ?? { at: list.at, message: 'no such macro' };
  const name = '@sortByAssociatedKeys';
  return { expr: { kind: 'call', name, target: list, args: [keys.expr], at: list.at } };
}

class Builder {
  #at: number;
  constructor(at: number) {
    this.#at = at;
  }
  literal(value: boolean | bigint): Expr {
    return { kind: 'literal', value, at: this.#at };
  }
  accumulator(): Expr {
    return { kind: 'ident', name: ACCUMULATOR, at: this.#at };
  }
  call(name: string, ...args: Expr[]): Expr {
    return { kind: 'call', name, target: null, args, at: this.#at };
  }
  list(...elements: Expr[]): Expr {
    return { kind: 'list', elements, optional: null, at: this.#at };
  }
  map(): Expr {
    return { kind: 'map', entries: [], at: this.#at };
  }
  fold(parts: Omit<Fold, 'kind' | 'at'>): Expansion {
    return { expr: { kind: 'fold', at: this.#at, ...parts } };
  }
}

/** The variables' names, or what is wrong with them. */
function variables(
  args: readonly Expr[],
  count: 1 | 2,
  wording: string,
): { names: string[] } | { at: number; message: string } {
  const names: string[] = [];
  for (const arg of args.slice(0, count)) {
    if (arg.kind !== 'ident') return { at: arg.at, message: wording };
    if (arg.name === ACCUMULATOR || arg.name === '__result__') {
      return { at: arg.at, message: 'iteration variable overwrites accumulator variable' };
    }
    names.push(arg.name);
  }
  if (count === 2 && names[0] === names[1]) {
    const at = args[1]?.at ?? 0;
    return { at, message: `duplicate variable name: ${names[0]}` };
  }
  return { names };
}

type Loop = Pick<Fold, 'init' | 'condition' | 'step' | 'result'>;
const SIMPLE_NAME = 'argument must be a simple name';
const IDENTIFIER = 'argument is not an identifier';

function macro(
  count: 1 | 2,
  wording: string,
  loop: (build: Builder, body: readonly Expr[], args: readonly Expr[]) => Loop,
): Macro {
  return (build, range, args) => {
    const found = variables(args, count, wording);
    if (!('names' in found)) return found;
    const [variable = '', variable2 = null] = found.names;
    return build.fold({ range, variable, variable2, ...loop(build, args.slice(count), args) });
  };
}

const all = (b: Builder, [predicate]: readonly Expr[]): Loop => ({
  init: b.literal(true),
  condition: b.call('@not_strictly_false', b.accumulator()),
  step: b.call('_&&_', b.accumulator(), predicate as Expr),
  result: b.accumulator(),
});

const exists = (b: Builder, [predicate]: readonly Expr[]): Loop => ({
  init: b.literal(false),
  condition: b.call('@not_strictly_false', b.call('!_', b.accumulator())),
  step: b.call('_||_', b.accumulator(), predicate as Expr),
  result: b.accumulator(),
});

const existsOne = (b: Builder, [predicate]: readonly Expr[]): Loop => ({
  init: b.literal(0n),
  condition: b.literal(true),
  step: b.call(
    '_?_:_',
    predicate as Expr,
    b.call('_+_', b.accumulator(), b.literal(1n)),
    b.accumulator(),
  ),
  result: b.call('_==_', b.accumulator(), b.literal(1n)),
});

/** With two parts of the body the first is a filter. */
function collect(
  empty: (b: Builder) => Expr,
  add: (b: Builder, value: Expr, args: readonly Expr[]) => Expr,
): (b: Builder, body: readonly Expr[], args: readonly Expr[]) => Loop {
  return (b, body, args) => {
    const filter = body.length > 1 ? body[0] : undefined;
    const step = add(b, body.at(-1) as Expr, args);
    return {
      init: empty(b),
      condition: b.literal(true),
      step: filter ? b.call('_?_:_', filter, step, b.accumulator()) : step,
      result: b.accumulator(),
    };
  };
}

const mapped = collect(
  (b) => b.list(),
  (b, value) => b.call('_+_', b.accumulator(), b.list(value)),
);
const filtered = (b: Builder, [predicate]: readonly Expr[], args: readonly Expr[]): Loop => ({
  init: b.list(),
  condition: b.literal(true),
  step: b.call(
    '_?_:_',
    predicate as Expr,
    b.call('_+_', b.accumulator(), b.list(args[0] as Expr)),
    b.accumulator(),
  ),
  result: b.accumulator(),
});
const transformedMap = collect(
  (b) => b.map(),
  (b, value, args) => b.call('cel.@mapInsert', b.accumulator(), args[0] as Expr, value),
);
const transformedEntries = collect(
  (b) => b.map(),
  (b, value) => b.call('cel.@mapInsert', b.accumulator(), value),
);

const MACROS: Readonly<Record<string, Macro>> = {
  'all/2': macro(1, SIMPLE_NAME, all),
  'exists/2': macro(1, SIMPLE_NAME, exists),
  'exists_one/2': macro(1, SIMPLE_NAME, existsOne),
  'existsOne/2': macro(1, SIMPLE_NAME, existsOne),
  'map/2': macro(1, IDENTIFIER, mapped),
  'map/3': macro(1, IDENTIFIER, mapped),
  'filter/2': macro(1, IDENTIFIER, filtered),
  'all/3': macro(2, SIMPLE_NAME, all),
  'exists/3': macro(2, SIMPLE_NAME, exists),
  'existsOne/3': macro(2, SIMPLE_NAME, existsOne),
  'exists_one/3': macro(2, SIMPLE_NAME, existsOne),
  'transformList/3': macro(2, SIMPLE_NAME, mapped),
  'transformList/4': macro(2, SIMPLE_NAME, mapped),
  'transformMap/3': macro(2, SIMPLE_NAME, transformedMap),
  'transformMap/4': macro(2, SIMPLE_NAME, transformedMap),
  'transformMapEntry/3': macro(2, SIMPLE_NAME, transformedEntries),
  'transformMapEntry/4': macro(2, SIMPLE_NAME, transformedEntries),
};
