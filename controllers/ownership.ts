import { matchesLabels } from '#api/labels.ts';
import type { KubeObject, LabelSelector, OwnerReference } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Resource } from '#client/api.ts';
import type { Informer } from '#client/informer.ts';

/** The one owner that manages an object, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((reference) => reference.controller);
}

/** An owner reference that makes `owner` the managing controller. */
export function controllerReference(owner: KubeObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion ?? '',
    kind: owner.kind ?? '',
    name: owner.metadata.name ?? '',
    uid: owner.metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

export const OWNER_INDEX = 'owner';

/** Index values: the managing owner's uid, or the namespace's orphans. */
export function ownerIndex(object: KubeObject): string[] {
  const owner = controllerOf(object);
  return [owner ? owner.uid : orphansOf(object.metadata.namespace ?? '')];
}

const orphansOf = (namespace: string): string => `orphans in ${namespace}`;

/** What `owner` manages or might adopt. The informer needs `ownerIndex`. */
export function candidatesOf<T extends KubeObject>(informer: Informer<T>, owner: KubeObject): T[] {
  return [
    ...informer.byIndex(OWNER_INDEX, owner.metadata.uid ?? ''),
    ...informer.byIndex(OWNER_INDEX, orphansOf(owner.metadata.namespace ?? '')),
  ];
}

/**
 * Calls `add` for each owner in `owners` whose selector picks an orphan that just changed, so that
 * it may adopt it.
 */
export function onOrphan<T extends KubeObject, O extends KubeObject>(
  informer: Informer<T>,
  owners: Informer<O>,
  { selectorOf, add }: { selectorOf: (owner: O) => LabelSelector | undefined; add: Add },
): void {
  informer.onChange(({ type, object }) => {
    if (type === 'deleted' || controllerOf(object) || object.metadata.deletionTimestamp) return;
    const { namespace = '', labels } = object.metadata;
    if (!labels) return;
    for (const owner of owners.list(namespace)) {
      const selector = selectorOf(owner);
      if (selector && matchesLabels(selector, labels)) add(`${namespace}/${owner.metadata.name}`);
    }
  });
}

type Add = (key: string) => void;

export type Claims<T> = {
  /** Managed now and rightly so. */
  owned: T[];
  /** Adoptions and releases that must come first. */
  actions: Action[];
};

/**
 * Settles who manages what: orphans that the selector picks are adopted, managed objects that it
 * no longer picks are released. Nothing is adopted by an owner that is being deleted.
 */
export function claim<T extends KubeObject>(
  owner: KubeObject,
  selector: LabelSelector,
  candidates: readonly T[],
  resource: Resource<T>,
  options: ClaimOptions = {},
): Claims<T> {
  const claims: Claims<T> = { owned: [], actions: [] };
  const mayClaim = !owner.metadata.deletionTimestamp;
  for (const object of candidates) {
    const controller = controllerOf(object);
    const picked = matchesLabels(selector, object.metadata.labels ?? {});
    if (controller?.uid === owner.metadata.uid) {
      if (picked) claims.owned.push(object);
      else if (mayClaim) claims.actions.push(release(owner, object, { resource, ...options }));
    } else if (!controller && picked && mayClaim && !object.metadata.deletionTimestamp) {
      claims.actions.push(adopt(owner, object, { resource, ...options }));
    }
  }
  return claims;
}

export type ClaimOptions = {
  /** Put on what is adopted and taken off what is released. */
  finalizer?: string;
};

type Claiming<T extends KubeObject> = ClaimOptions & { resource: Resource<T> };

function adopt<T extends KubeObject>(owner: KubeObject, object: T, of: Claiming<T>): Action {
  const references = object.metadata.ownerReferences ?? [];
  const finalizers = object.metadata.finalizers ?? [];
  const { finalizer } = of;
  return ownersPatch(object, of.resource as Resource, {
    ownerReferences: [...references, controllerReference(owner)],
    ...(finalizer && !finalizers.includes(finalizer)
      ? { finalizers: [...finalizers, finalizer] }
      : {}),
  });
}

function release<T extends KubeObject>(owner: KubeObject, object: T, of: Claiming<T>): Action {
  const references = object.metadata.ownerReferences ?? [];
  const others = references.filter((reference) => reference.uid !== owner.metadata.uid);
  const finalizers = object.metadata.finalizers ?? [];
  const { finalizer } = of;
  return ownersPatch(object, of.resource as Resource, {
    ownerReferences: others.length > 0 ? others : null,
    ...(finalizer && finalizers.includes(finalizer)
      ? { finalizers: finalizers.filter((one) => one !== finalizer) }
      : {}),
  });
}

type Ownership = { ownerReferences: OwnerReference[] | null; finalizers?: string[] };

/** The version makes it fail if anyone else changed the owners in between. */
function ownersPatch(object: KubeObject, resource: Resource, ownership: Ownership): Action {
  const { namespace, name = '', uid, resourceVersion } = object.metadata;
  return {
    type: 'patch',
    resource,
    key: { namespace, name },
    patch: { type: 'merge', body: { metadata: { uid, resourceVersion, ...ownership } } },
  };
}

/** Takes a finalizer off, unless someone else changes the list at the same time. */
export function removeFinalizer(object: KubeObject, resource: Resource, finalizer: string): Action {
  const { namespace, name = '', finalizers = [] } = object.metadata;
  const path = '/metadata/finalizers';
  const value = finalizers.filter((one) => one !== finalizer);
  const change = value.length > 0 ? { op: 'replace', path, value } : { op: 'remove', path };
  const body = [{ op: 'test', path, value: finalizers }, change];
  return { type: 'patch', resource, key: { namespace, name }, patch: { type: 'json', body } };
}
