import { LEAF } from '#api/field-set.ts';
import type { FieldSet, MaybeFields } from '#api/field-set.ts';
import type { Shape } from '#api/field-shape.ts';
import { equalJson, isPlainObject } from '#api/json.ts';

/**
 * What differs between two values of one shape, as field sets.
 * Source: structured-merge-diff, typed.Compare: a container that appears or goes counts itself too.
 */
export type Comparison = {
  /** Fields that appeared or have another value. */
  changed: MaybeFields;
  removed: MaybeFields;
};

type Growing = { [element: string]: FieldSet };
type Sets = { changed: Growing | undefined; removed: Growing | undefined };

export function compareFields(before: unknown, after: unknown, shape: Shape): Comparison {
  if (before === undefined) {
    // Members that are written as null when they are empty were null before, too.
    if (after === null) return NOTHING;
    return { changed: fieldsOfNew(after, shape), removed: undefined };
  }
  if (after === undefined) return { changed: undefined, removed: fieldsOfNew(before, shape) };
  if (before === after) return NOTHING;
  if (shape.kind === 'whole' || isEmpty(before, after)) return compareWhole(before, after);
  const sets: Sets = { changed: undefined, removed: undefined };
  if (shape.kind === 'map') {
    if (!isMapOrNull(before) || !isMapOrNull(after)) return compareWhole(before, after);
    compareMaps(before ?? {}, after ?? {}, shape, sets);
  } else {
    if (!isListOrNull(before) || !isListOrNull(after)) return compareWhole(before, after);
    compareLists(before ?? [], after ?? [], shape, sets);
  }
  return { changed: sets.changed, removed: sets.removed };
}

const NOTHING: Comparison = { changed: undefined, removed: undefined };
const CHANGED: Comparison = { changed: LEAF, removed: undefined };

const compareWhole = (before: unknown, after: unknown): Comparison =>
  equalJson(before, after) ? NOTHING : CHANGED;

const isMapOrNull = (value: unknown): value is Record<string, unknown> | null =>
  value === null || isPlainObject(value);
const isListOrNull = (value: unknown): value is unknown[] | null =>
  value === null || Array.isArray(value);

function isBlank(value: unknown): boolean {
  if (value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value !== 'object') return false;
  for (const _ in value) return false;
  return true;
}

/** Two empty containers are compared as wholes, so that {} and null stay two things. */
const isEmpty = (before: unknown, after: unknown): boolean => isBlank(before) && isBlank(after);

function add(sets: Sets, element: string, { changed, removed }: Comparison): void {
  if (changed) (sets.changed ??= {})[element] = changed;
  if (removed) (sets.removed ??= {})[element] = removed;
}

function compareMaps(
  before: Record<string, unknown>,
  after: Record<string, unknown>,
  shape: Shape,
  sets: Sets,
): void {
  for (const name in after) {
    const member = shape.fields.get(name) ?? shape.items;
    if (member) add(sets, `f:${name}`, compareFields(before[name], after[name], member));
  }
  for (const name in before) {
    if (after[name] !== undefined) continue;
    const member = shape.fields.get(name) ?? shape.items;
    if (member) add(sets, `f:${name}`, compareFields(before[name], undefined, member));
  }
}

function compareLists(before: unknown[], after: unknown[], shape: Shape, sets: Sets): void {
  const old = new Map<string, unknown>();
  for (const item of before) {
    const element = elementOf(item, shape);
    if (!old.has(element)) old.set(element, item);
  }
  const items = itemShape(shape);
  const seen = new Set<string>();
  for (const item of after) {
    const element = elementOf(item, shape);
    if (seen.has(element)) continue;
    seen.add(element);
    add(sets, element, compareFields(old.get(element), item, items));
  }
  for (const [element, item] of old) {
    if (!seen.has(element)) add(sets, element, compareFields(item, undefined, items));
  }
}

const itemShape = (shape: Shape): Shape => shape.items ?? shape;

/** Everything about a value that was not there before. */
function fieldsOfNew(value: unknown, shape: Shape): MaybeFields {
  if (value === undefined) return undefined;
  if (shape.kind === 'whole' || isBlank(value)) return LEAF;
  const tree: Growing = { '.': LEAF };
  if (shape.kind === 'map') {
    if (!isPlainObject(value)) return LEAF;
    for (const name in value) {
      const member = shape.fields.get(name) ?? shape.items;
      const below = member && fieldsOfNew(value[name], member);
      if (below) tree[`f:${name}`] = below;
    }
  } else {
    if (!Array.isArray(value)) return LEAF;
    for (const item of value) {
      const below = fieldsOfNew(item, itemShape(shape));
      if (below) tree[elementOf(item, shape)] = below;
    }
  }
  return tree;
}

/**
 * The fields that a configuration speaks of. Unlike a comparison it does not count containers,
 * except items of lists and empty ones. Source: structured-merge-diff, ToFieldSet.
 */
export function fieldsOfValue(value: unknown, shape: Shape): MaybeFields {
  if (shape.kind === 'whole') return LEAF;
  if (shape.kind === 'map') {
    if (!isPlainObject(value)) return undefined;
    let tree: Growing | undefined;
    for (const name in value) {
      const member = shape.fields.get(name) ?? shape.items;
      if (!member) continue;
      const inner = value[name];
      const below = inner === null || isEmptyMap(inner) ? LEAF : fieldsOfValue(inner, member);
      if (below) (tree ??= {})[`f:${name}`] = below;
    }
    return tree;
  }
  if (!Array.isArray(value)) return undefined;
  let tree: Growing | undefined;
  for (const item of value) {
    const below = fieldsOfValue(item, itemShape(shape));
    const isLeaf = below === undefined || below === LEAF;
    (tree ??= {})[elementOf(item, shape)] = isLeaf ? LEAF : { '.': LEAF, ...below };
  }
  return tree;
}

const isEmptyMap = (value: unknown): boolean => isPlainObject(value) && isBlank(value);

/** Names an item: `k:{"name":"c"}` in lists that have keys, `v:"x"` in sets. */
export function elementOf(item: unknown, shape: Shape): string {
  if (shape.kind === 'list-set') return `v:${JSON.stringify(item)}`;
  const members = isPlainObject(item) ? item : {};
  let text = '';
  for (const key of shape.keys) {
    const value = members[key] ?? shape.keyDefaults[key];
    if (value === undefined) continue;
    text += `${text === '' ? '' : ','}${JSON.stringify(key)}:${JSON.stringify(value)}`;
  }
  return `k:{${text}}`;
}
