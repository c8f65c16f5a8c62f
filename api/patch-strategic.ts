import { cloneJson, isPlainObject } from '#api/json.ts';
import type { PlainObject } from '#api/json.ts';
import { inOrder, normalizeOrder } from '#api/patch-order.ts';
import { resolve } from '#api/schema.ts';
import type { Definitions, Schema } from '#api/schema.ts';
import { badRequestError, failure } from '#api/status.ts';

/**
 * Strategic merge: objects merge member by member, lists merge by the key that their schema names,
 * and directives inside the patch replace, delete, reorder. The order of what comes out is
 * upstream's to the letter, because users' diffs show it.
 * Source: Kubernetes "Strategic merge patch", k8s.io/community strategic-merge-patch.md.
 */

const PATCH = '$patch';
const RETAIN_KEYS = '$retainKeys';
const DELETE_PRIMITIVES = '$deleteFromPrimitiveList/';
const SET_ORDER = '$setElementOrder/';

/** All that upstream says of a patch that contradicts itself. */
const UNFIT = 'the server rejected our request due to an error in our request';

/** Upstream answers such patches with a bare 500; the text tells what is wrong. */
export const patchError = (message: string): Error => failure(500, '', message);

/** Merges on copies. Throws StatusError 400, 422 or 500 in upstream's words when a directive cannot be obeyed. */
export function strategicMergePatch(
  target: unknown,
  patch: unknown,
  schema: Schema,
  definitions: Definitions,
): unknown {
  const into = isPlainObject(target) ? cloneJson(target) : {};
  return mergeMap(into, cloneJson(patch) as PlainObject, { schema, definitions });
}

/** A place in the schema; undefined beneath fields that it does not know. */
type Place = { schema: Schema | undefined; definitions: Definitions };

/** What the schema says about merging one member. */
type Rule = { place: Place; strategy: 'merge' | 'replace'; mergeKey: string };

function ruleOf({ schema, definitions }: Place, member: string): Rule {
  const parent = schema ? resolve(schema, definitions) : undefined;
  const properties = parent?.properties;
  const field = properties && Object.hasOwn(properties, member) ? properties[member] : undefined;
  const strategies = (field?.['x-kubernetes-patch-strategy'] ?? '').split(',');
  const values =
    field ??
    (typeof parent?.additionalProperties === 'object' ? parent.additionalProperties : undefined);
  const isList = values !== undefined && resolve(values, definitions).items !== undefined;
  const inside = isList && values ? resolve(values, definitions).items : values;
  return {
    place: { schema: inside, definitions },
    strategy: strategies.includes('replace')
      ? 'replace'
      : strategies.includes('merge') || !isList
        ? 'merge'
        : 'replace',
    mergeKey: field?.['x-kubernetes-patch-merge-key'] ?? '',
  };
}

function mergeMap(original: PlainObject, patch: PlainObject, place: Place): PlainObject {
  if (Object.hasOwn(patch, PATCH)) return obeyDirective(patch);
  obeyRetainKeys(original, patch);
  obeySetOrder(original, patch, place);
  for (const [name, value] of Object.entries(patch)) {
    const isDeletion = name.startsWith(DELETE_PRIMITIVES);
    const member = isDeletion ? name.slice(DELETE_PRIMITIVES.length) : name;
    if (value === null) {
      delete original[member];
    } else if (!Object.hasOwn(original, member) || kindOf(original[member]) !== kindOf(value)) {
      if (!isDeletion) original[member] = withoutDirectives(value);
    } else {
      original[member] = mergeMember(original[member], value, ruleOf(place, member), isDeletion);
    }
  }
  return original;
}

function mergeMember(original: unknown, patch: unknown, rule: Rule, isDeletion: boolean): unknown {
  if (Array.isArray(patch)) {
    if (rule.strategy === 'replace' && !isDeletion) return withoutDirectives(patch);
    return mergeList(original as unknown[], patch, rule, isDeletion);
  }
  if (!isPlainObject(patch)) return patch;
  if (rule.strategy === 'replace') return withoutDirectives(patch);
  return mergeMap(original as PlainObject, patch, rule.place);
}

const kindOf = (value: unknown): string =>
  Array.isArray(value) ? 'list' : value === null ? 'null' : typeof value;

function obeyDirective(patch: PlainObject): PlainObject {
  const directive = patch[PATCH];
  if (directive === 'delete') return {};
  if (directive !== 'replace') {
    throw patchError(`unknown patch type: ${goText(directive)} in map: ${goText(patch)}`);
  }
  const { [PATCH]: _, ...rest } = patch;
  return withoutDirectives(rest) as PlainObject;
}

/** `$retainKeys` names every member that may stay; the patch itself may only use these. */
function obeyRetainKeys(original: PlainObject, patch: PlainObject): void {
  const retained = patch[RETAIN_KEYS];
  if (retained === undefined) return;
  delete patch[RETAIN_KEYS];
  if (!Array.isArray(retained)) throw badRequestError('invalid patch format of retainKeys');
  const names = new Set<unknown>(retained);
  for (const name of Object.keys(patch)) {
    const member = name.startsWith(SET_ORDER)
      ? name.slice(SET_ORDER.length)
      : name.startsWith(DELETE_PRIMITIVES)
        ? name.slice(DELETE_PRIMITIVES.length)
        : name;
    // A member that the patch takes away need not be one that stays.
    if (patch[name] === null) continue;
    if (!names.has(member)) {
      throw failure(422, 'Invalid', UNFIT);
    }
  }
  for (const name of Object.keys(original)) if (!names.has(name)) delete original[name];
}

/** `$setElementOrder/x` merges the list x now and puts its items into the order given. */
function obeySetOrder(original: PlainObject, patch: PlainObject, place: Place): void {
  for (const name of Object.keys(patch)) {
    if (!name.startsWith(SET_ORDER)) continue;
    const order = patch[name];
    delete patch[name];
    const member = name.slice(SET_ORDER.length);
    const listed = listAt(original, member);
    const patched = listAt(patch, member);
    if (!Array.isArray(order)) {
      throw badRequestError('invalid patch format of setElementOrder list');
    }
    if (!listed && !patched) continue;
    const rule = ruleOf(place, member);
    if (patched) checkOrder(patched, order, rule.mergeKey);
    const merged =
      listed && patched
        ? mergeMember(listed, patched, rule, false)
        : (listed ?? withoutDirectives(patched));
    original[member] = normalizeOrder({
      merged: merged as unknown[],
      order,
      server: listed ?? [],
      mergeKey: rule.mergeKey,
    });
    delete patch[member];
  }
}

function listAt(object: PlainObject, member: string): unknown[] | undefined {
  const value = object[member];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) {
    throw patchError(`expected a list for ${member}, but received a ${kindOf(value)}`);
  }
  return value as unknown[];
}

/** The patch's items have to appear in the order list, in the same order. */
function checkOrder(patched: unknown[], order: unknown[], mergeKey: string): void {
  const items = patched.filter((item) => !isPlainObject(item) || item[PATCH] === undefined);
  if (!inOrder(items, order, mergeKey)) {
    throw patchError(
      `The order in patch list:\n${goText(items)}\n doesn't match ${SET_ORDER.slice(0, -1)} list:\n${goText(order)}\n`,
    );
  }
}

function mergeList(
  original: unknown[],
  patch: unknown[],
  rule: Rule,
  isDeletion: boolean,
): unknown[] {
  if (original.length === 0 && patch.length === 0) return original;
  const areMaps = [...original, ...patch].map((item) => isPlainObject(item));
  if (areMaps.includes(true) !== areMaps.every(Boolean)) {
    throw patchError(`list element types are not identical: ${goText([original, patch])}`);
  }
  if (!areMaps[0]) {
    if (isDeletion) return original.filter((item) => !patch.includes(item));
    const merged = [...new Set([...original, ...patch])];
    return normalizeOrder({ merged, order: patch, server: original, mergeKey: '' });
  }
  if (rule.mergeKey === '') throw patchError('cannot merge lists without merge key');
  const special = mergeSpecialItems(
    original as PlainObject[],
    patch as PlainObject[],
    rule.mergeKey,
  );
  const merged = mergeItems([...special.kept], special.patch, rule);
  return normalizeOrder({
    merged,
    order: special.patch,
    server: special.kept,
    mergeKey: rule.mergeKey,
  });
}

/** Items that carry `$patch` delete their like, or say that the patch replaces the whole list. */
function mergeSpecialItems(
  original: PlainObject[],
  patch: PlainObject[],
  mergeKey: string,
): { kept: PlainObject[]; patch: PlainObject[] } {
  let kept = original;
  let replaces = false;
  const plain: PlainObject[] = [];
  for (const item of patch) {
    const directive = item[PATCH];
    if (directive === undefined) {
      plain.push(item);
    } else if (directive === 'delete') {
      const key = keyOf(item, mergeKey);
      kept = kept.filter((other) => other[mergeKey] !== key);
    } else if (directive === 'replace') {
      replaces = true;
    } else if (directive === 'merge') {
      throw patchError('merging lists cannot yet be specified in the patch');
    } else {
      throw patchError(`unknown patch type: ${goText(directive)} in map: ${goText(item)}`);
    }
  }
  // A list that is replaced is taken as it stands, also where it has one key twice.
  return replaces
    ? { kept: plain.map((item) => withoutDirectives(item) as PlainObject), patch: [] }
    : { kept, patch: plain };
}

function keyOf(item: PlainObject, mergeKey: string): unknown {
  if (!Object.hasOwn(item, mergeKey)) {
    throw patchError(`map: ${goText(item)} does not contain declared merge key: ${mergeKey}`);
  }
  return item[mergeKey];
}

function mergeItems(into: PlainObject[], patch: PlainObject[], rule: Rule): PlainObject[] {
  for (const item of patch) {
    const key = keyOf(item, rule.mergeKey);
    const found = into.findIndex((other) => other[rule.mergeKey] === key);
    const existing = into[found];
    if (existing) into[found] = mergeMap(existing, item, rule.place);
    else into.push(withoutDirectives(item) as PlainObject);
  }
  return into;
}

/** What is new in the object is taken as it stands, without nulls and without directives. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value
      .filter(
        (item) => !isPlainObject(item) || item[PATCH] === undefined || item[PATCH] === 'merge',
      )
      .map(withoutDirectives);
  }
  if (!isPlainObject(value)) return value;
  const plain: PlainObject = {};
  for (const [name, member] of Object.entries(value)) {
    const isDirective =
      name === PATCH ||
      name === RETAIN_KEYS ||
      name.startsWith(SET_ORDER) ||
      name.startsWith(DELETE_PRIMITIVES);
    if (!isDirective && member !== null) plain[name] = withoutDirectives(member);
  }
  return plain;
}

/** A value as upstream's messages print it: `map[a:1 b:[x y]]`. */
export function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (value === null || value === undefined) return '<nil>';
  if (!isPlainObject(value)) return String(value);
  const members = Object.keys(value).sort();
  return `map[${members.map((name) => `${name}:${goText(value[name])}`).join(' ')}]`;
}
