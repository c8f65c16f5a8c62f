import type { Endpoint, Endpoints, EndpointSlice, Service } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { endpointSlices, endpoints as endpointsResource, services } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { isManagedBy, SERVICE_INDEX, serviceIndex } from '#controllers/endpointslice-controller.ts';
import {
  type EndpointGroup,
  MANAGED_BY_LABEL,
  planSlices,
  SERVICE_NAME_LABEL,
} from '#controllers/endpointslice-plan.ts';
import { familyOf } from '#controllers/service-pods.ts';

const MANAGER = 'endpointslicemirroring-controller.k8s.io';
const SKIP_LABEL = 'endpointslice.kubernetes.io/skip-mirror';
const LEADER_ANNOTATION = 'control-plane.alpha.kubernetes.io/leader';
/** Of one subset. Source: --mirroring-max-endpoints-per-subset. */
const MAX_PER_SUBSET = 1000;

type Subset = NonNullable<Endpoints['subsets']>[number];
type Address = NonNullable<Subset['addresses']>[number];

export type MirrorWorld = {
  endpoints: Endpoints;
  /** False: no such service, or it selects pods and has slices of its own. */
  isMirrored: boolean;
  slices: readonly EndpointSlice[];
};

/** Copies Endpoints that someone wrote by hand into EndpointSlices, which proxies read. Pure. */
export function planMirror({ endpoints, isMirrored, slices }: MirrorWorld): Plan {
  const name = endpoints.metadata.name ?? '';
  const groups = isMirrored ? (endpoints.subsets ?? []).flatMap(groupsOf) : [];
  const families = [...new Set(groups.map((group) => group.addressType))];
  const { [MANAGED_BY_LABEL]: _, ...own } = endpoints.metadata.labels ?? {};
  const actions = planSlices(merged(groups), families, slices, {
    owner: endpoints,
    serviceName: name,
    managedBy: MANAGER,
    labels: { ...own, [SERVICE_NAME_LABEL]: name, [MANAGED_BY_LABEL]: MANAGER },
  });
  return { actions };
}

function groupsOf(subset: Subset): EndpointGroup[] {
  const ready = (subset.addresses ?? []).map((address) => endpointOf(address, true));
  const notReady = (subset.notReadyAddresses ?? []).map((address) => endpointOf(address, false));
  const all = [...ready, ...notReady].slice(0, MAX_PER_SUBSET);
  const ports = (subset.ports ?? []).map(({ name = '', port, protocol = 'TCP', appProtocol }) => ({
    name,
    port,
    protocol,
    ...(appProtocol ? { appProtocol } : {}),
  }));
  return (['IPv4', 'IPv6'] as const).flatMap((addressType) => {
    const endpoints = all.filter((e) => familyOf(e.addresses[0] ?? '') === addressType);
    return endpoints.length > 0 ? [{ addressType, ports, endpoints }] : [];
  });
}

function endpointOf({ ip, hostname, nodeName, targetRef }: Address, ready: boolean): Endpoint {
  return {
    addresses: [ip],
    conditions: { ready },
    ...(hostname ? { hostname } : {}),
    ...(nodeName ? { nodeName } : {}),
    ...(targetRef ? { targetRef } : {}),
  };
}

/** Subsets may share their ports; slices are cut by ports alone. */
function merged(groups: readonly EndpointGroup[]): EndpointGroup[] {
  const byPorts = new Map<string, EndpointGroup>();
  for (const group of groups) {
    const key = JSON.stringify([group.addressType, group.ports]);
    const before = byPorts.get(key)?.endpoints ?? [];
    byPorts.set(key, { ...group, endpoints: [...before, ...group.endpoints] });
  }
  return [...byPorts.values()];
}

/** Mirrors the Endpoints of services without selector. */
export const endpointSliceMirroringController: ControllerDefinition = {
  name: 'endpointslice-mirroring-controller',
  async run(setup) {
    const { informers } = setup;
    const serviceCache = informers.of(services);
    const cache = informers.of(endpointsResource);
    const sliceCache = informers.of(endpointSlices, { indexes: { [SERVICE_INDEX]: serviceIndex } });
    await runController<MirrorWorld>(
      {
        name: 'endpointslice-mirroring-controller',
        caches: [
          cacheOf(endpointsResource, cache),
          cacheOf(services, serviceCache),
          cacheOf(endpointSlices, sliceCache),
        ],
        triggers(add) {
          onSelf(cache, add);
          onSelf(serviceCache, add);
          sliceCache.onChange(({ object }) => {
            if (isManagedBy(object, MANAGER)) for (const key of serviceIndex(object)) add(key);
          });
        },
        observe(key) {
          const endpoints = cache.get(key);
          if (!endpoints || endpoints.metadata.deletionTimestamp) return undefined;
          const isMirrored = mayMirror(endpoints, serviceCache.get(key));
          const slices = sliceCache
            .byIndex(SERVICE_INDEX, `${key.namespace}/${key.name}`)
            .filter((slice) => isManagedBy(slice, MANAGER));
          return { endpoints, isMirrored, slices };
        },
        plan: planMirror,
      },
      { ...setup, recorder: setup.recorderOf('endpoint-slice-mirroring-controller') },
    );
  },
};

function mayMirror(endpoints: Endpoints, service: Service | undefined): boolean {
  const { labels, annotations } = endpoints.metadata;
  if (!service || service.spec?.selector !== undefined) return false;
  return labels?.[SKIP_LABEL] !== 'true' && annotations?.[LEADER_ANNOTATION] === undefined;
}
