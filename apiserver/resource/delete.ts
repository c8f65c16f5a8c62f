import type { Kind } from '#api/kind.ts';
import { conflictError, modifiedError, notFoundError } from '#api/status.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import { admission } from '#apiserver/resource/admit.ts';
import type { ServerContext, WriteOptions, Written } from '#apiserver/resource/server-context.ts';
import { nameOf, timestamp } from '#apiserver/resource/server-context.ts';
import { removeEntry, replaceEntry } from '#apiserver/resource/update.ts';
import { objectAs } from '#apiserver/resource/views.ts';
import type { DeleteOptions } from '#apiserver/subresources/handler.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';
import { idOf, storedKind } from '#apiserver/watch-cache.ts';

const ORPHAN = 'orphan';
const FOREGROUND = 'foregroundDeletion';
/** Others that keep writing the object while it is to be deleted. */
const MAX_ATTEMPTS = 20;

export type Deleted = Written & {
  /** False: it stays until its grace period is over or its finalizers are gone. */
  removed: boolean;
};

/**
 * Deletes one object: at once, or by marking it when finalizers, a grace period or the kind itself
 * hold it. Source: API concepts "Resource deletion". Throws StatusError: NotFound, Conflict (a
 * precondition does not hold) and what admission says.
 */
export async function deleteObject(
  server: ServerContext,
  kind: Kind,
  key: ObjectKey,
  deletion: DeleteOptions,
  options: WriteOptions,
): Promise<Deleted> {
  for (let attempt = 1; ; attempt++) {
    await server.cache.fresh();
    const entry = server.cache.of(kind).get(idOf(key));
    if (!entry) throw notFoundError(nameOf(kind), key.name);
    checkDeletePreconditions(kind, entry.object, deletion);
    const converting = server.conversion?.prepare(kind, [entry]);
    if (converting) await converting;
    const oldObject = objectAs(kind, entry);
    const { namespace = '' } = key;
    const name = options.collection ? '' : key.name;
    const rules = admission(
      server,
      { operation: 'DELETE', kind, namespace, name, object: null, oldObject },
      options,
    );
    await rules.mutate();
    await rules.validate();
    const done = await deleteEntry(server, kind, entry, deletion, options);
    if (done) return done;
    if (deletion.preconditions?.resourceVersion || attempt >= MAX_ATTEMPTS) {
      throw modifiedError(nameOf(kind), key.name);
    }
  }
}

async function deleteEntry(
  server: ServerContext,
  kind: Kind,
  entry: CacheEntry,
  deletion: DeleteOptions,
  options: WriteOptions,
): Promise<Deleted | null> {
  const object = entry.copy();
  const plan = planDeletion(storedKind(kind), object, deletion, server.clock.now());
  if (!plan.mark && !plan.remove) return { object: entry.object, wire: entry.wire, removed: false };
  let current = entry;
  let last = object;
  if (plan.mark) {
    const marked = await replaceEntry(server, kind, entry, object, options);
    if (!marked) return null;
    if (!plan.remove) return { ...marked, removed: false };
    if (!options.dryRun) {
      const now = server.cache.of(kind).get(entry.id);
      if (!now || now.object.metadata.uid !== entry.object.metadata.uid) return null;
      current = now;
      last = now.copy();
    }
  }
  const written = await removeEntry(server, kind, current, last, options);
  return written && { ...written, removed: true };
}

type Plan = { mark: boolean; remove: boolean };

/** Decides, and marks `object` where it has to stay (or its grace is cut short before it goes). */
function planDeletion(
  kind: Kind,
  object: KubeObject,
  deletion: DeleteOptions,
  nowMs: number,
): Plan {
  const { metadata } = object;
  const finalizersChanged = settleFinalizers(kind, object, deletion);
  const held = (metadata.finalizers ?? []).length > 0 || kind.heldBack?.(object) === true;
  if (kind.heldBack) {
    const first = !metadata.deletionTimestamp;
    // Its controller has to see that it goes, even with nothing left to do.
    if (!first && !held) return { mark: false, remove: true };
    if (first) metadata.deletionTimestamp = timestamp(nowMs);
    kind.prepareForDelete?.(object);
    return { mark: first || finalizersChanged, remove: false };
  }
  if (metadata.deletionTimestamp) return planAgain(kind, object, deletion, held, finalizersChanged);
  if (!kind.gracePeriodSeconds && !held) return { mark: false, remove: true };
  const asked = deletion.gracePeriodSeconds;
  // A negative grace period means one second.
  const requested = asked !== undefined && asked < 0 ? 1 : asked;
  const seconds = kind.gracePeriodSeconds?.(object, requested) ?? 0;
  metadata.deletionTimestamp = timestamp(nowMs + seconds * 1000);
  metadata.deletionGracePeriodSeconds = seconds;
  if (metadata.generation) metadata.generation += 1;
  // Who watches sees a graceful object marked before it goes, even with no grace left.
  return { mark: true, remove: seconds === 0 && !held };
}

/** What another delete of an object changes that is being deleted already. */
function planAgain(
  kind: Kind,
  object: KubeObject,
  deletion: DeleteOptions,
  held: boolean,
  finalizersChanged: boolean,
): Plan {
  const running = object.metadata.deletionGracePeriodSeconds ?? 0;
  if (!kind.gracePeriodSeconds || running === 0) {
    return { mark: held && finalizersChanged, remove: !held };
  }
  const shortened = shortenGrace(object, deletion.gracePeriodSeconds);
  const over = object.metadata.deletionGracePeriodSeconds === 0;
  return { mark: finalizersChanged || shortened, remove: over && !held };
}

/** A second delete may shorten the grace period, never lengthen it. */
function shortenGrace(object: KubeObject, asked: number | undefined): boolean {
  const { metadata } = object;
  const running = metadata.deletionGracePeriodSeconds ?? 0;
  if (asked === undefined) return false;
  const seconds = asked < 0 ? 1 : asked;
  if (seconds >= running) return false;
  const began = Date.parse(String(metadata.deletionTimestamp)) - running * 1000;
  metadata.deletionTimestamp = timestamp(began + seconds * 1000);
  metadata.deletionGracePeriodSeconds = seconds;
  return true;
}

/** The propagation policy becomes a finalizer that the garbage collector answers. */
function settleFinalizers(kind: Kind, object: KubeObject, deletion: DeleteOptions): boolean {
  const before = object.metadata.finalizers ?? [];
  const wanted = policyFinalizer(kind, before, deletion);
  const after = before.filter((f) => f !== ORPHAN && f !== FOREGROUND);
  if (wanted) after.push(wanted);
  if (after.length === before.length && after.every((f) => before.includes(f))) return false;
  if (after.length > 0) object.metadata.finalizers = after;
  else delete object.metadata.finalizers;
  return true;
}

function policyFinalizer(
  kind: Kind,
  present: readonly string[],
  { propagationPolicy, orphanDependents }: DeleteOptions,
): string | null {
  if (orphanDependents !== undefined) return orphanDependents ? ORPHAN : null;
  switch (propagationPolicy) {
    case 'Orphan':
      return ORPHAN;
    case 'Foreground':
      return FOREGROUND;
    case 'Background':
      return null;
    case undefined:
      break;
  }
  if (present.includes(ORPHAN)) return ORPHAN;
  if (present.includes(FOREGROUND)) return FOREGROUND;
  return kind.orphanByDefault ? ORPHAN : null;
}

function checkDeletePreconditions(kind: Kind, object: KubeObject, deletion: DeleteOptions): void {
  const { uid, resourceVersion } = deletion.preconditions ?? {};
  const { metadata } = object;
  // Upstream names the kind here, not the resource.
  const of = { group: kind.group, resource: kind.kind };
  if (uid !== undefined && uid !== metadata.uid) {
    throw conflictError(
      of,
      metadata.name ?? '',
      `the UID in the precondition (${uid}) does not match the UID in record (${metadata.uid}). The object might have been deleted and then recreated`,
    );
  }
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion) {
    throw conflictError(
      of,
      metadata.name ?? '',
      `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${metadata.resourceVersion}). The object might have been modified`,
    );
  }
}
