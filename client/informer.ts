import type { KubeObject, ObjectKey } from '#api/types.ts';

export type Change<T> =
  | { type: 'added'; object: T }
  | { type: 'updated'; object: T; old: T }
  | { type: 'deleted'; object: T };

/** A live, read-only copy of a resource. Objects are shared: never mutate them. */
export type Informer<T extends KubeObject = KubeObject> = {
  get(key: ObjectKey): T | undefined;
  list(namespace?: string): T[];
  /** Objects for which the index function `name` returned `value`. */
  byIndex(name: string, value: string): T[];
  /** Called for every change after the handler was added, and once per object already there. */
  onChange(handler: (change: Change<T>) => void): () => void;
  /** Resolves when the first list is complete. */
  synced(): Promise<void>;
  hasSynced(): boolean;
  /** Newest resourceVersion seen; '' before the first list. */
  resourceVersion(): string;
  /** Resolves when the copy contains at least this version (a write of one's own). */
  reached(resourceVersion: string, options?: { signal?: AbortSignal }): Promise<void>;
};
