import { encodeObject } from '#api/encode.ts';
import type { FieldError } from '#api/field-error.ts';
import type { Kind, Subresource } from '#api/kind.ts';
import { modifiedError, notFoundError } from '#api/status.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import { validateObjectMetaUpdate, validateUpdatedMeta } from '#api/validate-meta.ts';
import { admission } from '#apiserver/resource/admit.ts';
import { createObject, refuse } from '#apiserver/resource/create.ts';
import { trackFields } from '#apiserver/resource/managed-fields.ts';
import {
  checkVersion,
  dedupeOwners,
  keepServerMetadata,
  specChanged,
} from '#apiserver/resource/metadata.ts';
import type { ServerContext, WriteOptions, Written } from '#apiserver/resource/server-context.ts';
import { nameOf } from '#apiserver/resource/server-context.ts';
import { asService, isService, withReservation } from '#apiserver/resource/service-allocator.ts';
import { objectAs, toBuffer, toStored } from '#apiserver/resource/views.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';
import { idOf, storagePrefix, storedKind } from '#apiserver/watch-cache.ts';

/** Writes that others keep overtaking give up after this many attempts: one a group of commits. */
const MAX_ATTEMPTS = 100;

/** Thrown by `change` is a StatusError; what it returns is the wanted object, the caller's own. */
export type Change = (old: KubeObject) => KubeObject | Promise<KubeObject>;

export type UpdateOptions = WriteOptions & {
  /** '' or the name of a subresource of type 'status'. */
  subresource?: string;
  /** Attempts when others write at the same time; 1 = the first conflict is the answer. */
  attempts?: number;
  /** Written as it is: no preparation, admission or validation (`Resources.modify`). */
  asIs?: boolean;
  /** The object to create when there is none, where the request may create. */
  orCreate?: () => KubeObject | Promise<KubeObject>;
};

export type Updated = Written & { created: boolean };

/**
 * Changes one object by compare-and-swap. `change` sees the stored object as `kind`, read-only,
 * and returns what it shall be; a resourceVersion it leaves in must be the stored one.
 * Throws StatusError: NotFound, Conflict, Invalid and what admission says.
 */
export async function updateObject(
  server: ServerContext,
  kind: Kind,
  key: ObjectKey,
  change: Change,
  options: UpdateOptions,
): Promise<Updated> {
  const attempts = options.attempts ?? MAX_ATTEMPTS;
  for (let attempt = 1; ; attempt++) {
    await server.cache.fresh();
    const entry = server.cache.of(kind).get(idOf(key));
    if (!entry) {
      if (!options.orCreate) throw notFoundError(nameOf(kind), key.name);
      const object = await options.orCreate();
      return { ...(await createObject(server, kind, object, options)), created: true };
    }
    const converting = server.conversion?.prepare(kind, [entry]);
    if (converting) await converting;
    const old = objectAs(kind, entry);
    const object = await change(old);
    const written = await swap(server, kind, entry, old, object, options);
    if (written) return { ...written, created: false };
    if (attempt >= attempts) throw modifiedError(nameOf(kind), key.name);
  }
}

/** Prepares, checks and writes; null when another write came first. */
async function swap(
  server: ServerContext,
  kind: Kind,
  entry: CacheEntry,
  old: KubeObject,
  object: KubeObject,
  options: UpdateOptions,
): Promise<Written | null> {
  const write = async (): Promise<Written | null> => {
    const converting = server.conversion?.convert(object, kind, storedKind(kind));
    const stored = toStored(kind, converting ? await converting : object);
    return shouldVanish(kind, stored, entry.object)
      ? removeEntry(server, kind, entry, stored, options)
      : replaceEntry(server, kind, entry, stored, options);
  };
  if (options.asIs) return write();
  const check = await prepare(server, kind, old, object, options);
  const allocator = options.subresource ? undefined : server.services;
  return withReservation(
    { allocator, kind, object, old, dryRun: options.dryRun },
    async () => {
      await check();
      return write();
    },
    (written) => written !== null,
  );
}

/** Everything up to validation, which is what it returns. */
async function prepare(
  server: ServerContext,
  kind: Kind,
  old: KubeObject,
  object: KubeObject,
  options: UpdateOptions,
): Promise<() => Promise<void>> {
  const { subresource = '' } = options;
  const { namespace = '', name = '' } = old.metadata;
  checkVersion(object, old, kind);
  dedupeOwners(object, options.warnings);
  if (!options.tracked) trackFields(server, kind, subresource, old, object, options);
  const rules = admission(
    server,
    { operation: 'UPDATE', kind, subresource, namespace, name, object, oldObject: old },
    options,
  );
  const mutating = rules.mutate();
  if (mutating) await mutating;
  keepServerMetadata(object, old);
  const part = subresource === '' ? undefined : kind.subresources?.[subresource];
  const validate =
    part && part.type !== 'scale'
      ? prepareStatus(part, object, old)
      : prepareWhole(kind, object, old);
  return async () => {
    refuse(kind, name, validate());
    const validating = rules.validate();
    if (validating) await validating;
    if (part) return;
    for (const text of kind.warnings?.(object, old) ?? []) options.warnings.push(text);
  };
}

function prepareWhole(kind: Kind, object: KubeObject, old: KubeObject): () => FieldError[] {
  kind.prepareForUpdate?.(object, old);
  const counts = kind.generation === 'spec' || kind.generation === 'all';
  if (counts && specChanged(object, old, kind)) {
    object.metadata.generation = (old.metadata.generation ?? 0) + 1;
  }
  return () => [
    ...validateUpdatedMeta(object, old, kind),
    ...(kind.validate?.(object) ?? []),
    ...(kind.validateUpdate?.(object, old) ?? []),
  ];
}

/** A status write changes status and metadata, or what the kind's subresource says. */
function prepareStatus(
  part: Exclude<Subresource, { type: 'scale' }>,
  object: KubeObject,
  old: KubeObject,
): () => FieldError[] {
  if (part.prepareForUpdate) part.prepareForUpdate(object, old);
  else keepAllButStatus(object, old);
  return () => [
    ...validateObjectMetaUpdate(object, old),
    ...validateObjectMetaUpdate(object, old),
    ...(part.validateUpdate?.(object, old) ?? []),
  ];
}

function keepAllButStatus(object: KubeObject, old: KubeObject): void {
  for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) {
    if (field === 'metadata' || field === 'status') continue;
    if (old[field] === undefined) delete object[field];
    else object[field] = old[field];
  }
}

/** The last thing that held a deleted object has gone with this write. */
function shouldVanish(kind: Kind, object: KubeObject, stored: KubeObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds } = stored.metadata;
  if (!deletionTimestamp || (object.metadata.finalizers ?? []).length > 0) return false;
  const home = storedKind(kind);
  if (home.heldBack) return !home.heldBack(object);
  return deletionGracePeriodSeconds === 0;
}

/** Replaces a stored object; null when another write came first. An unchanged object costs nothing. */
export async function replaceEntry(
  server: ServerContext,
  kind: Kind,
  entry: CacheEntry,
  stored: KubeObject,
  options: { dryRun: boolean },
): Promise<Written | null> {
  stored.metadata.resourceVersion = String(entry.revision);
  if (options.dryRun) return { object: stored, wire: null };
  delete stored.metadata.resourceVersion;
  const value = encodeObject(stored);
  const home = storedKind(kind);
  const key = storagePrefix(home.group, home.plural) + entry.id;
  // What is sealed with an older key is written again, so that keys can be rotated.
  const sealed = server.cache.store.sealFor?.(key) === entry.seal;
  if (sealed && (sameBytes(value, entry) || onlyTouched(stored, value, entry))) {
    return { object: entry.object, wire: entry.wire };
  }
  const result = await server.cache.commit(
    {
      key,
      expect: entry.revision,
      value,
      ...(home.ttlSeconds ? { ttlSeconds: home.ttlSeconds } : {}),
    },
    stored,
  );
  if (!result.ok) {
    await server.cache.reached(result.revision);
    return null;
  }
  const now = server.cache.of(kind).get(entry.id);
  if (now?.revision === result.revision) return { object: now.object, wire: now.wire };
  stored.metadata.resourceVersion = String(result.revision);
  return { object: stored, wire: null };
}

/**
 * Nothing but the times at which fields were last owned differs: saying again what is so already
 * is no change. Times have one length, so most writes are told apart without a second encoding.
 */
function onlyTouched(stored: KubeObject, value: Uint8Array, entry: CacheEntry): boolean {
  const version = `"resourceVersion":"${entry.revision}",`;
  const { managedFields } = entry.object.metadata;
  if (!managedFields || value.byteLength + version.length !== entry.wire.byteLength) return false;
  const metadata = { ...stored.metadata, managedFields };
  return sameBytes(encodeObject({ ...stored, metadata }), entry);
}

/** The stored bytes are the entry's without its resourceVersion. */
function sameBytes(value: Uint8Array, entry: CacheEntry): boolean {
  const version = `"resourceVersion":"${entry.revision}",`;
  if (value.byteLength + version.length !== entry.wire.byteLength) return false;
  const bytes = toBuffer(value);
  const cut = entry.wire.indexOf(version);
  return (
    bytes.compare(entry.wire, 0, cut, 0, cut) === 0 &&
    bytes.compare(entry.wire, cut + version.length, entry.wire.length, cut) === 0
  );
}

/** Removes a stored object; null when another write came first. `last` is what the client sees. */
export async function removeEntry(
  server: ServerContext,
  kind: Kind,
  entry: CacheEntry,
  last: KubeObject,
  options: { dryRun: boolean },
): Promise<Written | null> {
  last.metadata.resourceVersion = String(entry.revision);
  if (options.dryRun) return { object: last, wire: null };
  const home = storedKind(kind);
  const result = await server.cache.commit({
    key: storagePrefix(home.group, home.plural) + entry.id,
    expect: entry.revision,
    value: null,
  });
  if (!result.ok) {
    await server.cache.reached(result.revision);
    return null;
  }
  if (server.services && isService(kind)) await server.services.release(asService(entry.object));
  last.metadata.resourceVersion = String(result.revision);
  return { object: last, wire: null };
}
