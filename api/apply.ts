import { conflictsError, conflictsOf } from '#api/apply-conflict.ts';
import type { Conflict } from '#api/apply-conflict.ts';
import { refuseMisfits } from '#api/apply-config.ts';
import { lastAppliedFields, renewLastApplied } from '#api/apply-last.ts';
import { mergeValues, removeUnowned, withoutFields } from '#api/apply-merge.ts';
import type { Seen, Versions } from '#api/apply-versions.ts';
import { seenBy } from '#api/apply-versions.ts';
import { compareFields, fieldsOfValue } from '#api/field-compare.ts';
import type { Comparison } from '#api/field-compare.ts';
import { difference, equalFields, fieldsOf, recursiveDifference, union } from '#api/field-set.ts';
import type { FieldSet, MaybeFields } from '#api/field-set.ts';
import { shapeOf, zeroObject } from '#api/field-shape.ts';
import type { Shape } from '#api/field-shape.ts';
import { apiVersionOf } from '#api/kind.ts';
import {
  capUpdaters,
  giveTo,
  ownable,
  ownerKey,
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
 * - `applyPatch(request)` for `application/apply-patch+yaml`: `readApplied` (apply-config.ts) reads the
 *   body; then fit, default and `settle` the object that comes back. It needs no `trackManagedFields`.
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
  /** Other versions of the kind; without them all have the same fields. */
  versions?: Versions | undefined;
};

const STATUS: FieldSet = fieldsOf('status');
const ALL_BUT_STATUS: FieldSet = fieldsOf('spec', 'metadata.labels');

/** A write to an object with a status subresource does not own status, one to status only that. */
export function ignoredPaths(subresource: string, hasStatus: boolean): FieldSet | undefined {
  if (subresource === 'status') return ALL_BUT_STATUS;
  return subresource === '' && hasStatus ? STATUS : undefined;
}

/** Longer names are cut, as upstream cuts them. */
const MAX_MANAGER = 128;

/** What stands before the first `/` of a User-Agent, as upstream takes it. */
export function managerOf(userAgent: string | undefined): string {
  const [name = ''] = (userAgent ?? '').split('/');
  return name === '' ? 'unknown' : name.slice(0, MAX_MANAGER);
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

/** Writes the list into the object, or takes it away when nobody owns anything. */
export function setOwners(object: KubeObject, owners: readonly Owner[]): void {
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
  const { old, object, schema, definitions, ignored } = write;
  const before = old ?? zeroObject(schema, definitions);
  const compared = compareFields(before, object, shapeOf(schema, definitions));
  const changed = recursiveDifference(compared.changed, ignored);
  const removed = recursiveDifference(compared.removed, ignored);
  const seen = seenBy({
    ...write,
    own: { changed, removed },
    before: old,
    after: object,
    versions: write.versions,
    ignored,
  });
  const kept = leftOver(owners, seen);
  // Upstream forgets everybody where it cannot tell who owns what.
  if (!kept) return [];
  const taken = ownable(changed, undefined);
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

/** What owners keep of their fields; null where that cannot be told. */
function leftOver(owners: readonly Owner[], seenIn: (apiVersion: string) => Seen): Owner[] | null {
  const left: Owner[] = [];
  for (const owner of owners) {
    const seen = seenIn(owner.apiVersion);
    if (seen === 'misfit') return null;
    if (seen !== 'gone') left.push(...takeFrom(takeFrom([owner], seen.changed), seen.removed));
  }
  return left;
}

export type ApplyRequest = {
  /** What is stored; null when the object is to be created. Not changed. */
  live: KubeObject | null;
  /** What the applier wants, as `readApplied` has read it. Not changed. */
  applied: KubeObject;
  kind: { group: string; version: string; kind: string };
  schema: Schema;
  definitions: Definitions;
  manager: string;
  subresource: string;
  now: string;
  /** Take fields over that others own, instead of refusing. */
  force: boolean;
  ignored?: FieldSet | undefined;
  versions?: Versions | undefined;
};

export type Applied = {
  /** Merged, not yet decoded: to be fitted to its schema and defaulted like a body. */
  object: KubeObject;
  /** Writes the owners into the object that came out of that. */
  settle(object: KubeObject): void;
};

const BEFORE_FIRST_APPLY = 'before-first-apply';

/**
 * Merges a configuration into the stored object: what it says is set and owned, what its manager
 * said before and no longer says is removed unless others own it. Throws StatusError: 409 with a
 * cause per field that another manager owns and that would change, 500 for values that do not fit.
 */
export function applyPatch(request: ApplyRequest): Applied {
  const shape = shapeOf(request.schema, request.definitions);
  refuseMisfits(request.applied, shape, request.kind);
  const { live } = request;
  const owners = live ? liveOwners(request, live, shape) : [];
  const result = mergeApplied(request, shape, owners, request.force);
  if (!result.conflicts) return result.applied;
  // Client-side apply owned these before there were owners, so its successor may take them over.
  if (request.manager === 'kubectl' && live) {
    const allowed = lastAppliedFields(live, shape);
    const others = result.conflicts.map(({ fields }) => difference(fields, allowed));
    if (others.every((fields) => fields === undefined)) {
      const forced = mergeApplied(request, shape, owners, true);
      if (!forced.conflicts) return forced.applied;
    }
  }
  throw conflictsError(result.conflicts);
}

/** The owners, with everything given to somebody where nobody was kept track of. */
function liveOwners(
  { kind, schema, definitions, now }: ApplyRequest,
  live: KubeObject,
  shape: Shape,
): Owner[] {
  const owners = readOwners(live.metadata.managedFields) ?? [];
  if (owners.length > 0) return owners;
  const { changed } = compareFields(zeroObject(schema, definitions), live, shape);
  const fields = ownable(changed, undefined);
  if (!fields) return [];
  return [
    {
      manager: BEFORE_FIRST_APPLY,
      operation: 'Update',
      apiVersion: apiVersionOf(kind),
      subresource: '',
      time: now,
      fields,
    },
  ];
}

type Outcome =
  | { conflicts: readonly Conflict[]; applied?: undefined }
  | { conflicts?: undefined; applied: Applied };

function mergeApplied(
  request: ApplyRequest,
  shape: Shape,
  owners: readonly Owner[],
  force: boolean,
): Outcome {
  const { live, applied, ignored, schema, definitions } = request;
  const self: Omit<Owner, 'time' | 'fields'> = {
    manager: request.manager,
    operation: 'Apply',
    apiVersion: apiVersionOf(request.kind),
    subresource: request.subresource,
  };
  const key = ownerKey(self);
  const before = owners.find((owner) => ownerKey(owner) === key);
  const others = owners.filter((owner) => owner !== before);
  const wanted = recursiveDifference(fieldsOfValue(applied, shape), ignored);
  const config = withoutFields(applied, ignored);
  let object = mergeValues(live ?? {}, config, shape) as KubeObject;
  if (before) {
    const owned = others.reduce<MaybeFields>((sum, { fields }) => union(sum, fields), wanted);
    object = removeUnowned(object, before.fields, owned, shape) as KubeObject;
  }
  const { changed, removed } = filtered(
    compareFields(live ?? zeroObject(schema, definitions), object, shape),
    ignored,
  );
  const seen = seenBy({
    apiVersion: self.apiVersion,
    own: { changed, removed },
    before: live,
    after: object,
    versions: request.versions,
    ignored,
  });
  if (!force) {
    const conflicts = others.flatMap((owner) => {
      const theirs = seen(owner.apiVersion);
      return typeof theirs === 'string' ? [] : conflictsOf([owner], theirs.changed);
    });
    if (conflicts.length > 0) return { conflicts };
  }
  const left = leftOver(others, seen) ?? [];
  const own = ownable(wanted, undefined);
  // The same fields in another order are no change.
  const fields = equalFields(own, before?.fields) ? before?.fields : own;
  // An apply that changes nothing leaves no trace of its time.
  const time = changed || removed ? request.now : before?.time;
  const all = fields ? [...left, { ...self, time, fields }] : left;
  if (request.manager === 'kubectl') renewLastApplied(object, live, applied);
  return { applied: { object, settle: (settled) => setOwners(settled, all) } };
}

const filtered = ({ changed, removed }: Comparison, ignored: MaybeFields): Comparison => ({
  changed: recursiveDifference(ownable(changed, undefined), ignored),
  removed: recursiveDifference(removed, ignored),
});
