/**
 * A set of fields in the very form that metadata.managedFields stores (FieldsV1): a tree whose
 * members are named `f:<field>`, `k:<keys as JSON>` or `v:<value as JSON>`. A tree without members
 * beneath it says that the field itself belongs to the set; with members, a `.` says so.
 * Sets are never changed in place, because stored objects share them.
 * Source: metav1.FieldsV1, structured-merge-diff.
 */
export type FieldSet = { readonly [element: string]: FieldSet };

/** The field itself and nothing beneath it. */
export const LEAF: FieldSet = Object.freeze({});

/** A tree without members is a leaf, so "no fields at all" is undefined. */
export type MaybeFields = FieldSet | undefined;

function hasMembers(set: FieldSet): boolean {
  for (const _ in set) return true;
  return false;
}

/** Whether the tree's own field belongs to the set. */
export const isMember = (set: FieldSet): boolean => '.' in set || !hasMembers(set);

type Growing = { [element: string]: FieldSet };

/** Makes a tree out of its parts; undefined when nothing is left. */
export function treeOf(self: boolean, children: Growing | undefined): MaybeFields {
  if (children === undefined) return self ? LEAF : undefined;
  return self ? { '.': LEAF, ...children } : children;
}

/** A tree's member beneath, without being misled by the prototype. */
export const childOf = (set: MaybeFields, element: string): MaybeFields =>
  set !== undefined && Object.hasOwn(set, element) ? set[element] : undefined;

export function union(a: MaybeFields, b: MaybeFields): MaybeFields {
  if (!a || a === b) return b;
  if (!b) return a;
  const children: Growing = {};
  let some = false;
  for (const element in a) {
    if (element === '.') continue;
    some = true;
    children[element] = union(a[element], childOf(b, element)) ?? LEAF;
  }
  for (const element in b) {
    if (element === '.' || Object.hasOwn(a, element)) continue;
    some = true;
    children[element] = b[element] ?? LEAF;
  }
  return treeOf(isMember(a) || isMember(b), some ? children : undefined);
}

/** Fields of `a` that are not in `b`; a field of `b` does not take what lies beneath it along. */
export function difference(a: MaybeFields, b: MaybeFields): MaybeFields {
  return subtract(a, b, false);
}

/** The same, but a field of `b` takes everything beneath it along. */
export function recursiveDifference(a: MaybeFields, b: MaybeFields): MaybeFields {
  return subtract(a, b, true);
}

function subtract(a: MaybeFields, b: MaybeFields, deep: boolean): MaybeFields {
  if (!a || !b) return a;
  const taken = isMember(b);
  if (taken && deep) return undefined;
  const own = isMember(a);
  let children: Growing | undefined;
  let isSame = !(own && taken);
  for (const element in a) {
    if (element === '.') continue;
    const before = a[element];
    const after = subtract(before, childOf(b, element), deep);
    if (after !== before) isSame = false;
    if (after) {
      children ??= {};
      children[element] = after;
    }
  }
  if (isSame) return a;
  return treeOf(own && !taken, children);
}

export function intersection(a: MaybeFields, b: MaybeFields): MaybeFields {
  if (!a || !b) return undefined;
  let children: Growing | undefined;
  for (const element in a) {
    if (element === '.') continue;
    const both = intersection(a[element], childOf(b, element));
    if (both) {
      children ??= {};
      children[element] = both;
    }
  }
  return treeOf(isMember(a) && isMember(b), children);
}

export function equalFields(a: MaybeFields, b: MaybeFields): boolean {
  if (a === b) return true;
  if (!a || !b || isMember(a) !== isMember(b)) return false;
  let members = 0;
  for (const element in a) {
    if (element === '.') continue;
    members++;
    if (!equalFields(a[element], childOf(b, element))) return false;
  }
  for (const element in b) if (element !== '.') members--;
  return members === 0;
}

/**
 * The same set with its members in the order in which upstream writes them. Clients that keep the
 * bytes of a set compare them.
 */
export function inOrder(set: FieldSet): FieldSet {
  if (isInOrder(set)) return set;
  const sorted: Growing = {};
  for (const element of Object.keys(set).sort()) sorted[element] = inOrder(set[element] ?? LEAF);
  return sorted;
}

function isInOrder(set: FieldSet): boolean {
  let before = '';
  for (const element in set) {
    if (element < before || !isInOrder(set[element] ?? LEAF)) return false;
    before = element;
  }
  return true;
}

/** Paths as upstream prints them: `.spec.ports[port=80,protocol="TCP"].targetPort`, sorted. */
export function pathsOf(set: MaybeFields): string[] {
  const paths: string[] = [];
  const visit = (tree: FieldSet, path: string): void => {
    if (isMember(tree)) paths.push(path);
    for (const element in tree) {
      const below = tree[element];
      if (element !== '.' && below) visit(below, path + printElement(element));
    }
  };
  if (set) visit(set, '');
  return paths.sort();
}

function printElement(element: string): string {
  const text = element.slice(2);
  if (element.startsWith('f:')) return `.${text}`;
  if (element.startsWith('v:')) return `[=${text}]`;
  if (!element.startsWith('k:')) return `[${text}]`;
  const keys = JSON.parse(text) as Record<string, unknown>;
  return `[${Object.keys(keys)
    .sort()
    .map((key) => `${key}=${JSON.stringify(keys[key])}`)
    .join(',')}]`;
}

/** A set from dotted paths of plain fields: `metadata.labels`, `status`. */
export function fieldsOf(...paths: string[]): FieldSet {
  let set: MaybeFields;
  for (const path of paths) {
    let tree: FieldSet = LEAF;
    for (const name of path.split('.').reverse()) tree = { [`f:${name}`]: tree };
    set = union(set, tree);
  }
  return set ?? LEAF;
}
