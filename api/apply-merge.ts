import { elementOf } from '#api/field-compare.ts';
import { childOf, isMember } from '#api/field-set.ts';
import type { FieldSet, MaybeFields } from '#api/field-set.ts';
import type { Shape } from '#api/field-shape.ts';
import { isPlainObject } from '#api/json.ts';
import type { PlainObject } from '#api/json.ts';

/**
 * Merging a configuration into an object, and taking out what its manager gave up.
 * Neither changes its arguments. Source: structured-merge-diff, typed.Merge and merge.prune.
 */

/** What `config` says wins; the rest of `live` stays. */
export function mergeValues(live: unknown, config: unknown, shape: Shape): unknown {
  if (config === undefined) return live;
  if (live === undefined || live === null || config === null) return config;
  if (shape.kind === 'whole') return config;
  if (shape.kind === 'map') {
    if (!isPlainObject(live) || !isPlainObject(config)) return config;
    const merged: PlainObject = { ...live };
    for (const name of Object.keys(config)) {
      const member = shape.fields.get(name) ?? shape.items ?? shape;
      merged[name] = mergeValues(live[name], config[name], member);
    }
    return merged;
  }
  if (!Array.isArray(live) || !Array.isArray(config)) return config;
  return mergeLists(live, config, shape);
}

type Item = { element: string; value: unknown };

const itemsOf = (list: readonly unknown[], shape: Shape): Item[] =>
  list.map((value) => ({ element: elementOf(value, shape), value }));

/**
 * Items that only the object has keep their place before the next common item; common ones stand in
 * the configuration's order.
 */
function mergeLists(live: readonly unknown[], config: readonly unknown[], shape: Shape): unknown[] {
  const left = itemsOf(live, shape);
  const right = itemsOf(config, shape);
  const ours = new Set(right.map(({ element }) => element));
  const theirs = new Map(left.map(({ element, value }) => [element, value]));
  const shared = right.map(({ element }) => element).filter((element) => theirs.has(element));
  const merged: unknown[] = [];
  let l = 0;
  let next = 0;
  for (const { element, value } of right) {
    const isShared = theirs.has(element);
    for (; l < left.length; l++) {
      const item = left[l];
      if (!item || (isShared && item.element === element)) break;
      if (!ours.has(item.element)) merged.push(item.value);
      // A common item that is not due yet is skipped here and comes with its turn.
      else if (item.element === shared[next]) break;
    }
    if (isShared) {
      next++;
      if (left[l]?.element === element) l++;
    }
    merged.push(mergeValues(theirs.get(element), value, shape.items ?? shape));
  }
  for (; l < left.length; l++) {
    const item = left[l];
    if (item && !ours.has(item.element)) merged.push(item.value);
  }
  return merged;
}

/**
 * Takes out of `value` what is in `last`, the manager's fields so far, and in nobody's `owned`.
 * A container goes with everything in it, also with what nobody owns.
 */
export function removeUnowned(
  value: unknown,
  last: FieldSet,
  owned: MaybeFields,
  shape: Shape,
): unknown {
  if (shape.kind === 'whole') return value;
  if (shape.kind === 'map') {
    if (!isPlainObject(value)) return value;
    return removeMembers(value, last, owned, shape);
  }
  if (!Array.isArray(value)) return value;
  return (value as unknown[]).flatMap((item) => {
    const element = elementOf(item, shape);
    const before = childOf(last, element);
    const now = childOf(owned, element);
    if (!before) return [item];
    if (isMember(before) && !(now && isMember(now))) return [];
    return [removeUnowned(item, before, now, shape.items ?? shape)];
  });
}

function removeMembers(
  value: PlainObject,
  last: FieldSet,
  owned: MaybeFields,
  shape: Shape,
): PlainObject {
  const left: PlainObject = {};
  for (const name of Object.keys(value)) {
    const element = `f:${name}`;
    const before = childOf(last, element);
    const now = childOf(owned, element);
    if (!before) {
      left[name] = value[name];
      continue;
    }
    const member = shape.fields.get(name);
    // A field of a type counts as owned with anything inside it; a map's key only by itself.
    const wasOwned = member !== undefined || isMember(before);
    const isOwned = now !== undefined && (member !== undefined || isMember(now));
    if (wasOwned && !isOwned) continue;
    left[name] = removeUnowned(value[name], before, now, member ?? shape.items ?? shape);
  }
  return left;
}

/** The configuration without the named fields, which the endpoint does not write. */
export function withoutFields<T>(value: T, fields: MaybeFields): T {
  if (!fields || !isPlainObject(value)) return value;
  const left: PlainObject = {};
  for (const name of Object.keys(value)) {
    const below = childOf(fields, `f:${name}`);
    if (!below) left[name] = value[name];
    else if (!isMember(below)) left[name] = withoutFields(value[name], below);
  }
  return left as T;
}
