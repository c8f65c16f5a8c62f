import type { Overload } from '#api/cel/function.ts';
import { CelList, CelMap, CelObject, Opaque, Optional, type Value } from '#api/cel/values.ts';

/** Cost of going through a text once, per character. */
export const STRING_FACTOR = 0.1;
/** Cost of a regular expression, per character of its pattern. */
export const REGEX_FACTOR = 0.25;
/** An authorization check is so dear that only two fit into one expression. */
const CHECK_COST = 350_000;

/**
 * What one call has cost. Source: the cost model of cel-go and of Kubernetes' CEL libraries;
 * it decides which policies and rules a cluster accepts, so it has to be the same.
 */
export function callCost(overload: Overload, args: readonly Value[], result: Value): number {
  const [first = null, second = null] = args;
  const formula = FORMULAS[overload.name];
  return formula ? formula(first, second, result, overload) : 1;
}

type Formula = (first: Value, second: Value, result: Value, overload: Overload) => number;

const traversal: Formula = (first) => Math.ceil(sizeOf(first) * STRING_FACTOR);
const twice: Formula = (first) => Math.ceil(sizeOf(first) * 2 * STRING_FACTOR);
const walk: Formula = (first) => walkCost(first);
const regex: Formula = (first, second) =>
  Math.ceil((1 + sizeOf(first)) * STRING_FACTOR) * Math.ceil(sizeOf(second) * REGEX_FACTOR);
const smaller: Formula = (first, second) =>
  first instanceof Opaque ? 1 : Math.ceil(Math.min(sizeOf(first), sizeOf(second)) * STRING_FACTOR);
const order: Formula = (first, second, result, overload) =>
  overload.args[0]?.kind === 'string' || overload.args[0]?.kind === 'bytes'
    ? smaller(first, second, result, overload)
    : 1;

const FORMULAS: Readonly<Record<string, Formula>> = {
  check: () => CHECK_COST,
  startsWith: (_text, prefix) => Math.ceil(sizeOf(prefix) * STRING_FACTOR),
  endsWith: (_text, suffix) => Math.ceil(sizeOf(suffix) * STRING_FACTOR),
  format: traversal,
  'strings.quote': traversal,
  bytes: traversal,
  string: (first) => (first instanceof Uint8Array ? traversal(first, null, null, NO_OVERLOAD) : 1),
  '@in': (_item, list) => (list instanceof CelList ? list.length : 1),
  '_==_': smaller,
  '_!=_': smaller,
  '_<_': order,
  '_<=_': order,
  '_>_': order,
  '_>=_': order,
  '_+_': (first, second, _result, overload) =>
    overload.args[0]?.kind === 'string' || overload.args[0]?.kind === 'bytes'
      ? Math.ceil((sizeOf(first) + sizeOf(second)) * STRING_FACTOR)
      : 1,
  matches: regex,
  find: regex,
  findAll: regex,
  contains: (first, second) =>
    Math.ceil(sizeOf(first) * STRING_FACTOR) * Math.ceil(sizeOf(second) * STRING_FACTOR),
  isSorted: walk,
  sum: walk,
  max: walk,
  min: walk,
  indexOf: walk,
  lastIndexOf: walk,
  includes: walk,
  url: traversal,
  lowerAscii: traversal,
  upperAscii: traversal,
  substring: traversal,
  trim: traversal,
  'jsonpatch.escapeKey': traversal,
  replace: twice,
  split: twice,
  join: (_list, _separator, result) => Math.ceil(sizeOf(result) * 2 * STRING_FACTOR),
  cidr: traversal,
  isIP: traversal,
  isCIDR: traversal,
  ip: (first) => (first instanceof Opaque ? 1 : traversal(first, null, null, NO_OVERLOAD)),
  'ip.isCanonical': twice,
  containsIP: (range, other) => Math.ceil(2 * sizeOf(range) * STRING_FACTOR) + textCost(other),
  containsCIDR: (range, other) =>
    Math.ceil(2 * sizeOf(range) * STRING_FACTOR) +
    Math.ceil(sizeOf(range) * STRING_FACTOR) +
    1 +
    textCost(other),
  quantity: traversal,
  isQuantity: traversal,
  semver: traversal,
  isSemver: traversal,
  validate: (format, text) =>
    Math.ceil((1 + sizeOf(text)) * STRING_FACTOR) * Math.ceil(patternSize(format) * REGEX_FACTOR),
  fieldSelector: (_check, text) => selectorCost(sizeOf(text)),
  labelSelector: (_check, text) => selectorCost(sizeOf(text)),
  'sets.contains': (first, second) => 1 + sizeOf(first) * sizeOf(second),
  'sets.intersects': (first, second) => 1 + sizeOf(first) * sizeOf(second),
  'sets.equivalent': (first, second) => 1 + 2 * sizeOf(first) * sizeOf(second),
  distinct: (first) => sizeOf(first) ** 2 + 10,
  sort: (first) => sizeOf(first) ** 2 + 10,
  flatten: (_first, _second, result) => sizeOf(result) + 10,
  slice: (_first, _second, result) => sizeOf(result) + 10,
  'lists.range': (_first, _second, result) => sizeOf(result) + 10,
  reverse: (first, _second, result) => (first instanceof CelList ? sizeOf(result) + 10 : 1),
};

/** Lengths of the patterns that upstream takes named formats for. */
const PATTERN_SIZES: Readonly<Record<string, number>> = {
  dns1123Label: 30,
  dns1123Subdomain: 60,
  dns1035Label: 30,
  qualifiedName: 60,
  dns1123LabelPrefix: 30,
  dns1123SubdomainPrefix: 60,
  dns1035LabelPrefix: 30,
  labelValue: 40,
  uri: 1103,
  uuid: 83,
  byte: 84,
  date: 71,
  datetime: 71,
};

const patternSize = (format: Value): number =>
  format instanceof Opaque
    ? (PATTERN_SIZES[(format.value as { name?: string }).name ?? ''] ?? FORMAT_REGEX)
    : FORMAT_REGEX;

/** Length of the longest pattern behind a named format, for the estimate. */
export const FORMAT_REGEX = 130;

const NO_OVERLOAD: Overload = {
  name: '',
  member: false,
  args: [],
  result: { kind: 'dyn' },
  parameters: [],
  run: () => null,
};

/** Going through all that a value holds. */
function walkCost(value: Value): number {
  if (typeof value === 'string') return Math.floor(Buffer.byteLength(value) * STRING_FACTOR);
  if (value instanceof Uint8Array) return Math.floor(value.length * STRING_FACTOR);
  let cost = 0;
  if (value instanceof CelList) for (const item of value) cost += walkCost(item);
  else if (value instanceof CelMap) {
    for (const key of value.keys()) cost += walkCost(key) + walkCost(value.get(key) ?? null);
  } else if (value instanceof CelObject) {
    for (const name of value.names()) cost += walkCost(name) + walkCost(value.get(name) ?? null);
  } else return 1;
  return cost;
}

const textCost = (value: Value): number =>
  typeof value === 'string' ? Math.ceil(value.length * STRING_FACTOR) : 0;

/** A selector of so many characters: to read it, and a list and struct for each requirement. */
function selectorCost(length: number): number {
  return 10 + Math.ceil(length * STRING_FACTOR) + Math.ceil(Math.ceil(length * 0.5) * 50);
}

/** Characters, items or entries; 1 for what has no size. */
export function sizeOf(value: Value): number {
  if (typeof value === 'string') return codePoints(value);
  if (value instanceof CelList || value instanceof Uint8Array) return value.length;
  if (value instanceof CelMap) return value.size;
  if (value instanceof CelObject) return value.names().length;
  if (value instanceof Optional && value.value !== undefined) return sizeOf(value.value);
  if (value instanceof Opaque) return opaqueSize(value);
  return 1;
}

/** Addresses count their bytes. */
function opaqueSize(value: Opaque): number {
  if (value.type !== 'net.IP' && value.type !== 'net.CIDR') return 1;
  const { bytes } = value.value as { bytes?: Uint8Array };
  return bytes?.length ?? 1;
}

/** Length in code points. */
export function codePoints(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00) {
      count--;
      i++;
    }
  }
  return count;
}
