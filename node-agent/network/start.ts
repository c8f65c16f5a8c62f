import { join } from 'node:path';
import { backoffMs } from '#base/backoff.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import { orAborted, type Running, runTogether } from '#base/running.ts';
import type { Pod } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { endpointSlices, nodes, pods, services } from '#client/resources.ts';
import { byFamily, type Family, familyOf, gatewayOf } from './addresses.ts';
import { writeCniConfig } from './cni.ts';
import { forgetFlows, staleFlows } from './conntrack.ts';
import { createForwarder } from './dns/forward.ts';
import { type DnsServerOptions, startDnsServer } from './dns/server.ts';
import { informerView } from './dns/view.ts';
import { createHealthServers, healthPorts, joinHealthPorts } from './health-ports.ts';
import { hostPortsOf, wantsHostPorts } from './host-ports.ts';
import { createNftWriter, type NftWriter, removeTable } from './nft-writer.ts';
import { applyRoutes, removeRoutes, type RoutesConfig, wantedRoutes } from './node-routes.ts';
import { mtuOf, prepareNode, removeBridge } from './node-setup.ts';
import { createRulesClock, proxyHealth, serveProxyHealth } from './proxy-health.ts';
import { policyRules } from './policy-rules.ts';
import { watchPolicies } from './policy-watch.ts';
import { joinRulesets, type TableName } from './ruleset.ts';
import { serviceRules, type ServiceRulesCache } from './service-rules.ts';
import { familyWords, type NodeFacts, tableSkeleton } from './service-table.ts';

/** Changes that come together are written together: a rolling update comes in bursts. */
const GATHER_MS = 10;
/** How often a look is taken whether our table and routes are still there. */
const VERIFY_MS = 60_000;
const DNS_PORT = 53;
const ZONE_LABEL = 'topology.kubernetes.io/zone';
const RETRY = { initialMs: 500, maxMs: 30_000 };
const DEFAULT_NAME = 'gantry';

export type NetworkConfig = {
  informers: Informers;
  nodeName: string;
  nodeIp: string;
  /** This and the two below: one network, or one per family: `10.244.0.0/24,fd00:10:244::/64`. */
  podCidr: string;
  clusterCidr: string;
  serviceCidr: string;
  clusterDnsIp: string;
  clusterDomain: string;
  cniConfDir: string;
  /** The agent's own folder; the addresses in use are remembered below it. */
  rootDir: string;
  /** Where questions about the rest of the world go, usually /etc/resolv.conf. */
  upstreamResolvConf: string;
  /** Of the nftables table; the bridge is this and a 0. Default `gantry`. */
  name?: string;
  /** Where load balancers ask whether traffic of Services may come here; 0: nowhere. */
  proxyHealthPort?: number;
};

/**
 * The network of one node: the pods' bridge and its CNI configuration, rules for all Services, host
 * ports and network policies, and the cluster's DNS. `ready` resolves when all of it works. What stands in the
 * kernel stays when `signal` aborts, so that pods are reachable while an agent restarts;
 * `removeNetwork` takes it away.
 */
export async function startNetwork(
  config: NetworkConfig,
  {
    signal,
    log = silentLog,
    clock = systemClock,
  }: { signal: AbortSignal; log?: Log; clock?: Clock },
): Promise<Running & { ready: Promise<void> }> {
  const { informers, nodeName, clusterCidr, serviceCidr, name = DEFAULT_NAME } = config;
  const bridge = `${name}0`;
  const podCidrs = usedRanges(config);
  const serviceCidrs = serviceCidr.split(',');
  const gateway = gatewayOf(podCidrs[0] ?? '').address;
  const mtu = await mtuOf(config.nodeIp);
  await prepareNode({ bridge, podCidrs, serviceCidrs, mtu }, log);
  const addressDir = join(config.rootDir, 'pod-addresses');
  writeCniConfig(config.cniConfDir, { bridge, podCidrs, mtu, addressDir });

  const ownAddresses = [config.clusterDnsIp, gateway];
  const resolvConf = config.upstreamResolvConf;
  const forwarder = createForwarder({ resolvConf, ownAddresses, clock });
  const ownNetworks = [...clusterCidr.split(','), ...serviceCidrs];
  const view = informerView(informers, { domain: config.clusterDomain, ownNetworks });
  const dns = await startDns({ view, forwarder, address: gateway }, { signal, log });

  const where = { clusterIp: config.clusterDnsIp, address: gateway, port: dns.port };
  const families = nodeFacts(
    { ...config, podCidr: podCidrs.join(',') },
    { bridge, dns: where },
  ).map((node): FamilyRules => {
    const skeleton = tableSkeleton(node);
    const table = tableOf(name, node.family);
    const writer = createNftWriter({ table, skeleton, command: ['nft'], log });
    return { node, writer, cache: new WeakMap() };
  });
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  const way = { name, own: { podCidrs, nodeIp: config.nodeIp, clusterCidr, mtu } };
  const around = { informers, nodeName, log, clock };
  const { proxyHealthPort = 0 } = config;
  const context: Context = {
    ...around,
    way,
    families,
    onReady: ready.resolve,
    proxyHealthPort,
  };
  const running = runTogether(signal, [
    (until) => keepRules(context, until),
    (until) => keepTable(context, until),
    (until) => keepRoutes(context, until),
    () => dns.done,
  ]);
  running.done.then(
    () => ready.reject(signal.reason ?? new Error('the network stopped')),
    ready.reject,
  );
  return { ...running, ready: ready.promise };
}

/**
 * On the usual port if it is free, so that rules from before a restart of the agent still lead to
 * it; else (a name server of the machine's own holds the port on all addresses) on any.
 */
async function startDns(
  options: DnsServerOptions,
  context: { signal: AbortSignal; log: Log },
): Promise<Running & { port: number }> {
  try {
    return await startDnsServer({ ...options, port: DNS_PORT }, context);
  } catch (error) {
    context.log.info('port 53 is taken; serving DNS on another', { error: errorText(error) });
    return await startDnsServer(options, context);
  }
}

/** The node's ranges of those families that the cluster has: an earlier start may have had more. */
export function usedRanges({
  podCidr,
  clusterCidr,
}: Pick<NetworkConfig, 'podCidr' | 'clusterCidr'>): string[] {
  const families = byFamily(clusterCidr);
  const used = podCidr.split(',').filter((range) => families[familyOf(range)] !== undefined);
  if (used.length > 0) return used;
  throw new Error(
    `this node has the pod range ${podCidr}, of no family of --cluster-cidr ${clusterCidr}; ` +
      'delete the Node object, and it gets another',
  );
}

/** What the rules of each family depend on: those of which the node has pods. */
function nodeFacts(
  { nodeName, podCidr, clusterCidr, serviceCidr }: NetworkConfig,
  { bridge, dns }: { bridge: string; dns: NonNullable<NodeFacts['dns']> },
): NodeFacts[] {
  const [pods, clusters, services] = [podCidr, clusterCidr, serviceCidr].map(byFamily);
  return podCidr.split(',').map((own) => {
    const family = familyOf(own);
    const cluster = clusters?.[family] ?? own;
    const ofServices = services?.[family];
    if (!ofServices)
      throw new Error(`pods have addresses of ${family} (${own}), and --service-cidr has none`);
    return {
      nodeName,
      zone: '', // follows the Node object
      family,
      clusterCidr: cluster,
      podCidr: pods?.[family] ?? own,
      serviceCidr: ofServices,
      bridge,
      ...(family === familyOf(dns.address) ? { dns } : {}),
    };
  });
}

/** Takes away what `startNetwork` put into the kernel. For a clean stop; idempotent. */
export async function removeNetwork(name: string = DEFAULT_NAME): Promise<void> {
  await removeTable(['nft'], tableOf(name, 'IPv4'));
  await removeTable(['nft'], tableOf(name, 'IPv6')).catch(() => {
    // A kernel without IPv6 has no such tables.
  });
  await removeRoutes(name);
  await removeBridge(`${name}0`);
}

const tableOf = (name: string, family: Family): TableName => ({
  family: familyWords(family).ip,
  name,
});

/** The table of one family. */
type FamilyRules = { node: NodeFacts; writer: NftWriter; cache: ServiceRulesCache };

type Context = {
  way: RoutesConfig;
  /** Last written. */
  routes?: ReadonlyMap<string, string>;
  informers: Informers;
  nodeName: string;
  families: readonly FamilyRules[];
  log: Log;
  clock: Clock;
  onReady: () => void;
  proxyHealthPort: number;
};

/** Writes the rules after every change, until `signal`. */
async function keepRules(context: Context, signal: AbortSignal): Promise<void> {
  const { informers, nodeName, families, log, clock } = context;
  const serviceInformer = informers.of(services);
  const sliceInformer = informers.of(endpointSlices);
  const podInformer: Informer<Pod> = informers.of(pods, {
    fieldSelector: `spec.nodeName=${nodeName}`,
  });
  const changes = changeSignal(signal);
  const rulesClock = createRulesClock(clock);
  const changed = (): void => {
    rulesClock.pending();
    changes.notify();
  };
  serviceInformer.onChange(changed);
  sliceInformer.onChange(changed);
  podInformer.onChange((change) => {
    const before = change.type === 'updated' && wantsHostPorts(change.old);
    if (before || wantsHostPorts(change.object)) changed();
  });
  const nodeInformer = informers.of(nodes);
  const zoneNow = (): string =>
    nodeInformer.get({ name: nodeName })?.metadata.labels?.[ZONE_LABEL] ?? '';
  let zone = '';
  nodeInformer.onChange(({ object: { metadata } }) => {
    if (metadata.name === nodeName && zoneNow() !== zone) changed();
  });
  const policies = watchPolicies(informers, changed);
  const known = [serviceInformer.synced(), sliceInformer.synced(), podInformer.synced()];
  await orAborted(Promise.all([...known, policies.synced()]), signal);
  const healthServers = createHealthServers(log);
  const { proxyHealthPort } = context;
  const health = (path: string) =>
    proxyHealth(path, rulesClock.state(), nodeInformer.get({ name: nodeName }), clock.now());
  const proxy = proxyHealthPort ? serveProxyHealth(proxyHealthPort, health, log) : undefined;
  const close = (): void => {
    healthServers.close();
    proxy?.close();
    proxy?.closeAllConnections();
  };
  signal.addEventListener('abort', close, { once: true });
  for (let failures = 0; !signal.aborted; ) {
    changes.reset();
    rulesClock.begin();
    zone = zoneNow();
    try {
      for (const { node, writer, cache } of families) {
        const input = {
          node: { ...node, zone },
          services: serviceInformer.list(),
          slices: sliceInformer.list(),
          hostPorts: hostPortsOf(podInformer.list(), node.family),
        };
        const ofServices = serviceRules(input, cache);
        const rules = joinRulesets(ofServices, policyRules({ node, ...policies.objects() }));
        const { commands, whole, before } = await writer.apply(rules);
        if (!whole) await forgetFlows(staleFlows(before, rules), log);
        if (commands > 0) log.debug('wrote rules', { family: node.family, commands, whole });
      }
      const slices = sliceInformer.list();
      const servers = families.map(({ node }) => healthPorts(serviceInformer.list(), slices, node));
      healthServers.update(joinHealthPorts(servers));
      failures = 0;
      rulesClock.written();
      context.onReady();
    } catch (error) {
      failures += 1;
      log.error('cannot write the rules of Services and policies', {
        error: errorText(error),
        failures,
      });
      await clock.sleep(backoffMs(failures, RETRY), { signal });
      continue;
    }
    await changes.next();
    await clock.sleep(GATHER_MS, { signal });
  }
}

/** Puts back the table and the routes when somebody flushed those of the whole machine. */
async function keepTable(context: Context, signal: AbortSignal): Promise<void> {
  const { families, log, clock } = context;
  while (!signal.aborted) {
    await clock.sleep(VERIFY_MS, { signal });
    try {
      for (const { writer } of families) await writer.verify();
      if (context.routes) await applyRoutes(context.way, context.routes);
    } catch (error) {
      log.error('cannot restore rules or routes', { error: errorText(error) });
    }
  }
}

/** Routes to the pods of the other nodes. */
async function keepRoutes(context: Context, signal: AbortSignal): Promise<void> {
  const { way, informers, nodeName, log, clock } = context;
  const nodeInformer = informers.of(nodes);
  const changes = changeSignal(signal);
  nodeInformer.onChange(changes.notify);
  await orAborted(nodeInformer.synced(), signal);
  let written: string | undefined;
  for (let failures = 0; !signal.aborted; ) {
    changes.reset();
    const wanted = wantedRoutes(nodeInformer.list(), nodeName, way.own.podCidrs);
    const text = JSON.stringify([...wanted].sort(([a], [b]) => (a < b ? -1 : 1)));
    try {
      // Nodes change at every heartbeat, their addresses hardly ever.
      if (text !== written && (await applyRoutes(way, wanted)) > 0)
        log.info('wrote node routes', { text });
      written = text;
      context.routes = wanted;
      failures = 0;
    } catch (error) {
      failures += 1;
      log.error('cannot reach the pods of a node', { error: errorText(error), failures });
      await clock.sleep(backoffMs(failures, RETRY), { signal });
      continue;
    }
    await changes.next();
    await clock.sleep(GATHER_MS, { signal });
  }
}

/** A flag that can be waited for; setting it twice is setting it once. */
function changeSignal(signal: AbortSignal): {
  notify: () => void;
  reset: () => void;
  next: () => Promise<void>;
} {
  let current = Promise.withResolvers<void>();
  return {
    notify: () => current.resolve(),
    reset: () => {
      current = Promise.withResolvers<void>();
    },
    next: () => orAborted(current.promise, signal),
  };
}
