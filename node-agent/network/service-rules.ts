import { createHash } from 'node:crypto';
import type { EndpointSlice, Service, ServicePort } from '#api/types.ts';
import { emptyRuleset, type Ruleset } from './ruleset.ts';
import { portTargets, type Target, type Targets } from './service-endpoints.ts';
import { familyWords, MARK, type NodeFacts } from './service-table.ts';

/** A container port that a pod of this node wants at the node's own address. */
export type HostPort = {
  protocol: 'TCP' | 'UDP' | 'SCTP';
  port: number;
  /** '' for every address of the node. */
  hostIp: string;
  target: Target;
};

export type ServiceRulesInput = {
  services: readonly Service[];
  slices: readonly EndpointSlice[];
  hostPorts: readonly HostPort[];
  node: NodeFacts;
};

/** The label by which a slice names its Service. */
export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

/** Services and slices that a node's proxy leaves alone: another proxy's, and headless ones. */
const LEFT_ALONE = ['service.kubernetes.io/service-proxy-name', 'service.kubernetes.io/headless'];

const isOurs = ({ metadata: { labels } }: Service | EndpointSlice): boolean =>
  labels === undefined || LEFT_ALONE.every((label) => labels[label] === undefined);

/** Affinity when a Service asks for it without saying for how long. Source: Service API. */
const DEFAULT_AFFINITY_SECONDS = 10_800;
/** nft's names end at 128 bytes; the hash in front keeps shortened ones apart. */
const MAX_NAME = 120;

/**
 * The rules that Services had the last time, one cache per node and family: objects are never changed
 * in place, so the same Service with the same slices has the same rules.
 */
export type ServiceRulesCache = WeakMap<
  Service,
  { of: string; slices: readonly EndpointSlice[]; rules: Ruleset }
>;

/**
 * The rules of one node for all Services: the whole of what a service proxy decides. Headless
 * and ExternalName Services have none (DNS answers for them).
 *
 * Source: Service API (virtual IPs, traffic policies, session affinity).
 */
export function serviceRules(
  input: ServiceRulesInput,
  cache: ServiceRulesCache = new WeakMap(),
): Ruleset {
  const { services, hostPorts, node } = input;
  const slices = input.slices.filter(isOurs);
  const of = JSON.stringify(node);
  const byService = new Map<string, EndpointSlice[]>();
  for (const slice of slices) {
    const key = `${slice.metadata.namespace}/${slice.metadata.labels?.[SERVICE_NAME_LABEL]}`;
    const list = byService.get(key);
    if (list) list.push(slice);
    else byService.set(key, [slice]);
  }
  const rules = emptyRuleset();
  const add = elementAdder(rules);
  for (const service of services) {
    if (!isOurs(service)) continue;
    const own = byService.get(`${service.metadata.namespace}/${service.metadata.name}`) ?? [];
    let known = cache.get(service);
    if (known?.of !== of || !sameObjects(known.slices, own)) {
      known = { of, slices: own, rules: emptyRuleset() };
      addService(known.rules, service, own, node);
      cache.set(service, known);
    }
    addAll(rules, known.rules);
  }
  addDns(rules, node);
  for (const slice of slices) addHairpins(rules, slice, node);
  for (const { protocol, port, hostIp, target } of hostPorts) {
    const key = `${protocol.toLowerCase()} . ${port}`;
    const data = `${target.address} . ${target.port}`;
    if (hostIp === '') add('host-ports', key, data);
    else add('host-ip-ports', `${hostIp} . ${key}`, data);
    add('hairpin', `${target.address} . ${target.address}`, '');
  }
  return rules;
}

const sameObjects = (a: readonly object[], b: readonly object[]): boolean =>
  a.length === b.length && a.every((one, index) => one === b[index]);

function addAll(rules: Ruleset, { chains, elements, sets, datagrams }: Ruleset): void {
  const add = elementAdder(rules);
  for (const [name, chain] of chains) rules.chains.set(name, chain);
  for (const [map, entries] of elements) for (const [key, value] of entries) add(map, key, value);
  for (const [name, declaration] of sets) rules.sets.set(name, declaration);
  for (const [entry, targets] of datagrams) rules.datagrams.set(entry, targets);
}

function elementAdder(rules: Ruleset): (map: string, key: string, value: string) => void {
  return (map, key, value) => {
    const elements = rules.elements.get(map);
    if (!elements) rules.elements.set(map, new Map([[key, value]]));
    // The first that claims an address and port keeps it: two Services may name one external IP.
    else if (!elements.has(key)) elements.set(key, value);
  };
}

/** A local pod that reaches itself through a Service must see an address that is not its own. */
function addHairpins(rules: Ruleset, slice: EndpointSlice, node: NodeFacts): void {
  if (slice.addressType !== node.family) return;
  const add = elementAdder(rules);
  for (const { addresses, nodeName } of slice.endpoints ?? []) {
    const address = addresses[0];
    if (nodeName === node.nodeName && address) add('hairpin', `${address} . ${address}`, '');
  }
}

/** Until (or unless) the DNS Service has endpoints of its own, the node answers. */
function addDns(rules: Ruleset, node: NodeFacts): void {
  if (!node.dns) return;
  const { clusterIp, address, port } = node.dns;
  for (const protocol of ['udp', 'tcp']) {
    const key = `${clusterIp} . ${protocol} . 53`;
    if (rules.elements.get('service-ips')?.has(key)) continue;
    const chain = `dns-${protocol}`;
    rules.chains.set(chain, [dnatRule([{ address, port }], protocol, node)]);
    elementAdder(rules)('service-ips', key, `goto ${chain}`);
    rules.elements.get('no-endpoint-ips')?.delete(key);
  }
}

function addService(
  rules: Ruleset,
  service: Service,
  slices: readonly EndpointSlice[],
  node: NodeFacts,
): void {
  const spec = service.spec ?? {};
  if (spec.type === 'ExternalName' || spec.clusterIP === 'None' || !spec.clusterIP) return;
  for (const port of spec.ports ?? []) {
    const targets = portTargets(port, slices, node);
    addPort(rules, { service, port, targets, node, id: portId(service, port) });
  }
}

type PortContext = {
  service: Service;
  port: ServicePort;
  targets: Targets;
  node: NodeFacts;
  id: string;
};

function portId(service: Service, port: ServicePort): string {
  const { namespace, name } = service.metadata;
  const protocol = (port.protocol ?? 'TCP').toLowerCase();
  const full = `${namespace}/${name}/${protocol}/${port.name ?? port.port}`;
  const hash = createHash('sha1').update(full).digest('hex').slice(0, 8);
  return `${hash}-${full}`.slice(0, MAX_NAME - 'svc-'.length);
}

function addPort(rules: Ruleset, context: PortContext): void {
  const { service, port, targets, node, id } = context;
  const add = elementAdder(rules);
  const spec = service.spec ?? {};
  const protocol = (port.protocol ?? 'TCP').toLowerCase();
  const key = (address: string): string => `${address} . ${protocol} . ${port.port}`;
  const refusal = targets.cluster.length === 0 ? 'goto refuse' : 'goto discard';

  const internal = spec.internalTrafficPolicy === 'Local' ? 'loc' : 'svc';
  const internalTargets = internal === 'loc' ? targets.local : targets.cluster;
  for (const address of addressesOf(spec.clusterIPs ?? [spec.clusterIP ?? ''], node)) {
    noteDatagrams(rules, context, address, port.port, internalTargets);
    if (internalTargets.length > 0) add('service-ips', key(address), `goto ${internal}-${id}`);
    else add('no-endpoint-ips', key(address), refusal);
  }
  if (internal === 'loc' && targets.local.length > 0) addPickChain(rules, 'loc', context);
  if (targets.cluster.length > 0) addPickChain(rules, 'svc', context);

  const balancer = (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip, ipMode }) =>
    ip && ipMode !== 'Proxy' ? [ip] : [],
  );
  const outside = {
    external: addressesOf(spec.externalIPs ?? [], node),
    balancer: addressesOf(balancer, node),
  };
  if (outside.external.length + outside.balancer.length === 0 && !port.nodePort) return;
  addExternal(rules, context, outside, { key, refusal, protocol });
}

/** Entries for what comes in at external addresses and at the node port. */
function addExternal(
  rules: Ruleset,
  context: PortContext,
  outside: { external: string[]; balancer: string[] },
  words: { key: (address: string) => string; refusal: string; protocol: string },
): void {
  const { service, port, targets, node, id } = context;
  const { key, refusal, protocol } = words;
  const { ip } = familyWords(node.family);
  const spec = service.spec ?? {};
  const add = elementAdder(rules);
  const onlyLocal = spec.externalTrafficPolicy === 'Local';
  if (targets.cluster.length > 0) {
    if (!onlyLocal) {
      rules.chains.set(`ext-${id}`, [MARK, `goto svc-${id}`]);
    } else {
      if (targets.local.length > 0) addPickChain(rules, 'loc', context);
      rules.chains.set(`ext-${id}`, [
        // Inside the cluster nothing is gained from staying on a node.
        `${ip} saddr ${node.clusterCidr} goto svc-${id}`,
        `fib saddr type local ${MARK} goto svc-${id}`,
        ...(targets.local.length > 0 ? [`goto loc-${id}`] : []),
      ]);
    }
  }
  const ranges = addressesOf(spec.loadBalancerSourceRanges ?? [], node);
  const balancerChain = ranges.length > 0 && targets.cluster.length > 0 ? `src-${id}` : `ext-${id}`;
  if (balancerChain.startsWith('src-'))
    rules.chains.set(balancerChain, [
      `${ip} saddr != { ${ranges.join(', ')} } drop`,
      `goto ext-${id}`,
    ]);
  const route = (map: string, empty: string, element: string, chain: string): void => {
    if (targets.cluster.length > 0) add(map, element, `goto ${chain}`);
    if ((onlyLocal ? targets.local : targets.cluster).length === 0) add(empty, element, refusal);
  };
  for (const address of [...outside.external, ...outside.balancer])
    noteDatagrams(rules, context, address, port.port, targets.cluster);
  if (port.nodePort) noteDatagrams(rules, context, '', port.nodePort, targets.cluster);
  for (const address of outside.external)
    route('service-ips', 'no-endpoint-ips', key(address), `ext-${id}`);
  for (const address of outside.balancer)
    route('service-ips', 'no-endpoint-ips', key(address), balancerChain);
  if (port.nodePort) {
    const element = `${protocol} . ${port.nodePort}`;
    route('service-nodeports', 'no-endpoint-nodeports', element, `ext-${id}`);
  }
}

function noteDatagrams(
  rules: Ruleset,
  { port: { protocol } }: PortContext,
  address: string,
  port: number,
  targets: readonly Target[],
): void {
  if (protocol !== 'UDP') return;
  const addresses = targets.map((target) => target.address);
  rules.datagrams.set(`${address} ${port}`, addresses);
}

/** The chain that chooses a target: by chance, or the one that the client had before. */
function addPickChain(rules: Ruleset, kind: 'svc' | 'loc', context: PortContext): void {
  const { service, port, targets, node, id } = context;
  const { ip, address } = familyWords(node.family);
  const chosen = kind === 'svc' ? targets.cluster : targets.local;
  const protocol = (port.protocol ?? 'TCP').toLowerCase();
  // Whoever is no pod is answered by way of this node.
  const start = kind === 'svc' ? [`${ip} saddr != ${node.clusterCidr} ${MARK}`] : [];
  if (service.spec?.sessionAffinity !== 'ClientIP') {
    rules.chains.set(`${kind}-${id}`, [...start, dnatRule(chosen, protocol, node)]);
    return;
  }
  const { timeoutSeconds = DEFAULT_AFFINITY_SECONDS } =
    service.spec.sessionAffinityConfig?.clientIP ?? {};
  const declaration = `type ${address}; flags dynamic,timeout; timeout ${timeoutSeconds}s;`;
  const members = chosen.map((target) => {
    // A set's timeout is part of its name, because it cannot change while rules use the set.
    const hash = createHash('sha1')
      .update(`${id} ${timeoutSeconds} ${target.address}`)
      .digest('hex');
    const readable = target.address.replaceAll(':', '-');
    return { target, suffix: `${hash.slice(0, 8)}-${readable}/${target.port}` };
  });
  for (const { target, suffix } of members) {
    rules.sets.set(`aff-${suffix}`, declaration);
    rules.chains.set(`end-${suffix}`, [
      `update @aff-${suffix} { ${ip} saddr }`,
      dnatRule([target], protocol, node),
    ]);
  }
  const known = members.map(({ suffix }) => `${ip} saddr @aff-${suffix} goto end-${suffix}`);
  const verdicts = members.map(({ suffix }, i) => `${i} : goto end-${suffix}`).join(', ');
  const choice = `numgen random mod ${members.length} vmap { ${verdicts} }`;
  rules.chains.set(`${kind}-${id}`, [...start, ...known, choice]);
}

function dnatRule(targets: readonly Target[], protocol: string, node: NodeFacts): string {
  const { ip } = familyWords(node.family);
  const [only] = targets;
  if (targets.length === 1 && only) {
    const address = ip === 'ip' ? only.address : `[${only.address}]`;
    return `meta l4proto ${protocol} dnat to ${address}:${only.port}`;
  }
  const entries = targets.map(({ address, port }, i) => `${i} : ${address} . ${port}`).join(', ');
  const random = `numgen random mod ${targets.length}`;
  return `meta l4proto ${protocol} dnat ${ip} addr . port to ${random} map { ${entries} }`;
}

/** Those addresses (or CIDRs) that belong to the family at hand. */
function addressesOf(addresses: readonly string[], { family }: NodeFacts): string[] {
  return addresses.filter(
    (address) => address !== '' && address.includes(':') === (family === 'IPv6'),
  );
}
