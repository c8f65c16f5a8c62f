import type { Api, Resource } from '#client/api.ts';
import { UserError } from '#cli/verb.ts';
import { nearest } from '#cli/suggest.ts';

/** A resource as discovery describes it. */
export type DiscoveredResource = Resource & {
  singular: string;
  shortNames: readonly string[];
  categories: readonly string[];
  verbs: readonly string[];
};

type GroupDiscovery = {
  metadata: { name?: string };
  versions: {
    version: string;
    resources: {
      resource: string;
      responseKind?: { kind?: string };
      scope: string;
      singularResource?: string;
      shortNames?: string[];
      categories?: string[];
      verbs: string[];
    }[];
  }[];
};

const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

/** Everything the server offers, preferred versions first. */
export async function discover(api: Api): Promise<DiscoveredResource[]> {
  const lists = await Promise.all(
    ['/api', '/apis'].map(async (path) => {
      const text = Buffer.from(await api.raw(path, { accept: AGGREGATED })).toString();
      return (JSON.parse(text) as { items: GroupDiscovery[] }).items;
    }),
  );
  return lists.flat().flatMap((group) =>
    group.versions.flatMap(({ version, resources }) =>
      resources.map((r) => ({
        group: group.metadata.name ?? '',
        version,
        resource: r.resource,
        kind: r.responseKind?.kind ?? '',
        namespaced: r.scope === 'Namespaced',
        singular: r.singularResource ?? '',
        shortNames: r.shortNames ?? [],
        categories: r.categories ?? [],
        verbs: r.verbs,
      })),
    ),
  );
}

/** Finds `pods`, `pod`, `po`, `Pod`, `deployments.apps` among what the server offers. */
export function findResource(
  known: readonly DiscoveredResource[],
  word: string,
): DiscoveredResource {
  const [name = '', ...rest] = word.toLowerCase().split('.');
  const group = rest.join('.');
  const found = known.find(
    (r) =>
      (group === '' || r.group === group || `${r.version}.${r.group}` === group) &&
      (r.resource === name ||
        r.singular === name ||
        r.kind.toLowerCase() === name ||
        r.shortNames.includes(name)),
  );
  if (found) return found;
  const hint = nearest(
    word,
    known.flatMap((r) => [r.resource, r.singular]),
  );
  throw new UserError(
    `the server has no resource type "${word}"${hint ? `; did you mean "${hint}"?` : ''}`,
  );
}

/** The resource of an object's apiVersion and kind. */
export function resourceOfKind(
  known: readonly DiscoveredResource[],
  apiVersion: string,
  kind: string,
): DiscoveredResource | undefined {
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  return known.find((r) => r.group === group && r.version === version && r.kind === kind);
}

export type Target = { resource: DiscoveredResource; names: string[] };

/** Reads `pods a b`, `pod/a svc/b`, `pods,services`, `all` as kubectl does. */
export function parseTargets(known: readonly DiscoveredResource[], words: string[]): Target[] {
  const [first, ...names] = words;
  if (first === undefined) throw new UserError('name a resource type, for example: pods');
  if (first.includes('/')) {
    return words.map((word) => {
      const [type = '', name = ''] = word.split('/');
      return { resource: findResource(known, type), names: [name] };
    });
  }
  return first.split(',').flatMap((type) => {
    const category = known.filter((r) => r.categories.includes(type) && r.verbs.includes('list'));
    if (category.length > 0) return category.map((resource) => ({ resource, names: [] }));
    return [{ resource: findResource(known, type), names }];
  });
}
