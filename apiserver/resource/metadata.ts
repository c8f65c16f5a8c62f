import { randomUUID } from 'node:crypto';
import { equalJson } from '#api/json.ts';
import { conflictError, failure, modifiedError } from '#api/status.ts';
import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';
import type { Random } from '#base/random.ts';
import { randomInt } from '#base/random.ts';
import { nameOf, timestamp } from '#apiserver/resource/server-context.ts';

/** Without vowels and look-alikes: generated names contain no words. */
const SUFFIX_LETTERS = 'bcdfghjklmnpqrstvwxz2456789';
const SUFFIX_LENGTH = 5;
/** So that the generated name is a DNS label. */
const MAX_GENERATED_BASE = 63 - SUFFIX_LENGTH;

export function generateName(base: string, random: Random): string {
  let suffix = '';
  for (let i = 0; i < SUFFIX_LENGTH; i++) {
    suffix += SUFFIX_LETTERS[randomInt(random, SUFFIX_LETTERS.length)];
  }
  return base.slice(0, MAX_GENERATED_BASE) + suffix;
}

/** metadata.generation before anything has changed. */
const FIRST_GENERATION = 1;

/** What a client may not say about a new object is dropped. Mutates. */
export function dropServerMetadata({ metadata }: KubeObject): void {
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.selfLink;
  delete metadata.resourceVersion;
}

/** Owners that are named twice count once, and the client is told. Mutates. */
export function dedupeOwners({ metadata }: KubeObject, warnings: string[]): void {
  const owners = metadata.ownerReferences;
  if (!owners || owners.length < 2) return;
  const kept: typeof owners = [];
  const twice: string[] = [];
  for (const owner of owners) {
    if (kept.some((other) => equalJson(other, owner))) twice.push(owner.uid);
    else kept.push(owner);
  }
  if (twice.length === 0) return;
  metadata.ownerReferences = kept;
  warnings.push(
    '.metadata.ownerReferences contains duplicate entries; API server dedups owner references in ' +
      '1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate ' +
      `UID(s) observed: ${twice.join(', ')}`,
  );
}

/** What the server alone says about a new object. Mutates. */
export function fillNewMetadata(object: KubeObject, kind: Kind, nowMs: number): void {
  const { metadata } = object;
  metadata.uid = randomUUID();
  metadata.creationTimestamp = timestamp(nowMs);
  if (kind.generation === 'spec' || kind.generation === 'all') {
    metadata.generation = FIRST_GENERATION;
  }
  if (kind.scope === 'Cluster') delete metadata.namespace;
}

/** What an update may not change is put back as it is stored. Mutates `object`. */
export function keepServerMetadata(object: KubeObject, old: KubeObject): void {
  const { metadata } = object;
  const stored = old.metadata;
  if (!metadata.uid) copyField(metadata, stored, 'uid');
  copyField(metadata, stored, 'creationTimestamp');
  if (!metadata.deletionTimestamp) copyField(metadata, stored, 'deletionTimestamp');
  if (metadata.deletionGracePeriodSeconds == null) {
    copyField(metadata, stored, 'deletionGracePeriodSeconds');
  }
  if (!metadata.generateName && metadata.name === stored.name) delete metadata.generateName;
  copyField(metadata, stored, 'generation');
  copyField(metadata, stored, 'resourceVersion');
  delete metadata.selfLink;
}

function copyField<K extends keyof KubeObject['metadata']>(
  to: KubeObject['metadata'],
  from: KubeObject['metadata'],
  field: K,
): void {
  if (from[field] === undefined) delete to[field];
  else to[field] = from[field];
}

/** A PUT that names another uid than the stored object's is about another object: Conflict. */
export function checkIdentity(object: KubeObject, old: KubeObject, kind: Kind): void {
  const { uid } = object.metadata;
  if (!uid || uid === old.metadata.uid) return;
  const why = `UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`;
  throw preconditionError(kind, old, why);
}

/** A write whose precondition does not hold, in the words of upstream's store. */
export function preconditionError(kind: Kind, { metadata }: KubeObject, why: string): Error {
  const { namespace, name = '' } = metadata;
  const key = ['', 'registry', kind.plural, ...(namespace ? [namespace] : []), name].join('/');
  const text = `invalid object, Code: 4, Key: ${key}, ResourceVersion: 0`;
  const more = `AdditionalErrorMsg: Precondition failed: ${why}`;
  return conflictError(nameOf(kind), name, `StorageError: ${text}, ${more}`);
}

/**
 * Optimistic concurrency: the version that the client saw, if it says so.
 * Throws Conflict, or Invalid when the kind asks for a version.
 */
export function checkVersion(object: KubeObject, old: KubeObject, kind: Kind): void {
  const { resourceVersion, name = '' } = object.metadata;
  if (resourceVersion && resourceVersion !== '0') {
    if (resourceVersion === old.metadata.resourceVersion) return;
    if (!/^\d+$/.test(resourceVersion)) {
      const text = JSON.stringify(resourceVersion);
      throw failure(500, '', `strconv.ParseUint: parsing ${text}: invalid syntax`);
    }
    throw modifiedError(nameOf(kind), name);
  } else if (kind.unconditionalUpdate === false) throw versionRequired(kind, name);
}

function versionRequired(kind: Kind, name: string): Error {
  const qualified = kind.group ? `${kind.plural}.${kind.group}` : kind.plural;
  const message = 'Invalid value: 0: must be specified for an update';
  return failure(
    422,
    'Invalid',
    `${qualified} "${name}" is invalid: metadata.resourceVersion: ${message}`,
    {
      name,
      ...(kind.group ? { group: kind.group } : {}),
      kind: kind.plural,
      causes: [{ reason: 'FieldValueInvalid', message, field: 'metadata.resourceVersion' }],
    },
  );
}

/** Whether metadata.generation rises: anything but metadata, and mostly status, differs. */
export function specChanged(
  object: KubeObject,
  old: KubeObject,
  { generation }: Pick<Kind, 'generation'> = {},
): boolean {
  for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) {
    if (field === 'metadata' || (field === 'status' && generation !== 'all')) continue;
    if (!equalJson(object[field], old[field])) return true;
  }
  return false;
}
