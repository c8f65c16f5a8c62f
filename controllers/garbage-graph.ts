import type { KubeObject, ObjectKey, OwnerReference } from '#api/types.ts';
import type { Resource } from '#client/api.ts';

const FOREGROUND = 'foregroundDeletion';
const ORPHAN = 'orphan';

/** What the collector knows of one object. */
export type Item = {
  uid: string;
  resource: Resource;
  key: ObjectKey;
  resourceVersion: string;
  owners: readonly OwnerReference[];
  finalizers: readonly string[];
  isDeleting: boolean;
};

/** Being deleted, and waiting until its dependents are gone. */
export const waitsForDependents = (item: Item): boolean =>
  item.isDeleting && item.finalizers.includes(FOREGROUND);

/** Being deleted, and waiting until its dependents are let go. */
export const orphansDependents = (item: Item): boolean =>
  item.isDeleting && item.finalizers.includes(ORPHAN);

/** The finalizers without the one that is done. */
export const withoutFinalizer = (item: Item, done: 'foregroundDeletion' | 'orphan'): string[] =>
  item.finalizers.filter((name) => name !== done);

/** Who owns whom, over all objects of the cluster. Each change says whom to look at. */
export class GarbageGraph {
  readonly #items = new Map<string, Item>();
  readonly #dependents = new Map<string, Set<string>>();

  get size(): number {
    return this.#items.size;
  }

  get(uid: string): Item | undefined {
    return this.#items.get(uid);
  }

  dependentsOf(uid: string): Item[] {
    return [...(this.#dependents.get(uid) ?? [])].flatMap((one) => this.#items.get(one) ?? []);
  }

  /** Takes a new or changed object; returns the uids that may have something to do now. */
  put(resource: Resource, object: KubeObject): Set<string> {
    const item = itemOf(resource, object);
    const old = this.#items.get(item.uid);
    this.#items.set(item.uid, item);
    this.#link(item, old);
    const look = new Set<string>();
    const waits = waitsForDependents(item) || orphansDependents(item);
    if (waits && !(old && (waitsForDependents(old) || orphansDependents(old)))) {
      look.add(item.uid);
      for (const uid of this.#dependents.get(item.uid) ?? []) look.add(uid);
    }
    // An owner that waits for us may be waiting no longer.
    for (const { uid } of old?.owners ?? []) if (this.#isWaiting(uid)) look.add(uid);
    for (const { uid } of item.owners) {
      if (!this.#items.has(uid) || this.#isWaiting(uid)) look.add(item.uid);
    }
    return look;
  }

  /** Takes a removed object; returns the uids that may have something to do now. */
  remove(uid: string): Set<string> {
    const look = new Set(this.#dependents.get(uid) ?? []);
    const item = this.#items.get(uid);
    if (!item) return look;
    this.#items.delete(uid);
    for (const owner of item.owners) {
      this.#unlink(owner.uid, uid);
      if (this.#isWaiting(owner.uid)) look.add(owner.uid);
    }
    return look;
  }

  #isWaiting(uid: string): boolean {
    const item = this.#items.get(uid);
    return item !== undefined && waitsForDependents(item);
  }

  #link(item: Item, old: Item | undefined): void {
    for (const { uid } of old?.owners ?? []) this.#unlink(uid, item.uid);
    for (const { uid } of item.owners) {
      const set = this.#dependents.get(uid);
      if (set) set.add(item.uid);
      else this.#dependents.set(uid, new Set([item.uid]));
    }
  }

  #unlink(owner: string, dependent: string): void {
    const set = this.#dependents.get(owner);
    set?.delete(dependent);
    if (set?.size === 0) this.#dependents.delete(owner);
  }
}

function itemOf(resource: Resource, object: KubeObject): Item {
  const { uid = '', namespace, name = '', resourceVersion = '' } = object.metadata;
  return {
    uid,
    resource,
    key: { namespace, name },
    resourceVersion,
    owners: object.metadata.ownerReferences ?? [],
    finalizers: object.metadata.finalizers ?? [],
    isDeleting: object.metadata.deletionTimestamp !== undefined,
  };
}
