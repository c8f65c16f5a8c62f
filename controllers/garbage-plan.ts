import type { OwnerReference } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import {
  type Item,
  orphansDependents,
  waitsForDependents,
  withoutFinalizer,
} from '#controllers/garbage-graph.ts';

/** How an owner reference stands: `unknown` when nobody can say (its API is away). */
export type OwnerState = 'solid' | 'dangling' | 'waiting' | 'unknown';

export type GarbageWorld = {
  item: Item;
  owners: readonly { reference: OwnerReference; state: OwnerState }[];
  dependents: readonly Item[];
};

/**
 * What becomes of an object whose owners changed: let go, kept, or deleted in the way its own
 * finalizers ask for. Pure. Source: "Garbage Collection", "Owners and Dependents".
 */
export function planGarbage(world: GarbageWorld): Plan {
  const { item } = world;
  if (orphansDependents(item)) return { actions: orphan(world) };
  if (waitsForDependents(item)) return { actions: finishForeground(world) };
  if (item.isDeleting) return { actions: [] };
  return { actions: judgeOwners(world) };
}

/** Every dependent forgets its owner before the owner goes. */
function orphan({ item, dependents }: GarbageWorld): Action[] {
  const released = dependents.map((dependent) =>
    setOwners(
      dependent,
      dependent.owners.filter((owner) => owner.uid !== item.uid),
    ),
  );
  const actions: Action[] = released.length > 0 ? [{ type: 'together', actions: released }] : [];
  return [...actions, setFinalizers(item, withoutFinalizer(item, 'orphan'))];
}

/** The owner goes when no dependent that insists on it (blockOwnerDeletion) is left. */
function finishForeground({ item, dependents }: GarbageWorld): Action[] {
  const blocks = dependents.some((dependent) =>
    dependent.owners.some((owner) => owner.uid === item.uid && owner.blockOwnerDeletion),
  );
  return blocks ? [] : [setFinalizers(item, withoutFinalizer(item, 'foregroundDeletion'))];
}

function judgeOwners({ item, owners, dependents }: GarbageWorld): Action[] {
  if (owners.length === 0 || owners.some(({ state }) => state === 'unknown')) return [];
  const solid = owners.filter(({ state }) => state === 'solid');
  if (solid.length === owners.length) return [];
  if (solid.length > 0) {
    return [
      setOwners(
        item,
        solid.map(({ reference }) => reference),
      ),
    ];
  }
  const isAwaited = owners.some(({ state }) => state === 'waiting');
  if (!isAwaited || dependents.length === 0) return [remove(item, policyOf(item))];
  // A ring of owners that all wait for each other would never end: ours stop blocking.
  const isRing = dependents.some(waitsForDependents);
  const unblocked = owners.map(({ reference }) => ({ ...reference, blockOwnerDeletion: false }));
  return [
    ...(isRing ? [setOwners(item, unblocked)] : []),
    // The patch above gives it a new version, which a precondition would miss.
    remove(item, 'Foreground', { pinned: !isRing }),
  ];
}

function policyOf(item: Item): 'Orphan' | 'Foreground' | 'Background' {
  if (item.finalizers.includes('orphan')) return 'Orphan';
  return item.finalizers.includes('foregroundDeletion') ? 'Foreground' : 'Background';
}

/** The version makes sure that the owners we judged are still the object's. */
function remove(
  item: Item,
  propagationPolicy: 'Orphan' | 'Foreground' | 'Background',
  { pinned = true } = {},
): Action {
  const { resource, key, uid, resourceVersion } = item;
  return {
    type: 'delete',
    resource,
    key,
    uid,
    propagationPolicy,
    ...(pinned ? { resourceVersion } : {}),
  };
}

function setOwners(item: Item, owners: readonly OwnerReference[]): Action {
  return patch(item, { ownerReferences: owners.length > 0 ? owners : null });
}

function setFinalizers(item: Item, finalizers: readonly string[]): Action {
  return patch(item, { finalizers });
}

function patch({ resource, key, uid, resourceVersion }: Item, metadata: object): Action {
  const body = { metadata: { uid, resourceVersion, ...metadata } };
  return { type: 'patch', resource, key, patch: { type: 'merge', body } };
}
