import { LEAF, difference, inOrder, recursiveDifference, union } from '#api/field-set.ts';
import type { FieldSet, MaybeFields } from '#api/field-set.ts';
import { isPlainObject } from '#api/json.ts';

/** One line of metadata.managedFields. Source: metav1.ManagedFieldsEntry. */
export type ManagedFieldsEntry = {
  manager?: string;
  operation?: string;
  apiVersion?: string;
  time?: string;
  fieldsType?: string;
  fieldsV1?: FieldSet;
  subresource?: string;
};

export type Operation = 'Apply' | 'Update';

/** Who owns what. Appliers are told apart without their version, updaters with it. */
export type Owner = {
  manager: string;
  operation: Operation;
  apiVersion: string;
  subresource: string;
  time: string | undefined;
  fields: FieldSet;
};

/** No more updaters than this; the oldest ones are then merged into one. */
const MAX_UPDATERS = 10;
const ANCIENT = 'ancient-changes';

/** The identity under which an owner's entries are merged. */
export const ownerKey = (owner: Omit<Owner, 'time' | 'fields'>): string =>
  JSON.stringify([
    owner.operation,
    owner.manager,
    owner.subresource,
    owner.operation === 'Apply' ? '' : owner.apiVersion,
  ]);

/** Entries → owners; undefined when one of them cannot be read. */
export function readOwners(entries: unknown): Owner[] | undefined {
  if (entries === undefined || entries === null) return [];
  if (!Array.isArray(entries)) return undefined;
  const owners: Owner[] = [];
  for (const entry of entries as ManagedFieldsEntry[]) {
    const { operation, fieldsType = '', fieldsV1 = LEAF } = entry;
    if (operation !== 'Apply' && operation !== 'Update') return undefined;
    if (fieldsType !== 'FieldsV1' || !isPlainObject(fieldsV1)) return undefined;
    owners.push({
      manager: entry.manager ?? '',
      operation,
      apiVersion: entry.apiVersion ?? '',
      subresource: entry.subresource ?? '',
      time: entry.time,
      fields: fieldsV1,
    });
  }
  return owners;
}

/** Owners → entries in upstream's order: appliers first, then by time, name and version. */
export function writeOwners(owners: readonly Owner[]): ManagedFieldsEntry[] {
  return [...owners].sort(compareOwners).map((owner) => ({
    manager: owner.manager,
    operation: owner.operation,
    apiVersion: owner.apiVersion,
    ...(owner.time === undefined ? {} : { time: owner.time }),
    fieldsType: 'FieldsV1',
    fieldsV1: inOrder(owner.fields),
    ...(owner.subresource === '' ? {} : { subresource: owner.subresource }),
  }));
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const compareOwners = (a: Owner, b: Owner): number =>
  order(a.operation, b.operation) ||
  order(a.time ?? '', b.time ?? '') ||
  order(a.manager, b.manager) ||
  order(a.apiVersion, b.apiVersion) ||
  order(a.subresource, b.subresource);

/** Takes fields away from every owner that `applies` to; owners left with nothing go. */
export function takeFrom(
  owners: readonly Owner[],
  fields: MaybeFields,
  applies: (owner: Owner) => boolean = () => true,
): Owner[] {
  if (!fields) return [...owners];
  const left: Owner[] = [];
  for (const owner of owners) {
    if (!applies(owner)) {
      left.push(owner);
      continue;
    }
    const kept = difference(owner.fields, fields);
    if (kept) left.push(kept === owner.fields ? owner : { ...owner, fields: kept });
  }
  return left;
}

/** Gives fields to an owner, who may be new; its version and time become the given ones. */
export function giveTo(owners: readonly Owner[], owner: Owner): Owner[] {
  const key = ownerKey(owner);
  const index = owners.findIndex((other) => ownerKey(other) === key);
  const known = owners[index];
  if (!known) return [...owners, owner];
  const fields = union(known.fields, owner.fields) ?? LEAF;
  return owners.with(index, { ...owner, fields });
}

/** Merges the oldest updaters of one version into one, so that the list stays short. */
export function capUpdaters(owners: readonly Owner[]): readonly Owner[] {
  const updaters = owners.filter(({ operation }) => operation === 'Update').sort(compareOwners);
  let surplus = updaters.length - MAX_UPDATERS;
  if (surplus <= 0) return owners;
  const left = new Set(owners);
  const buckets = new Map<string, Owner>();
  for (const owner of updaters) {
    if (surplus <= 0) break;
    const bucket = buckets.get(owner.apiVersion);
    // The first of a version stays as it is until a second one can be merged with it.
    if (!bucket) {
      buckets.set(owner.apiVersion, owner);
      continue;
    }
    const fields = union(bucket.fields, owner.fields) ?? LEAF;
    const merged: Owner = { ...owner, manager: ANCIENT, subresource: '', fields };
    left.delete(owner);
    left.delete(bucket);
    left.add(merged);
    buckets.set(owner.apiVersion, merged);
    surplus--;
  }
  return [...left];
}

/** Fields that the server writes itself, and names: nobody owns them. */
export const NOBODYS: FieldSet = {
  'f:apiVersion': LEAF,
  'f:kind': LEAF,
  'f:metadata': {
    '.': LEAF,
    'f:creationTimestamp': LEAF,
    'f:generation': LEAF,
    'f:managedFields': LEAF,
    'f:name': LEAF,
    'f:namespace': LEAF,
    'f:resourceVersion': LEAF,
    'f:selfLink': LEAF,
    'f:uid': LEAF,
  },
};

/** What a write may own: not the server's fields, not what the endpoint does not write. */
export const ownable = (fields: MaybeFields, ignored: MaybeFields): MaybeFields =>
  recursiveDifference(difference(fields, NOBODYS), ignored);

/**
 * Who owns the replicas of an object after its scale was written. Upstream keeps the owners in the
 * Scale itself while it works: 0 replicas are not in it, so nobody owns them afterwards; a Scale
 * without owners is not tracked; and its entries have no time. Source: managedfields.ScaleHandler.
 */
export function scaledOwners(
  owners: readonly Owner[],
  scale: { path: FieldSet; replicas: number },
  by: { manager: string; apiVersion: string },
): Owner[] {
  const { path, replicas } = scale;
  const left = takeFrom(owners, path);
  const hadOwner = owners.some(({ fields }) => difference(fields, path) !== fields);
  if (!hadOwner || replicas === 0) return left;
  const owner = { ...by, operation: 'Update', subresource: 'scale', time: undefined } as const;
  return giveTo(left, { ...owner, fields: path });
}
