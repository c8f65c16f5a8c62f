import type { OpenApi2 } from '#apiserver/aggregation/merge-openapi.ts';
import type { AggregatedGroup } from '#apiserver/discovery.ts';
import type { RemoteService } from '#apiserver/aggregation/remote-services.ts';

/** One entry of an APIResourceList. Source: metav1.APIResource. */
export type ResourceEntry = {
  name: string;
  singularName?: string;
  namespaced?: boolean;
  group?: string;
  version?: string;
  kind: string;
  verbs?: string[];
  shortNames?: string[];
  categories?: string[];
};

/** What registered servers have said that they serve; kept while they cannot be asked. */
export type Catalog = {
  set(remote: RemoteService, said: Said): void;
  hasOpenApi(remote: RemoteService): boolean;
  /** What OpenAPI 2.0 says about its group version. */
  openApi2(remote: RemoteService): OpenApi2 | undefined;
  /** Rises with every change. */
  generation(): number;
  /** A version of a group as aggregated discovery shows it. */
  describe(remote: RemoteService): AggregatedGroup['versions'][number];
};

/** What a server answered when it was last asked. */
export type Said = {
  resources: readonly ResourceEntry[];
  /** It serves OpenAPI 3. */
  hasOpenApi: boolean;
  openApi2: OpenApi2 | undefined;
};
type Known = Said & { text: string };

export function createCatalog(): Catalog {
  const known = new Map<string, Known>();
  let generation = 0;
  return {
    set({ name }, said) {
      const text = JSON.stringify(said);
      if (known.get(name)?.text === text) return;
      known.set(name, { ...said, text });
      generation++;
    },
    hasOpenApi: ({ name }) => known.get(name)?.hasOpenApi ?? false,
    openApi2: ({ name }) => known.get(name)?.openApi2,
    generation: () => generation,
    describe(remote) {
      const resources = known.get(remote.name)?.resources ?? [];
      return {
        version: remote.version,
        resources: describeResources(remote, resources),
        freshness: remote.available ? 'Current' : 'Stale',
      };
    },
  };
}

function describeResources(
  { group, version }: RemoteService,
  entries: readonly ResourceEntry[],
): object[] {
  const kindOf = (entry: ResourceEntry): object => ({
    group: entry.group ?? group,
    version: entry.version ?? version,
    kind: entry.kind,
  });
  return entries
    .filter(({ name }) => !name.includes('/'))
    .map((entry) => {
      const prefix = `${entry.name}/`;
      const parts = entries
        .filter(({ name }) => name.startsWith(prefix))
        .map((part) => ({
          subresource: part.name.slice(prefix.length),
          responseKind: kindOf(part),
          verbs: part.verbs ?? [],
        }));
      return {
        resource: entry.name,
        responseKind: kindOf(entry),
        scope: entry.namespaced ? 'Namespaced' : 'Cluster',
        singularResource: entry.singularName ?? '',
        verbs: entry.verbs ?? [],
        ...(entry.shortNames?.length ? { shortNames: entry.shortNames } : {}),
        ...(entry.categories?.length ? { categories: entry.categories } : {}),
        ...(parts.length > 0 ? { subresources: parts } : {}),
      };
    });
}
