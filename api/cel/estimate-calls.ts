import type { Expr } from '#api/cel/ast.ts';
import { FORMAT_REGEX, REGEX_FACTOR, STRING_FACTOR } from '#api/cel/cost.ts';
import type { Overload } from '#api/cel/function.ts';
import type { CelType } from '#api/cel/types.ts';

/** Estimates of what calls of the libraries can cost. Source: k8s.io/apiserver/pkg/cel/library. */

/** Least and most, of a cost or a size. */
export type Range = { min: number; max: number };

/** An argument: what is known of it before it is evaluated. */
export type Node = {
  expr: Expr;
  type: CelType;
  size: Range | null;
  /** Bound of its items, where it is a list that a schema bounds. */
  item: Range | null;
};

export type Estimate = { cost: Range; size: Range | null };

/** The largest number of 64 bits: sums and products stop there. */
export const MOST = 2 ** 64;

const capped = (value: number): number => Math.min(value, MOST);

export const fixed = (value: number): Range => ({ min: value, max: value });
export const add = (a: Range, b: Range): Range => ({
  min: capped(a.min + b.min),
  max: capped(a.max + b.max),
});
export const sum = (...all: readonly Range[]): Range => all.reduce(add, fixed(0));
/** Product of two ranges; zero times anything is zero. */
export const costOf = (a: Range, b: Range): Range => ({
  min: capped(a.min * b.min),
  max: capped(a.max * b.max),
});
export const times = (a: Range, factor: number): Range => ({
  min: capped(Math.ceil(a.min * factor)),
  max: capped(Math.ceil(a.max * factor)),
});
export const union = (a: Range, b: Range): Range => ({
  min: Math.min(a.min, b.min),
  max: Math.max(a.max, b.max),
});

const UNKNOWN: Range = { min: 0, max: MOST };
const CHECK_COST = 350_000;
const ADDRESS: Range = { min: 4, max: 16 };

type Formula = (target: Node | null, args: readonly Node[], overload: Overload) => Estimate | null;

const sized = (node: Node | null | undefined): Range => node?.size ?? UNKNOWN;
const only = (cost: Range): Estimate => ({ cost, size: null });
const nominal: Formula = () => only(fixed(1));
const read: Formula = (_target, [arg]) => (arg ? only(times(sized(arg), STRING_FACTOR)) : null);

const walk: Formula = (target, _args, { name }) => {
  if (!target) return null;
  const size = sized(target);
  if (target.type.kind === 'list') {
    const { element } = target.type;
    const text = element.kind === 'string' || element.kind === 'bytes';
    const each = text ? add(fixed(1), times(target.item ?? UNKNOWN, STRING_FACTOR)) : fixed(1);
    return only(costOf(size, each));
  }
  return only(name === 'includes' ? size : times(size, STRING_FACTOR));
};

const rewrite: Formula = (target) =>
  target && { cost: times(sized(target), STRING_FACTOR), size: sized(target) };

const replace: Formula = (target, [old, fresh]) => {
  if (!target || !old || !fresh) return null;
  const whole = sized(target);
  const from = sized(old);
  const to = sized(fresh);
  const longest =
    from.min === 0
      ? (whole.max + 1) * to.max + whole.max
      : to.max <= from.min
        ? whole.max
        : Math.ceil(whole.max / from.min) * to.max;
  const shortest =
    from.max === 0
      ? (whole.min + 1) * to.min + whole.min
      : from.max <= to.min
        ? whole.min
        : Math.ceil(whole.min / from.max) * to.min;
  const size = { min: capped(shortest), max: capped(longest) };
  return { cost: times(whole, 2 * STRING_FACTOR), size };
};

const split: Formula = (target, [, limit]) => {
  if (!target) return null;
  const { expr } = limit ?? {};
  const bound =
    expr?.kind === 'literal' && typeof expr.value === 'bigint' ? Number(expr.value) : -1;
  const max = bound >= 0 ? bound : sized(target).max;
  return { cost: times(sized(target), 2 * STRING_FACTOR), size: { min: 0, max } };
};

const join: Formula = (target, [separator]) => {
  if (!target) return null;
  const count = sized(target);
  let size = costOf(count, target.item ?? UNKNOWN);
  if (separator) {
    const between = { min: Math.max(count.min - 1, 0), max: Math.max(count.max - 1, 0) };
    size = add(size, costOf(sized(separator), between));
  }
  return { cost: times(size, STRING_FACTOR), size };
};

const find: Formula = (target, [pattern]) => {
  if (!target || !pattern) return null;
  const text = times(add(sized(target), fixed(1)), STRING_FACTOR);
  const cost = costOf(text, times(sized(pattern), REGEX_FACTOR));
  return { cost, size: { min: 0, max: sized(target).max } };
};

const inRange =
  (own: Range): Formula =>
  (_target, [other], overload) => {
    const text = overload.args[1]?.kind === 'string';
    return only(text ? add(own, times(sized(other), STRING_FACTOR)) : own);
  };

const twoAddresses = times(add(ADDRESS, ADDRESS), STRING_FACTOR);

const selector: Formula = (_target, [text]) => {
  const size = sized(text);
  const requirements = times(times(size, 0.5), 50);
  return only(sum(fixed(10), times(size, STRING_FACTOR), requirements));
};

/** A new list of so many items; `factor` for each. */
const newList = (size: Range, factor: number, count: Range): Estimate => ({
  cost: sum(times(count, factor), fixed(1), fixed(10)),
  size,
});

const quadratic: Formula = (target) => {
  const size = sized(target);
  return newList(costOf(size, size), 2, costOf(size, size));
};

const sets =
  (factor: number): Formula =>
  (_target, [a, b]) =>
    only(add(times(costOf(sized(a), sized(b)), factor), fixed(1)));

const whole = (node: Node | undefined, fallback: number): number =>
  node?.expr.kind === 'literal' && typeof node.expr.value === 'bigint'
    ? Number(node.expr.value)
    : fallback;

const equality: Formula = (_target, [left, right]) => {
  const opaque = left?.type.kind === 'opaque' && right?.type.kind === 'opaque';
  return opaque ? only(fixed(1)) : null;
};

const FORMULAS: Readonly<Record<string, Formula>> = {
  check: () => only(fixed(CHECK_COST)),
  ...Object.fromEntries(
    'serviceAccount path group resource subresource namespace name allowed reason error errored masked prefixLength family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast format.named sign asInteger isInteger asApproximateFloat isGreaterThan isLessThan compareTo add sub major minor patch getScheme getHostname getHost getPort getEscapedPath getQuery'
      .split(' ')
      .map((name) => [name, nominal]),
  ),
  ...Object.fromEntries(
    'cidr isIP isCIDR quantity isQuantity semver isSemver'.split(' ').map((name) => [name, read]),
  ),
  ...Object.fromEntries(
    'isSorted sum max min indexOf lastIndexOf includes'.split(' ').map((name) => [name, walk]),
  ),
  ...Object.fromEntries(
    'lowerAscii upperAscii substring trim'.split(' ').map((name) => [name, rewrite]),
  ),
  fieldSelector: selector,
  labelSelector: selector,
  url: (_target, [arg]) =>
    arg ? { cost: times(sized(arg), STRING_FACTOR), size: sized(arg) } : null,
  replace,
  split,
  join,
  find,
  findAll: find,
  ip: (target, args, overload) => (target ? only(fixed(1)) : read(target, args, overload)),
  'ip.isCanonical': (_target, [arg]) => only(times(sized(arg), 2 * STRING_FACTOR)),
  containsIP: inRange(twoAddresses),
  containsCIDR: inRange(sum(twoAddresses, times(ADDRESS, STRING_FACTOR), fixed(1))),
  validate: (_target, [arg]) =>
    only(times(times(sized(arg), STRING_FACTOR), FORMAT_REGEX * REGEX_FACTOR)),
  'sets.contains': sets(1),
  'sets.intersects': sets(1),
  'sets.equivalent': sets(2),
  distinct: quadratic,
  sort: quadratic,
  '@sortByAssociatedKeys': quadratic,
  flatten: (target, [depth]) =>
    newList(sized(target), depth ? whole(depth, MOST) : 1, sized(target)),
  reverse: (target) =>
    target?.type.kind === 'list' ? newList(sized(target), 1, sized(target)) : null,
  slice: (target, [start, end]) => {
    const size = fixed(Math.max(whole(end, sized(target).max) - whole(start, 0), 0));
    return newList(size, 1, size);
  },
  'lists.range': (_target, [count]) => {
    const size = fixed(whole(count, MOST));
    return newList(size, 1, size);
  },
  '_==_': equality,
};

/** Null: a function of the standard, or none that these libraries have an estimate for. */
export function callEstimate(
  overload: Overload,
  target: Node | null,
  args: readonly Node[],
): Estimate | null {
  return FORMULAS[overload.name]?.(target, args, overload) ?? null;
}
