import type { Api, Resource } from '#client/api.ts';

/** One resource of one served version, as discovery tells it. */
export type DiscoveredResource = Resource & { verbs: readonly string[] };

export type Discovery = {
  /** Each group's resources in its preferred version. */
  resources: DiscoveredResource[];
  /** Groups that could not be asked (an aggregated API that is away): `group/version: why`. */
  failures: string[];
};

const AGGREGATED =
  'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';

type AggregatedGroup = {
  metadata?: { name?: string };
  versions?: { version: string; freshness?: string; resources?: AggregatedResource[] }[];
};
type AggregatedResource = {
  resource: string;
  responseKind?: { kind?: string };
  scope: string;
  verbs?: string[];
};

type PlainGroups = {
  groups?: { name: string; preferredVersion?: { groupVersion: string; version: string } }[];
};
type PlainResources = {
  resources?: { name: string; kind: string; namespaced: boolean; verbs?: string[] }[];
};

/** Asks what the server serves: two calls, or one per group of a server without aggregation. */
export async function discover(
  api: Api,
  options: { signal?: AbortSignal } = {},
): Promise<Discovery> {
  const found: Discovery = { resources: [], failures: [] };
  const core = await readJson(api, '/api', options);
  if (isAggregated(core)) addAggregated(found, core.items ?? []);
  else await addPlain(api, found, { group: '', version: 'v1', path: '/api/v1' }, options);
  const groups = await readJson(api, '/apis', options);
  if (isAggregated(groups)) addAggregated(found, groups.items ?? []);
  else {
    for (const { name, preferredVersion } of (groups as PlainGroups).groups ?? []) {
      const { groupVersion = '', version = '' } = preferredVersion ?? {};
      const path = `/apis/${groupVersion}`;
      await addPlain(api, found, { group: name, version, path }, options);
    }
  }
  return found;
}

async function readJson(
  api: Api,
  path: string,
  options: { signal?: AbortSignal },
): Promise<unknown> {
  const bytes = await api.raw(path, { ...options, accept: AGGREGATED });
  return JSON.parse(Buffer.from(bytes).toString('utf8')) as unknown;
}

function isAggregated(answer: unknown): answer is { items?: AggregatedGroup[] } {
  return (answer as { kind?: string } | null)?.kind === 'APIGroupDiscoveryList';
}

/** The first version that has a resource is the preferred one; others only add what it lacks. */
function addAggregated(found: Discovery, groups: readonly AggregatedGroup[]): void {
  for (const { metadata, versions = [] } of groups) {
    const group = metadata?.name ?? '';
    const seen = new Set<string>();
    for (const { version, freshness, resources = [] } of versions) {
      if (freshness === 'Stale') found.failures.push(`${group}/${version}: stale`);
      for (const { resource, responseKind, scope, verbs = [] } of resources) {
        if (seen.has(resource)) continue;
        seen.add(resource);
        const namespaced = scope === 'Namespaced';
        const kind = responseKind?.kind ?? '';
        found.resources.push({ group, version, resource, kind, namespaced, verbs });
      }
    }
  }
}

async function addPlain(
  api: Api,
  found: Discovery,
  at: { group: string; version: string; path: string },
  options: { signal?: AbortSignal },
): Promise<void> {
  try {
    const answer = (await readJson(api, at.path, options)) as PlainResources;
    for (const { name, kind, namespaced, verbs = [] } of answer.resources ?? []) {
      if (name.includes('/')) continue;
      const { group, version } = at;
      found.resources.push({ group, version, resource: name, kind, namespaced, verbs });
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    found.failures.push(`${at.group}/${at.version}: ${(error as Error).message}`);
  }
}
