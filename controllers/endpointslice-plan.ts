import type { Endpoint, EndpointSlice, KubeObject, Node, Pod, Service } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { endpointSlices } from '#client/resources.ts';
import { controllerReference } from '#controllers/ownership.ts';
import { isReady } from '#controllers/pods.ts';
import {
  addressOf,
  familiesOf,
  hostnameIn,
  type IpFamily,
  isHeadless,
  mayServe,
  type PortOfPod,
  portsOf,
} from '#controllers/service-pods.ts';

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
export const HEADLESS_LABEL = 'service.kubernetes.io/headless';
const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** Source: kube-controller-manager's --max-endpoints-per-slice. */
const MAX_ENDPOINTS = 100;

export type SlicePort = { name: string; port?: number; protocol: string; appProtocol?: string };

/** All endpoints of one address family that share their ports. */
export type EndpointGroup = {
  addressType: IpFamily | 'FQDN';
  ports: readonly SlicePort[];
  endpoints: readonly Endpoint[];
};

/** What a Service's slices should say, before it is cut into slices. Pure. */
export function groupEndpoints(
  service: Service,
  pods: readonly Pod[],
  nodeOf: (name: string) => Node | undefined,
): EndpointGroup[] {
  const groups = new Map<string, { ports: PortOfPod[]; type: IpFamily; endpoints: Endpoint[] }>();
  for (const type of familiesOf(service)) {
    for (const pod of pods) {
      const address = mayServe(pod) ? addressOf(pod, type) : undefined;
      if (!address) continue;
      const ports = portsOf(service, pod);
      const key = `${type} ${portsKey(ports)}`;
      const group = groups.get(key) ?? { ports, type, endpoints: [] };
      group.endpoints.push(endpointOf(service, pod, address, nodeOf));
      groups.set(key, group);
    }
  }
  return [...groups.values()].map(({ type, ports, endpoints }) => ({
    addressType: type,
    ports,
    endpoints,
  }));
}

function endpointOf(
  service: Service,
  pod: Pod,
  address: string,
  nodeOf: (name: string) => Node | undefined,
): Endpoint {
  const serving = isReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const ready = Boolean(service.spec?.publishNotReadyAddresses) || (serving && !terminating);
  const { namespace = '', name = '', uid = '' } = pod.metadata;
  const { nodeName } = pod.spec;
  const zone = nodeName ? nodeOf(nodeName)?.metadata.labels?.[ZONE_LABEL] : undefined;
  const hostname = hostnameIn(service, pod);
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname ? { hostname } : {}),
    ...(nodeName ? { nodeName } : {}),
    targetRef: { kind: 'Pod', namespace, name, uid },
    ...(zone ? { zone } : {}),
    ...hintsOf(service, ready, nodeName, zone),
  };
}

/**
 * For whom an endpoint is meant when the Service wants its traffic to stay near: those of its zone,
 * or first of all its own node. Source: Service API, trafficDistribution; KEP-4444, KEP-3015.
 */
function hintsOf(
  { spec }: Service,
  ready: boolean,
  nodeName: string | undefined,
  zone: string | undefined,
): Pick<Endpoint, 'hints'> {
  const wish = spec?.trafficDistribution;
  if (!wish || !ready) return {};
  const forNodes = wish === 'PreferSameNode' && nodeName ? [{ name: nodeName }] : undefined;
  const forZones = zone ? [{ name: zone }] : undefined;
  if (!forNodes && !forZones) return {};
  return { hints: { ...(forNodes ? { forNodes } : {}), ...(forZones ? { forZones } : {}) } };
}

/** Same ports, same key, whatever their order. */
export function portsKey(ports: readonly SlicePort[]): string {
  const texts = ports.map(({ name, port, protocol, appProtocol }) =>
    JSON.stringify([name, port, protocol, appProtocol ?? null]),
  );
  return texts.toSorted((a, b) => (a < b ? -1 : 1)).join();
}

export type SliceOptions = {
  owner: KubeObject;
  serviceName: string;
  managedBy: string;
  labels: Readonly<Record<string, string>>;
  annotations?: Readonly<Record<string, string>>;
};

/** Labels of a Service's slices: its own, and those by which everyone finds slices. */
export function sliceLabels(service: Service, managedBy: string): Record<string, string> {
  const {
    [SERVICE_NAME_LABEL]: _,
    [MANAGED_BY_LABEL]: __,
    [HEADLESS_LABEL]: ___,
    ...own
  } = service.metadata.labels ?? {};
  return {
    ...own,
    ...(isHeadless(service) ? { [HEADLESS_LABEL]: '' } : {}),
    [MANAGED_BY_LABEL]: managedBy,
    [SERVICE_NAME_LABEL]: service.metadata.name ?? '',
  };
}

type Draft = { slice: EndpointSlice; endpoints: Endpoint[]; changed: boolean };

/**
 * Turns groups into the fewest writes: what a slice already holds stays in it, newcomers fill
 * slices that are written anyway, then one with room for all, then new ones. With nothing to hold
 * one empty slice per family remains, as a sign that we have looked.
 */
export function planSlices(
  groups: readonly EndpointGroup[],
  families: readonly EndpointGroup['addressType'][],
  existing: readonly EndpointSlice[],
  options: SliceOptions,
): Action[] {
  const wanted = families.flatMap((type): EndpointGroup[] => {
    const some = groups.filter((group) => group.addressType === type && group.endpoints.length > 0);
    return some.length > 0 ? some : [{ addressType: type, ports: [], endpoints: [] }];
  });
  const actions: Action[] = [];
  const removals: Action[] = [];
  const unclaimed = new Set(existing.filter((slice) => !slice.metadata.deletionTimestamp));
  for (const group of wanted) {
    const key = portsKey(group.ports);
    const mine = [...unclaimed].filter(
      (slice) => slice.addressType === group.addressType && portsKey(slicePorts(slice)) === key,
    );
    for (const slice of mine) unclaimed.delete(slice);
    const drafts = distribute(group, mine, options);
    const empty = drafts.filter((draft) => draft.endpoints.length === 0);
    // The placeholder of an empty group is one of its slices, if it has any.
    const kept = group.endpoints.length === 0 ? empty.slice(0, 1) : [];
    for (const draft of drafts) {
      if (draft.endpoints.length === 0 && !kept.includes(draft)) removals.push(remove(draft.slice));
      else if (draft.changed) actions.push(write(draft, options));
    }
  }
  for (const slice of unclaimed) removals.push(remove(slice));
  return [...actions, ...removals];
}

function slicePorts(slice: EndpointSlice): SlicePort[] {
  return (slice.ports ?? []).map(({ name = '', port, protocol = 'TCP', appProtocol }) => ({
    name,
    protocol,
    ...(port === undefined ? {} : { port }),
    ...(appProtocol ? { appProtocol } : {}),
  }));
}

function distribute(
  group: EndpointGroup,
  existing: readonly EndpointSlice[],
  options: SliceOptions,
): Draft[] {
  const waiting = new Map(group.endpoints.map((endpoint) => [identity(endpoint), endpoint]));
  const drafts = existing.map((slice): Draft => {
    const before = slice.endpoints ?? [];
    let changed = !hasMetadata(slice, options);
    const endpoints = before.flatMap((old) => {
      const id = identity(old);
      const endpoint = waiting.get(id);
      if (!endpoint) {
        changed = true;
        return [];
      }
      waiting.delete(id);
      changed ||= content(old) !== content(endpoint);
      return [endpoint];
    });
    return { slice, endpoints, changed };
  });
  const rest = [...waiting.values()];
  const fill = (draft: Draft): void => {
    const taken = rest.splice(0, MAX_ENDPOINTS - draft.endpoints.length);
    if (taken.length === 0) return;
    draft.endpoints.push(...taken);
    draft.changed = true;
  };
  for (const draft of drafts) if (draft.changed) fill(draft);
  const roomy = drafts.find((draft) => draft.endpoints.length + rest.length <= MAX_ENDPOINTS);
  if (roomy) fill(roomy);
  while (rest.length > 0 || drafts.length === 0) {
    const draft: Draft = { slice: newSlice(group, options), endpoints: [], changed: true };
    fill(draft);
    drafts.push(draft);
  }
  return drafts;
}

const identity = (endpoint: Endpoint): string =>
  `${endpoint.targetRef?.uid ?? ''} ${endpoint.addresses.join()}`;

function content(endpoint: Endpoint): string {
  const { addresses, conditions, hostname, nodeName, targetRef, zone, hints } = endpoint;
  const { ready, serving, terminating } = conditions ?? {};
  const { kind, namespace, name, uid } = targetRef ?? {};
  return JSON.stringify([
    addresses,
    [ready, serving, terminating],
    hostname ?? null,
    nodeName ?? null,
    [kind, namespace, name, uid],
    zone ?? null,
    [hints?.forNodes ?? [], hints?.forZones ?? []].map((list) => list.map(({ name }) => name)),
  ]);
}

function hasMetadata(slice: EndpointSlice, options: SliceOptions): boolean {
  const { labels = {}, annotations = {} } = slice.metadata;
  return isSameMap(labels, options.labels) && isSameMap(annotations, options.annotations ?? {});
}

function isSameMap(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

function newSlice(group: EndpointGroup, options: SliceOptions): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      generateName: `${options.serviceName}-`,
      namespace: options.owner.metadata.namespace ?? '',
      ownerReferences: [controllerReference(options.owner)],
    },
    addressType: group.addressType,
    ports: [...group.ports],
    endpoints: [],
  };
}

function write({ slice, endpoints }: Draft, options: SliceOptions): Action {
  const { labels, annotations } = options;
  const metadata = {
    ...slice.metadata,
    labels: { ...labels },
    ...(annotations ? { annotations: { ...annotations } } : {}),
  };
  const object: EndpointSlice = { ...slice, metadata, endpoints };
  const type = slice.metadata.uid ? 'update' : 'create';
  return { type, resource: endpointSlices, object };
}

function remove(slice: EndpointSlice): Action {
  const { namespace, name = '', uid = '' } = slice.metadata;
  return { type: 'delete', resource: endpointSlices, key: { namespace, name }, uid };
}
