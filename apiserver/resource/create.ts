import { encodeObject } from '#api/encode.ts';
import type { FieldError } from '#api/field-error.ts';
import type { Kind } from '#api/kind.ts';
import {
  alreadyExistsError,
  badRequestError,
  failure,
  forbiddenError,
  invalidError,
} from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { validateObjectMeta } from '#api/validate-meta.ts';
import { admission } from '#apiserver/resource/admit.ts';
import { trackFields } from '#apiserver/resource/managed-fields.ts';
import {
  dedupeOwners,
  dropServerMetadata,
  fillNewMetadata,
  generateName,
} from '#apiserver/resource/metadata.ts';
import type { ServerContext, WriteOptions, Written } from '#apiserver/resource/server-context.ts';
import { nameOf } from '#apiserver/resource/server-context.ts';
import { withReservation } from '#apiserver/resource/service-allocator.ts';
import { toStored } from '#apiserver/resource/views.ts';
import type { Entry } from '#apiserver/store/store.ts';
import { idOf, storagePrefix, storedKind } from '#apiserver/watch-cache.ts';
import { parseExact } from '#base/exact-json.ts';

/** A generated name that is taken is drawn anew this often. */
const NAME_ATTEMPTS = 8;

/**
 * Creates an object of `kind`, decoded and defaulted; takes it over. Order as upstream: fields
 * get owners, admission mutates, the kind prepares and validates, admission validates, store.
 * Throws StatusError: AlreadyExists, Invalid, Forbidden and what admission says.
 */
export async function createObject(
  server: ServerContext,
  kind: Kind,
  object: KubeObject,
  options: WriteOptions,
): Promise<Written> {
  const { metadata } = object;
  if (kind.closed !== undefined) {
    throw forbiddenError(nameOf(kind), metadata.name ?? '', kind.closed);
  }
  if (metadata.resourceVersion) {
    throw failure(500, '', 'resourceVersion should not be set on objects to be created');
  }
  const base = metadata.name ? '' : (metadata.generateName ?? '');
  const pristine = base ? structuredClone(object) : null;
  for (let attempt = 1; ; attempt++) {
    const candidate = pristine && attempt > 1 ? structuredClone(pristine) : object;
    if (base) candidate.metadata.name = generateName(base, server.random);
    const written = await createOnce(server, kind, candidate, options);
    if (written.ok) return written.written;
    if (!base || attempt >= NAME_ATTEMPTS) throw existsError(kind, candidate, written.current);
  }
}

type Attempt = { ok: true; written: Written } | { ok: false; current: Entry | null };

async function createOnce(
  server: ServerContext,
  kind: Kind,
  object: KubeObject,
  options: WriteOptions,
): Promise<Attempt> {
  const { namespace = '', name = '' } = object.metadata;
  dropServerMetadata(object);
  dedupeOwners(object, options.warnings);
  if (!options.tracked) trackFields(server, kind, '', null, object, options);
  const rules = admission(
    server,
    { operation: 'CREATE', kind, namespace, name, object, oldObject: null },
    options,
  );
  const mutating = rules.mutate();
  if (mutating) await mutating;
  fillNewMetadata(object, kind, server.clock.now());
  kind.prepareForCreate?.(object, options.user);
  const check = async (): Promise<Attempt> => {
    refuse(kind, name, [
      ...validateObjectMeta(object, kind),
      ...(kind.validate?.(object) ?? []),
      ...(kind.validateCreate?.(object) ?? []),
    ]);
    const validating = rules.validate();
    if (validating) await validating;
    for (const text of kind.warnings?.(object, undefined) ?? []) options.warnings.push(text);
    return insert(server, kind, object, options);
  };
  return withReservation(
    { allocator: server.services, kind, object, old: null, dryRun: options.dryRun },
    check,
    (attempt) => attempt.ok,
  );
}

async function insert(
  server: ServerContext,
  kind: Kind,
  object: KubeObject,
  options: WriteOptions,
): Promise<Attempt> {
  const home = storedKind(kind);
  const converting = server.conversion?.convert(object, kind, home);
  const stored = toStored(kind, converting ? await converting : object);
  const resource = server.cache.of(kind);
  const id = idOf({ namespace: stored.metadata.namespace, name: stored.metadata.name ?? '' });
  if (options.dryRun) {
    await server.cache.fresh();
    const present = resource.get(id);
    if (present) throw existsError(kind, object, null, present.object);
    return { ok: true, written: { object: stored, wire: null } };
  }
  const result = await server.cache.commit(
    {
      key: storagePrefix(home.group, home.plural) + id,
      expect: 'absent',
      value: encodeObject(stored),
      ...(home.ttlSeconds ? { ttlSeconds: home.ttlSeconds } : {}),
    },
    stored,
  );
  if (!result.ok) return { ok: false, current: result.current };
  const entry = resource.get(id);
  const wire = entry?.revision === result.revision ? entry.wire : null;
  if (!wire) stored.metadata.resourceVersion = String(result.revision);
  return { ok: true, written: { object: stored, wire } };
}

function existsError(
  kind: Kind,
  object: KubeObject,
  current: Entry | null,
  present?: KubeObject,
): Error {
  const error = alreadyExistsError(nameOf(kind), object.metadata.name ?? '');
  const there =
    present ?? (current ? (parseExact(Buffer.from(current.value).toString()) as KubeObject) : null);
  if (!there?.metadata.deletionTimestamp) return error;
  const { code, reason = '', message = '', details } = error.status;
  return failure(code, reason, `object is being deleted: ${message}`, details);
}

/** Throws Invalid when there are errors. */
export function refuse(kind: Kind, name: string, errors: readonly FieldError[]): void {
  if (errors.length > 0) throw invalidError(storedKind(kind), name, errors);
}

/** The namespace of the URL is the object's; a different one in the body is refused. */
export function placeInNamespace(object: KubeObject, kind: Kind, namespace: string): void {
  const { metadata } = object;
  if (kind.scope === 'Cluster') {
    if (metadata.namespace) {
      throw badRequestError(
        'the namespace of the provided object does not match the namespace sent on the request',
      );
    }
    return;
  }
  if (!metadata.namespace) metadata.namespace = namespace;
  else if (metadata.namespace !== namespace) {
    throw badRequestError(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  }
}
