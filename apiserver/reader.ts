import type { KubeObject, ObjectKey } from '#api/types.ts';

/**
 * Synchronous reads from the watch caches, for authorization and admission: as fresh as the cache,
 * which for the own server's writes means read-your-writes. Objects are shared: never mutate them.
 */
export type ObjectReader = {
  get<T extends KubeObject>(group: string, resource: string, key: ObjectKey): T | undefined;
  list<T extends KubeObject>(group: string, resource: string, namespace?: string): readonly T[];
  /** Rises with every change of the resource: for derived indexes (RBAC rules by subject). */
  generation(group: string, resource: string): number;
};
