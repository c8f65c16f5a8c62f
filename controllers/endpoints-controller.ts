import { isDeepStrictEqual } from 'node:util';
import type { Endpoints, Pod, Service } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { endpoints as endpointsResource, pods, services } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { HEADLESS_LABEL } from '#controllers/endpointslice-plan.ts';
import { isReady } from '#controllers/pods.ts';
import {
  addressOf,
  familiesOf,
  hostnameIn,
  isHeadless,
  mayServe,
  type PortOfPod,
  portsOf,
  onServicePods,
  selectedPods,
  selectsPods,
  servicePodCaches,
} from '#controllers/service-pods.ts';

const MANAGED_BY = 'endpoints.kubernetes.io/managed-by';
const MANAGER = 'endpoint-controller';
const OVER_CAPACITY = 'endpoints.kubernetes.io/over-capacity';
const LAST_CHANGE = 'endpoints.kubernetes.io/last-change-trigger-time';
/** One Endpoints object holds no more addresses. Source: Endpoints API, "Over-capacity". */
const MAX_ADDRESSES = 1000;

type Subset = NonNullable<Endpoints['subsets']>[number];
type Address = NonNullable<Subset['addresses']>[number];

export type EndpointsWorld = {
  /** Undefined when it is gone. */
  service: Service | undefined;
  pods: readonly Pod[];
  endpoints: Endpoints | undefined;
};

/** Keeps a Service's Endpoints, for the clients that still read them. Pure. */
export function planEndpoints({ service, pods, endpoints }: EndpointsWorld): Plan {
  if (!service) {
    if (endpoints?.metadata.labels?.[MANAGED_BY] !== MANAGER) return { actions: [] };
    const { namespace, name = '', uid = '' } = endpoints.metadata;
    const key = { namespace, name };
    return { actions: [{ type: 'delete', resource: endpointsResource, key, uid }] };
  }
  const { subsets, isOver } = truncate(subsetsOf(service, pods));
  const labels = {
    ...service.metadata.labels,
    ...(isHeadless(service) ? { [HEADLESS_LABEL]: '' } : {}),
    [MANAGED_BY]: MANAGER,
  };
  const { [OVER_CAPACITY]: _, [LAST_CHANGE]: __, ...kept } = endpoints?.metadata.annotations ?? {};
  const annotations = isOver ? { ...kept, [OVER_CAPACITY]: 'truncated' } : kept;
  const metadata = {
    ...endpoints?.metadata,
    name: service.metadata.name ?? '',
    namespace: service.metadata.namespace ?? '',
    labels,
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
  };
  const object: Endpoints = { ...endpoints, metadata, subsets };
  if (!endpoints) return { actions: [{ type: 'create', resource: endpointsResource, object }] };
  const isSame =
    isDeepStrictEqual(endpoints.subsets ?? [], subsets) &&
    isDeepStrictEqual(endpoints.metadata.labels ?? {}, labels) &&
    isDeepStrictEqual(endpoints.metadata.annotations ?? {}, annotations);
  if (isSame) return { actions: [] };
  return { actions: [{ type: 'update', resource: endpointsResource, object }] };
}

type Group = { ports: PortOfPod[]; ready: Address[]; notReady: Address[] };

/** Addresses that share their ports share a subset, in an order that stays the same. */
function subsetsOf(service: Service, pods: readonly Pod[]): Subset[] {
  const family = familiesOf(service)[0] ?? 'IPv4';
  const publishes = Boolean(service.spec?.publishNotReadyAddresses);
  const groups = new Map<string, Group>();
  for (const pod of pods) {
    if (!mayServe(pod) || (pod.metadata.deletionTimestamp && !publishes)) continue;
    const ip = addressOf(pod, family);
    const ports = portsOf(service, pod).sort((a, b) => (a.name < b.name ? -1 : 1));
    const needsNoPorts = isHeadless(service) && !service.spec?.ports?.length;
    if (!ip || (ports.length === 0 && !needsNoPorts)) continue;
    const key = JSON.stringify(ports);
    const group = groups.get(key) ?? { ports, ready: [], notReady: [] };
    const list = publishes || isReady(pod) ? group.ready : group.notReady;
    list.push(addressFor(service, pod, ip));
    groups.set(key, group);
  }
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { ports, ready, notReady }]) => ({
      ...(ready.length > 0 ? { addresses: ready.sort(byIp) } : {}),
      ...(notReady.length > 0 ? { notReadyAddresses: notReady.sort(byIp) } : {}),
      ...(ports.length > 0 ? { ports: ports.map(withoutEmptyName) } : {}),
    }));
}

const byIp = (a: Address, b: Address): number => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0);

type Port = NonNullable<Subset['ports']>[number];

function withoutEmptyName({ name, ...port }: PortOfPod): Port {
  return name ? { name, ...port } : port;
}

function addressFor(service: Service, pod: Pod, ip: string): Address {
  const { namespace = '', name = '', uid = '' } = pod.metadata;
  const hostname = hostnameIn(service, pod);
  return {
    ip,
    ...(hostname ? { hostname } : {}),
    ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
    targetRef: { kind: 'Pod', namespace, name, uid },
  };
}

/** Ready addresses first, up to the bound. */
function truncate(subsets: Subset[]): { subsets: Subset[]; isOver: boolean } {
  const count = (subset: Subset): number =>
    (subset.addresses?.length ?? 0) + (subset.notReadyAddresses?.length ?? 0);
  if (subsets.reduce((sum, subset) => sum + count(subset), 0) <= MAX_ADDRESSES) {
    return { subsets, isOver: false };
  }
  let left = MAX_ADDRESSES;
  const take = (list: Address[] | undefined): Address[] => {
    const taken = (list ?? []).slice(0, left);
    left -= taken.length;
    return taken;
  };
  const ready = subsets.map((subset) => take(subset.addresses));
  const cut = subsets.map((subset, index): Subset => {
    const { addresses: _, notReadyAddresses: __, ...rest } = subset;
    const addresses = ready[index] ?? [];
    const notReadyAddresses = take(subset.notReadyAddresses);
    return {
      ...(addresses.length > 0 ? { addresses } : {}),
      ...(notReadyAddresses.length > 0 ? { notReadyAddresses } : {}),
      ...rest,
    };
  });
  return { subsets: cut.filter((subset) => count(subset) > 0), isOver: true };
}

/** Keeps the Endpoints of every Service that selects pods. */
export const endpointsController: ControllerDefinition = {
  name: 'endpoints-controller',
  async run(setup) {
    const caches = servicePodCaches(setup.informers);
    const { podCache, serviceCache } = caches;
    const endpointsCache = setup.informers.of(endpointsResource);
    await runController<EndpointsWorld>(
      {
        name: 'endpoints-controller',
        workers: 5,
        caches: [
          cacheOf(services, serviceCache),
          cacheOf(pods, podCache),
          cacheOf(endpointsResource, endpointsCache),
        ],
        triggers(add) {
          onSelf(serviceCache, add);
          onServicePods(caches, add);
          onSelf(endpointsCache, add);
        },
        observe(key) {
          const service = serviceCache.get(key);
          const endpoints = endpointsCache.get(key);
          if (!service) return endpoints ? { service, pods: [], endpoints } : undefined;
          if (!selectsPods(service)) return undefined;
          return { service, pods: selectedPods(service, caches), endpoints };
        },
        plan: planEndpoints,
      },
      { ...setup, recorder: setup.recorderOf('endpoint-controller') },
    );
  },
};
