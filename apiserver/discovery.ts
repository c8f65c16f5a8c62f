import { createHash } from 'node:crypto';
import { ALL_VERBS, apiVersionOf } from '#api/kind.ts';
import type { Kind, Subresource } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';

/** A document as it goes over the wire. `etag` comes with its quotes. */
export type Document = { body: Uint8Array; contentType: string; etag?: string };

/**
 * Discovery of one scheme: `/api`, `/apis` and everything beneath them down to resource lists.
 * Documents are built when first asked for. Source: Kubernetes "The Kubernetes API, Discovery".
 */
export type Discovery = {
  /** undefined where there is no such group or version; `accept` chooses the aggregated form. */
  document(path: string, accept?: string): Document | undefined;
};

export type DiscoveryOptions = {
  /** `host:port` that clients outside are told to use. */
  serverAddress: string;
  /** Groups that other servers answer for, as aggregated discovery lists them. */
  aggregated?: readonly AggregatedGroup[];
};

/** One group of the aggregated form, apidiscovery.k8s.io/v2. */
export type AggregatedGroup = {
  metadata: { name?: string };
  versions: readonly {
    version: string;
    resources: readonly unknown[];
    freshness: 'Current' | 'Stale';
  }[];
};

/** Upstream's order of its own groups; others follow by alphabet. */
const GROUP_ORDER = [
  'apiregistration.k8s.io',
  'apps',
  'events.k8s.io',
  'authentication.k8s.io',
  'authorization.k8s.io',
  'autoscaling',
  'batch',
  'certificates.k8s.io',
  'networking.k8s.io',
  'policy',
  'rbac.authorization.k8s.io',
  'storage.k8s.io',
  'admissionregistration.k8s.io',
  'apiextensions.k8s.io',
  'scheduling.k8s.io',
  'coordination.k8s.io',
  'node.k8s.io',
  'discovery.k8s.io',
  'resource.k8s.io',
  'flowcontrol.apiserver.k8s.io',
];

export function createDiscovery(scheme: Scheme, options: DiscoveryOptions): Discovery {
  const ready = new Map<string, Document | null>();
  return {
    document: (path, accept = '') => {
      const plain = path.replace(/\/$/, '');
      const isRoot = plain === '/api' || plain === '/apis';
      const version = isRoot ? aggregatedVersion(accept) : undefined;
      const key = `${version ?? ''} ${plain}`;
      let document = ready.get(key);
      if (document === undefined) {
        const content = version
          ? aggregatedList(scheme, options, plain, version)
          : plainDocument(scheme, options, plain);
        document = content === undefined ? null : encode(content, version);
        // Paths come from clients: only those that exist are kept.
        if (document) ready.set(key, document);
      }
      return document ?? undefined;
    },
  };
}

/** `application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList` → `v2`. */
function aggregatedVersion(accept: string): 'v2' | 'v2beta1' | undefined {
  for (const clause of accept.split(',')) {
    const [media, ...parameters] = clause.split(';').map((part) => part.trim());
    if (media !== 'application/json') continue;
    if (!parameters.includes('as=APIGroupDiscoveryList')) {
      if (parameters.every((parameter) => parameter.startsWith('q='))) return undefined;
      continue;
    }
    if (!parameters.includes('g=apidiscovery.k8s.io')) continue;
    if (parameters.includes('v=v2')) return 'v2';
    if (parameters.includes('v=v2beta1')) return 'v2beta1';
  }
  return undefined;
}

function encode(content: object, version: string | undefined): Document {
  const body = Buffer.from(JSON.stringify(content));
  if (!version) return { body, contentType: 'application/json' };
  const hash = createHash('sha512').update(body).digest('hex').toUpperCase();
  return {
    body,
    contentType: `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
    etag: `"${hash}"`,
  };
}

/** Upstream's order, then the alphabet. */
function orderedGroups(scheme: Scheme): { group: string; versions: readonly string[] }[] {
  const rank = (group: string): number => {
    const place = GROUP_ORDER.indexOf(group);
    return place < 0 ? GROUP_ORDER.length : place;
  };
  return scheme
    .groups()
    .filter(({ group }) => group !== '')
    .sort((a, b) => rank(a.group) - rank(b.group) || (a.group < b.group ? -1 : 1));
}

const kindsOf = (scheme: Scheme, group: string, version: string): Kind[] =>
  scheme.kinds
    .filter((kind) => kind.group === group && kind.version === version)
    .sort((a, b) => (a.plural < b.plural ? -1 : 1));

function plainDocument(
  scheme: Scheme,
  { serverAddress, aggregated = [] }: DiscoveryOptions,
  path: string,
): object | undefined {
  const [root, ...rest] = path.slice(1).split('/');
  if (root === 'api') {
    const versions = scheme.groups().find(({ group }) => group === '')?.versions ?? [];
    const [version] = rest;
    if (version === undefined) {
      return {
        kind: 'APIVersions',
        versions,
        serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress }],
      };
    }
    if (rest.length > 1 || !versions.includes(version)) return undefined;
    return resourceList(scheme, '', version);
  }
  if (root !== 'apis') return undefined;
  const [group, version] = rest;
  const groups = [
    ...orderedGroups(scheme),
    ...aggregated.map(({ metadata, versions }) => ({
      group: metadata.name ?? '',
      versions: versions.map((one) => one.version),
    })),
  ];
  if (group === undefined) {
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(apiGroup) };
  }
  const known = orderedGroups(scheme).find((candidate) => candidate.group === group);
  if (!known || rest.length > 2) return undefined;
  if (version === undefined) return { kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(known) };
  return known.versions.includes(version) ? resourceList(scheme, group, version) : undefined;
}

function apiGroup({ group, versions }: { group: string; versions: readonly string[] }): object {
  const all = versions.map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: all, preferredVersion: all[0] };
}

function resourceList(scheme: Scheme, group: string, version: string): object {
  return {
    kind: 'APIResourceList',
    ...(group === '' ? {} : { apiVersion: 'v1' }),
    groupVersion: apiVersionOf({ group, version }),
    resources: kindsOf(scheme, group, version).flatMap((kind) => [
      {
        name: kind.plural,
        singularName: kind.singular,
        namespaced: kind.scope === 'Namespaced',
        kind: kind.kind,
        verbs: verbsOf(kind),
        ...(kind.shortNames?.length ? { shortNames: kind.shortNames } : {}),
        ...(kind.categories?.length ? { categories: kind.categories } : {}),
        ...(isStored(kind) ? { storageVersionHash: storageVersionHash(kind) } : {}),
      },
      ...subresourcesOf(kind).map(({ name, verbs, body }) => ({
        name: `${kind.plural}/${name}`,
        singularName: '',
        namespaced: kind.scope === 'Namespaced',
        ...(body.group || body.version ? { group: body.group, version: body.version } : {}),
        kind: body.kind,
        verbs,
      })),
    ]),
  };
}

const verbsOf = (kind: Kind): readonly string[] => kind.verbs ?? ALL_VERBS;

/** Reviews and the like are answered, not kept. */
const isStored = (kind: Kind): boolean => verbsOf(kind).includes('list');

/** What upstream derives from the kind that is stored, so that clients notice a change of it. */
function storageVersionHash(kind: Kind): string {
  const { group, version, kind: name, hashedVersion } = kind.storedAs?.kind() ?? kind;
  const text = `${group}/${hashedVersion ?? version}/${name}`;
  const digest = createHash('sha256').update(text).digest();
  return digest.subarray(0, 8).toString('base64');
}

export type SubresourceInfo = {
  name: string;
  verbs: readonly string[];
  /** Group and version are empty where they are the parent's. */
  body: { group: string; version: string; kind: string };
};

const DATA_VERBS = ['get', 'patch', 'update'];

/** A kind's subresources by name, with the kind of their bodies. */
export function subresourcesOf(kind: Kind): SubresourceInfo[] {
  return Object.entries(kind.subresources ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, subresource]) => ({
      name,
      verbs: subresource.type === 'handler' ? subresource.verbs : DATA_VERBS,
      body: bodyOf(kind, subresource),
    }));
}

function bodyOf(kind: Kind, subresource: Subresource): SubresourceInfo['body'] {
  if (subresource.type === 'scale') return { group: 'autoscaling', version: 'v1', kind: 'Scale' };
  const body = subresource.type === 'handler' ? subresource.body : undefined;
  if (!body) return { group: '', version: '', kind: kind.kind };
  const isParents = body.group === kind.group && body.version === kind.version;
  return isParents ? { group: '', version: '', kind: body.kind } : body;
}

function aggregatedList(
  scheme: Scheme,
  { aggregated = [] }: DiscoveryOptions,
  path: string,
  version: string,
): object {
  const groups =
    path === '/api'
      ? scheme
          .groups()
          .filter(({ group }) => group === '')
          .map(({ versions }) => aggregatedGroup(scheme, '', versions))
      : [
          ...orderedGroups(scheme).map(({ group, versions }) =>
            aggregatedGroup(scheme, group, versions),
          ),
          ...aggregated,
        ];
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: groups,
  };
}

function aggregatedGroup(
  scheme: Scheme,
  group: string,
  versions: readonly string[],
): AggregatedGroup {
  return {
    metadata: group === '' ? {} : { name: group },
    versions: versions.map((version) => ({
      version,
      resources: kindsOf(scheme, group, version).map(aggregatedResource),
      freshness: 'Current',
    })),
  };
}

function aggregatedResource(kind: Kind): object {
  const subresources = subresourcesOf(kind).map(({ name, verbs, body }) => ({
    subresource: name,
    responseKind: body,
    verbs,
  }));
  return {
    resource: kind.plural,
    responseKind: { group: '', version: '', kind: kind.kind },
    scope: kind.scope,
    singularResource: kind.singular,
    verbs: verbsOf(kind),
    ...(kind.shortNames?.length ? { shortNames: kind.shortNames } : {}),
    ...(kind.categories?.length ? { categories: kind.categories } : {}),
    ...(subresources.length > 0 ? { subresources } : {}),
  };
}
