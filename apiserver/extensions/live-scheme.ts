import { customKinds } from '#api/apiextensions/custom-kinds.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { isTrue } from '#api/apiextensions/definition-types.ts';
import { gvkKey } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import { buildScheme } from '#api/scheme.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

export const DEFINITIONS = {
  group: 'apiextensions.k8s.io',
  plural: 'customresourcedefinitions',
} as const;

/** The built-in kinds and those of the established definitions, as they are at this moment. */
export type LiveScheme = {
  /** Another object whenever a kind comes, goes or changes. */
  readonly scheme: Scheme;
  /** Aborts when the definition behind a kind changes or goes: watches end then. */
  endOf(kind: Kind): AbortSignal | undefined;
  /** The definition that a kind is made of. */
  definitionOf(kind: Kind): CustomResourceDefinition | undefined;
};

type Served = {
  /** What the kinds are made of; the same text, the same kinds. */
  made: string;
  /** What watches depend on. */
  shape: string;
  kinds: readonly Kind[];
  end: AbortController;
};

/** Follows the definitions in the cache; a change is served from the next request on. */
export function createLiveScheme(base: Scheme, cache: WatchCache, log: Log): LiveScheme {
  const resource = cache.at(DEFINITIONS.group, DEFINITIONS.plural);
  const served = new Map<string, Served>();
  const ends = new WeakMap<Kind, AbortSignal>();
  const definitions = new WeakMap<Kind, CustomResourceDefinition>();
  let current: Scheme | undefined;

  const update = (name: string, definition: CustomResourceDefinition | undefined): void => {
    const before = served.get(name);
    const after = definition && serve(definition, before, log);
    if (after === before) return;
    current = undefined;
    if (after) {
      served.set(name, after);
      for (const kind of after.kinds) {
        ends.set(kind, after.end.signal);
        definitions.set(kind, definition);
        // The stored version need not be served.
        if (kind.storedAs) definitions.set(kind.storedAs.kind(), definition);
      }
    } else served.delete(name);
    if (before && before.end !== after?.end) before.end.abort();
  };
  for (const entry of resource.all()) {
    update(entry.name, entry.object as CustomResourceDefinition);
  }
  resource.listen(({ entry, current: now }) => {
    update(entry.name, (now?.object ?? undefined) as CustomResourceDefinition | undefined);
  });
  return {
    get scheme() {
      current ??= served.size === 0 ? base : merged(base, served.values(), log);
      return current;
    },
    endOf: (kind) => ends.get(kind),
    definitionOf: (kind) => definitions.get(kind),
  };
}

function serve(
  definition: CustomResourceDefinition,
  before: Served | undefined,
  log: Log,
): Served | undefined {
  if (!isTrue(definition, 'Established')) return undefined;
  const { metadata, spec, status } = definition;
  const shape = JSON.stringify([metadata.uid, spec, status?.acceptedNames]);
  const isGoing = metadata.deletionTimestamp !== undefined;
  const made = `${isGoing} ${shape}`;
  if (before?.made === made) return before;
  const end = before?.shape === shape ? before.end : new AbortController();
  try {
    return { made, shape, end, kinds: customKinds(definition) };
  } catch (error) {
    // What another server accepted and this one cannot serve must not stop the others.
    log.error('definition cannot be served', { name: metadata.name, error: errorText(error) });
    return undefined;
  }
}

/** Kinds whose place a built-in one has are not served, nor are two of one name. */
function merged(base: Scheme, served: Iterable<Served>, log: Log): Scheme {
  const taken = new Set(base.kinds.flatMap(placesOf));
  const kinds = [...base.kinds];
  for (const one of served) {
    for (const kind of one.kinds) {
      if (placesOf(kind).some((place) => taken.has(place))) {
        log.warn('the place of a custom kind is taken', { kind: gvkKey(kind) });
        continue;
      }
      for (const place of placesOf(kind)) taken.add(place);
      kinds.push(kind);
    }
  }
  return buildScheme(kinds, base.definitions);
}

const placesOf = (kind: Kind): string[] => [
  gvkKey(kind),
  `${kind.group}/${kind.version} ${kind.plural}`,
];
