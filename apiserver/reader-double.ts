import type { KubeObject } from '#api/types.ts';
import type { ObjectReader } from '#apiserver/reader.ts';

/** For tests: a reader over objects given by hand; `put` and `remove` change them. */
export type ReaderDouble = ObjectReader & {
  put(group: string, resource: string, object: KubeObject): void;
  remove(group: string, resource: string, name: string, namespace?: string): void;
};

export function readerDouble(
  initial: Readonly<Record<string, readonly KubeObject[]>> = {},
): ReaderDouble {
  const objects = new Map<string, Map<string, KubeObject>>();
  const generations = new Map<string, number>();
  const placeOf = (group: string, resource: string): string =>
    group ? `${resource}.${group}` : resource;
  const tableOf = (place: string): Map<string, KubeObject> => {
    let table = objects.get(place);
    if (!table) objects.set(place, (table = new Map()));
    return table;
  };
  const keyOf = (namespace: string | undefined, name: string): string =>
    `${namespace ?? ''}/${name}`;
  const changed = (place: string): void => {
    generations.set(place, (generations.get(place) ?? 0) + 1);
  };
  const double: ReaderDouble = {
    get: <T extends KubeObject>(
      group: string,
      resource: string,
      key: { namespace?: string | undefined; name: string },
    ) => tableOf(placeOf(group, resource)).get(keyOf(key.namespace, key.name)) as T | undefined,
    list: <T extends KubeObject>(group: string, resource: string, namespace?: string) =>
      [...tableOf(placeOf(group, resource)).values()].filter(
        (object) => namespace === undefined || object.metadata.namespace === namespace,
      ) as T[],
    generation: (group, resource) => generations.get(placeOf(group, resource)) ?? 0,
    put(group, resource, object) {
      const { namespace, name = '' } = object.metadata;
      tableOf(placeOf(group, resource)).set(keyOf(namespace, name), object);
      changed(placeOf(group, resource));
    },
    remove(group, resource, name, namespace) {
      tableOf(placeOf(group, resource)).delete(keyOf(namespace, name));
      changed(placeOf(group, resource));
    },
  };
  for (const [place, list] of Object.entries(initial)) {
    const [resource = '', ...group] = place.split('.');
    for (const object of list) double.put(group.join('.'), resource, object);
  }
  return double;
}
