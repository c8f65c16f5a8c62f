import type { APIService } from '#api/types.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

export const API_SERVICES = { group: 'apiregistration.k8s.io', plural: 'apiservices' } as const;

/** An APIService that another server answers for. */
export type RemoteService = {
  /** `v1.example.com`. */
  name: string;
  group: string;
  version: string;
  service: { namespace: string; name: string; port: number };
  /** Authority of its serving certificate; undefined: the system's. */
  caPem: string | undefined;
  insecure: boolean;
  groupPriority: number;
  versionPriority: number;
  available: boolean;
};

/** The registered servers, by group and version, as they are at this moment. */
export type RemoteServices = {
  find(group: string, version: string): RemoteService | undefined;
  all(): readonly RemoteService[];
  /** Rises with every change. */
  generation(): number;
};

/** Follows the APIServices in the cache; reads them again after a change. */
export function createRemoteServices(cache: WatchCache): RemoteServices {
  const resource = cache.at(API_SERVICES.group, API_SERVICES.plural);
  const reader = cache.reader();
  let known: Map<string, RemoteService> | undefined;
  resource.listen(() => (known = undefined));
  const current = (): Map<string, RemoteService> => (known ??= readRemotes(reader));
  return {
    find: (group, version) => current().get(`${group}/${version}`),
    all: () => [...current().values()],
    generation: () => resource.generation,
  };
}

function readRemotes(reader: ObjectReader): Map<string, RemoteService> {
  const remotes = new Map<string, RemoteService>();
  for (const object of reader.list<APIService>(API_SERVICES.group, API_SERVICES.plural)) {
    const remote = remoteOf(object);
    if (remote) remotes.set(`${remote.group}/${remote.version}`, remote);
  }
  return remotes;
}

/** Undefined for groups that this server answers for itself. */
export function remoteOf({ metadata, spec, status }: APIService): RemoteService | undefined {
  if (!spec?.service) return undefined;
  const { namespace = '', name = '', port = 443 } = spec.service;
  const condition = status?.conditions?.find(({ type }) => type === 'Available');
  return {
    name: metadata.name ?? '',
    group: spec.group ?? '',
    version: spec.version ?? '',
    service: { namespace, name, port },
    caPem: spec.caBundle ? Buffer.from(spec.caBundle, 'base64').toString('utf8') : undefined,
    insecure: spec.insecureSkipTLSVerify ?? false,
    groupPriority: spec.groupPriorityMinimum,
    versionPriority: spec.versionPriority,
    available: condition?.status === 'True',
  };
}
