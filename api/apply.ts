import { compareFields } from '#api/field-compare.ts';
import { fieldsOf } from '#api/field-set.ts';
import type { FieldSet, MaybeFields } from '#api/field-set.ts';
import { shapeOf, zeroObject } from '#api/field-shape.ts';
import {
  capUpdaters,
  giveTo,
  ownable,
  readOwners,
  takeFrom,
  writeOwners,
} from '#api/managed-fields.ts';
import type { Owner } from '#api/managed-fields.ts';
import type { Definitions, Schema } from '#api/schema.ts';
import type { KubeObject } from '#api/types.ts';

/**
 * Field ownership. For the write path:
 *
 * - `trackManagedFields(write)` on every create and update (PUT, and PATCH of all types but apply),
 *   after admission and defaulting and before the object is encoded: it sets
 *   `write.object.metadata.managedFields` (or removes it) and changes nothing else.
 * - `applyPatch(...)` for `application/apply-patch+yaml`.
 *
 * Objects are never copied as a whole, and ownership trees are shared between versions: treat
 * `metadata.managedFields` as frozen.
 * Source: Kubernetes "Server-Side Apply", structured-merge-diff.
 */

export type FieldWrite = {
  /** What is stored; null at creation. */
  old: KubeObject | null;
  /** What will be stored, with the managedFields that the client sent, if any. */
  object: KubeObject;
  schema: Schema;
  definitions: Definitions;
  /** `apps/v1`: the version in which the client speaks. */
  apiVersion: string;
  /** `fieldManager` of the request, else `managerOf(userAgent)`. */
  manager: string;
  /** '' for the object itself; 'status', 'scale', … */
  subresource: string;
  /** `2024-05-01T10:00:00Z` */
  now: string;
  /** Dotted paths that this endpoint does not write; default by `ignoredPaths`. */
  ignored?: FieldSet | undefined;
};

const STATUS: FieldSet = fieldsOf('status');
const ALL_BUT_STATUS: FieldSet = fieldsOf('spec', 'metadata.labels');

/** A write to an object with a status subresource does not own status, one to status only that. */
export function ignoredPaths(subresource: string, hasStatus: boolean): FieldSet | undefined {
  if (subresource === 'status') return ALL_BUT_STATUS;
  return subresource === '' && hasStatus ? STATUS : undefined;
}

/** What stands before the first `/` of a User-Agent, as upstream takes it. */
export function managerOf(userAgent: string | undefined): string {
  const [name = ''] = (userAgent ?? '').split('/');
  return name === '' ? 'unknown' : name;
}

/** Says in the object who owns which field after this write. See the top of this file. */
export function trackManagedFields(write: FieldWrite): void {
  const { old, object } = write;
  const owners = currentOwners(old, object);
  // An object without owners that is already stored was never tracked, or its owners were reset.
  if (old && owners.length === 0) {
    delete object.metadata.managedFields;
    return;
  }
  setOwners(object, update(write, owners));
}

type ManagedFields = NonNullable<KubeObject['metadata']['managedFields']>;

function setOwners(object: KubeObject, owners: readonly Owner[]): void {
  if (owners.length === 0) delete object.metadata.managedFields;
  else object.metadata.managedFields = writeOwners(owners) as ManagedFields;
}

/** The client's own list counts, if it can be read; one empty entry means that it shall be empty. */
function currentOwners(old: KubeObject | null, object: KubeObject): Owner[] {
  const sent = object.metadata.managedFields as unknown;
  if (Array.isArray(sent)) {
    if (sent.length === 0 || isReset(sent)) return [];
    const owners = readOwners(sent);
    if (owners) return owners;
  }
  return readOwners(old?.metadata.managedFields) ?? [];
}

const isReset = (entries: readonly unknown[]): boolean =>
  entries.length === 1 && Object.keys(entries[0] ?? {}).length === 0;

function update(write: FieldWrite, owners: readonly Owner[]): readonly Owner[] {
  const { old, object, schema, definitions } = write;
  const before = old ?? zeroObject(schema, definitions);
  const shape = shapeOf(schema, definitions);
  const { changed, removed } = compareFields(before, object, shape);
  const kept = takeFrom(takeFrom(owners, changed), removed);
  const taken: MaybeFields = ownable(changed, write.ignored);
  if (!taken) return kept;
  return capUpdaters(
    giveTo(kept, {
      manager: write.manager,
      operation: 'Update',
      apiVersion: write.apiVersion,
      subresource: write.subresource,
      time: write.now,
      fields: taken,
    }),
  );
}
