import { isDeepStrictEqual } from 'node:util';
import type { EndpointSlice, Node, Service } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { endpointSlices, nodes, services } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

/** A node with this label (whatever its value) gets no outside traffic. Source: Node labels. */
const EXCLUDED_LABEL = 'node.kubernetes.io/exclude-from-external-load-balancers';
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
/** Services of this class are ours as well as those of none. */
export const NODE_ADDRESS_CLASS = 'gantry.io/node-addresses';

export type BalancerWorld = {
  service: Service;
  nodes: readonly Node[];
  /** Of this Service. */
  slices: readonly EndpointSlice[];
  /** All of the cluster: two cannot have one port at one address. */
  services: readonly Service[];
  /** TCP ports of the nodes' addresses that the cluster itself listens on. */
  reserved: readonly number[];
};

/**
 * Gives a LoadBalancer Service the addresses of the nodes: their service rules take what comes in
 * there at the Service's ports. With the Local policy only nodes with an endpoint count. A Service
 * that names another class, or that somebody else has given addresses, is left alone. Pure.
 *
 * Source: Service API, type LoadBalancer, loadBalancerClass.
 */
export function planBalancer(world: BalancerWorld): Plan {
  const { service } = world;
  const { spec, status } = service;
  const current = status?.loadBalancer?.ingress ?? [];
  const known = new Set(world.nodes.flatMap(addressesOf));
  const isAnothers = current.length > 0 && !current.some(({ ip }) => ip && known.has(ip));
  if (isAnothers) return { actions: [] };
  if (!isOurs(service)) {
    const isLeft = spec?.type !== 'LoadBalancer' && current.length > 0;
    return isLeft ? { actions: [withIngress(service, [])] } : { actions: [] };
  }
  const taken = conflict(world);
  const wanted = taken ? [] : ingressOf(world);
  const same = isDeepStrictEqual(
    current.map(({ ip }) => ip),
    wanted,
  );
  if (!taken) return { actions: same ? [] : [withIngress(service, wanted)] };
  const note = { type: 'Warning', reason: 'PortInUse', message: taken } as const;
  const said = { type: 'event', about: service, note } as const;
  return { actions: same ? [said] : [withIngress(service, wanted), said] };
}

function isOurs({ spec, metadata }: Service): boolean {
  if (spec?.type !== 'LoadBalancer' || metadata.deletionTimestamp) return false;
  return !spec.loadBalancerClass || spec.loadBalancerClass === NODE_ADDRESS_CLASS;
}

function withIngress(service: Service, addresses: readonly string[]) {
  const ingress = addresses.map((ip) => ({ ip, ipMode: 'VIP' }));
  const loadBalancer = ingress.length > 0 ? { ingress } : {};
  const object: Service = { ...service, status: { ...service.status, loadBalancer } };
  return { type: 'updateStatus', resource: services, object } as const;
}

/** Why this Service cannot have the nodes' addresses; the older one keeps a port. */
function conflict({ service, services: all, reserved }: BalancerWorld): string | undefined {
  const own = service.spec?.ports ?? [];
  const needed = own.find(({ port, protocol }) => isTcp(protocol) && reserved.includes(port));
  if (needed)
    return `the cluster itself listens on port ${needed.port} of the nodes; choose another`;
  for (const other of all) {
    if (!isOurs(other) || !isOlder(other, service)) continue;
    const both = own.find((port) => other.spec?.ports?.some((theirs) => samePort(port, theirs)));
    if (both) {
      const { namespace, name } = other.metadata;
      return `port ${both.port} of the nodes' addresses is that of ${namespace}/${name}`;
    }
  }
  return undefined;
}

type Port = { port: number; protocol?: string };
const isTcp = (protocol = 'TCP'): boolean => protocol === 'TCP';
const samePort = (a: Port, b: Port): boolean =>
  a.port === b.port && (a.protocol ?? 'TCP') === (b.protocol ?? 'TCP');

function isOlder({ metadata: a }: Service, { metadata: b }: Service): boolean {
  if (a.uid === b.uid) return false;
  const [first, second] = [String(a.creationTimestamp ?? ''), String(b.creationTimestamp ?? '')];
  return first === second ? (a.uid ?? '') < (b.uid ?? '') : first < second;
}

/** In an order that stays the same. */
function ingressOf({ service, nodes: list, slices }: BalancerWorld): string[] {
  const onlyLocal = service.spec?.externalTrafficPolicy === 'Local';
  const withEndpoints = new Set(
    slices
      .flatMap(({ endpoints }) => endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false)
      .map(({ nodeName }) => nodeName),
  );
  const families = service.spec?.ipFamilies ?? ['IPv4'];
  return list
    .filter((node) => takesTraffic(node) && (!onlyLocal || withEndpoints.has(node.metadata.name)))
    .flatMap(addressesOf)
    .filter((ip) => families.includes(ip.includes(':') ? 'IPv6' : 'IPv4'))
    .sort();
}

function takesTraffic({ metadata, status }: Node): boolean {
  if (metadata.deletionTimestamp || metadata.labels?.[EXCLUDED_LABEL] !== undefined) return false;
  return status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;
}

/** Those for the outside, if the node has such. */
function addressesOf({ status }: Node): string[] {
  const of = (type: string): string[] =>
    (status?.addresses ?? []).filter((one) => one.type === type).map(({ address }) => address);
  const outside = of('ExternalIP');
  return outside.length > 0 ? outside : of('InternalIP');
}

const byService = 'service-lb';

/** Balances by the nodes' own addresses; `--controllers=*,-service-lb-controller` leaves that to others. */
export const serviceLbController: ControllerDefinition = {
  name: 'service-lb-controller',
  async run(setup) {
    const serviceCache = setup.informers.of(services);
    const nodeCache = setup.informers.of(nodes);
    const sliceCache = setup.informers.of(endpointSlices, {
      indexes: {
        [byService]: ({ metadata }) => {
          const name = metadata.labels?.[SERVICE_NAME_LABEL];
          return name === undefined ? [] : [`${metadata.namespace}/${name}`];
        },
      },
    });
    await runController<BalancerWorld>(
      {
        name: 'service-lb-controller',
        caches: [
          cacheOf(services, serviceCache),
          cacheOf(nodes, nodeCache),
          cacheOf(endpointSlices, sliceCache),
        ],
        triggers(add) {
          const addAll = (): void => {
            for (const { metadata, spec } of serviceCache.list())
              if (spec?.type === 'LoadBalancer') add(`${metadata.namespace}/${metadata.name}`);
          };
          onSelf(serviceCache, add);
          // A port that becomes free is for whoever waits for it.
          serviceCache.onChange((change) => {
            if (change.type === 'deleted' && change.object.spec?.type === 'LoadBalancer') addAll();
            if (change.type !== 'updated' || change.old.spec?.type !== 'LoadBalancer') return;
            if (!isDeepStrictEqual(change.old.spec, change.object.spec)) addAll();
          });
          nodeCache.onChange((change) => {
            if (change.type !== 'updated' || mayMatter(change.old, change.object)) addAll();
          });
          sliceCache.onChange(({ object: { metadata } }) => {
            const name = metadata.labels?.[SERVICE_NAME_LABEL] ?? '';
            const service = serviceCache.get({ namespace: metadata.namespace ?? '', name });
            if (service?.spec?.externalTrafficPolicy === 'Local')
              add(`${metadata.namespace}/${name}`);
          });
        },
        observe(key) {
          const service = serviceCache.get(key);
          if (!service) return undefined;
          const slices = sliceCache.byIndex(byService, `${key.namespace}/${key.name}`);
          const api = sliceCache.byIndex(byService, 'default/kubernetes');
          return {
            service,
            nodes: nodeCache.list(),
            slices,
            services: serviceCache.list(),
            reserved: reservedPorts(nodeCache.list(), api),
          };
        },
        plan: planBalancer,
      },
      { ...setup, recorder: setup.recorderOf('service-lb-controller') },
    );
  },
};

/** Those of the node agents and of the API server, which often has a node's address. */
function reservedPorts(list: readonly Node[], api: readonly EndpointSlice[]): number[] {
  const agents = list.map(({ status }) => status?.daemonEndpoints?.kubeletEndpoint?.Port);
  const servers = api.flatMap(({ ports }) => (ports ?? []).map(({ port }) => port));
  return [...new Set([...agents, ...servers])].filter((port) => port != null);
}

/** Heartbeats do not. */
function mayMatter(before: Node, after: Node): boolean {
  return (
    takesTraffic(before) !== takesTraffic(after) ||
    !isDeepStrictEqual(before.status?.addresses, after.status?.addresses)
  );
}
