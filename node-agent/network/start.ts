import { join } from 'node:path';
import { backoffMs } from '#base/backoff.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import { type Running, runTogether } from '#base/running.ts';
import type { Pod } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { endpointSlices, nodes, pods, services } from '#client/resources.ts';
import { gatewayOf } from './addresses.ts';
import { writeCniConfig } from './cni.ts';
import { forgetFlows, staleFlows } from './conntrack.ts';
import { createForwarder } from './dns/forward.ts';
import { type DnsServerOptions, startDnsServer } from './dns/server.ts';
import { informerView } from './dns/view.ts';
import { createHealthServers, healthPorts } from './health-ports.ts';
import { hostPortsOf } from './host-ports.ts';
import { createNftWriter, type NftWriter, removeTable } from './nft-writer.ts';
import { applyRoutes, removeRoutes, type RoutesConfig, wantedRoutes } from './node-routes.ts';
import { mtuOf, prepareNode, removeBridge } from './node-setup.ts';
import { policyRules } from './policy-rules.ts';
import { watchPolicies } from './policy-watch.ts';
import { joinRulesets } from './ruleset.ts';
import { serviceRules } from './service-rules.ts';
import { type NodeFacts, tableSkeleton } from './service-table.ts';

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
  const { informers, nodeName, podCidr, clusterCidr, serviceCidr, name = DEFAULT_NAME } = config;
  const bridge = `${name}0`;
  const gateway = gatewayOf(podCidr).address;
  const mtu = await mtuOf(config.nodeIp);
  await prepareNode({ bridge, podCidr, serviceCidr, mtu }, log);
  const addressDir = join(config.rootDir, 'pod-addresses');
  writeCniConfig(config.cniConfDir, { bridge, podCidr, mtu, addressDir });

  const ownAddresses = [config.clusterDnsIp, gateway];
  const resolvConf = config.upstreamResolvConf;
  const forwarder = createForwarder({ resolvConf, ownAddresses, clock });
  const ownNetworks = [clusterCidr, serviceCidr];
  const view = informerView(informers, { domain: config.clusterDomain, ownNetworks });
  const dns = await startDns({ view, forwarder, address: gateway }, { signal, log });

  const node: NodeFacts = {
    nodeName,
    zone: '', // follows the Node object
    family: 'IPv4',
    clusterCidr,
    podCidr,
    serviceCidr,
    bridge,
    dns: { clusterIp: config.clusterDnsIp, address: gateway, port: dns.port },
  };
  const skeleton = tableSkeleton(node);
  const writer = createNftWriter({ table: tableOf(name), skeleton, command: ['nft'], log });
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  const way = { name, own: { podCidr, nodeIp: config.nodeIp, clusterCidr, mtu } };
  const context: Context = { way, informers, node, writer, log, clock, onReady: ready.resolve };
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

/** Takes away what `startNetwork` put into the kernel. For a clean stop; idempotent. */
export async function removeNetwork(name: string = DEFAULT_NAME): Promise<void> {
  await removeTable(['nft'], tableOf(name));
  await removeRoutes(name);
  await removeBridge(`${name}0`);
}

function tableOf(name: string): { family: 'ip'; name: string } {
  return { family: 'ip', name };
}

type Context = {
  way: RoutesConfig;
  /** Last written. */
  routes?: ReadonlyMap<string, string>;
  informers: Informers;
  node: NodeFacts;
  writer: NftWriter;
  log: Log;
  clock: Clock;
  onReady: () => void;
};

/** Writes the rules after every change, until `signal`. */
async function keepRules(context: Context, signal: AbortSignal): Promise<void> {
  const { informers, node, writer, log, clock } = context;
  const serviceInformer = informers.of(services);
  const sliceInformer = informers.of(endpointSlices);
  const podInformer: Informer<Pod> = informers.of(pods, {
    fieldSelector: `spec.nodeName=${node.nodeName}`,
  });
  const changes = changeSignal(signal);
  serviceInformer.onChange(changes.notify);
  sliceInformer.onChange(changes.notify);
  podInformer.onChange((change) => {
    const before = change.type === 'updated' ? hostPortsOf([change.old]) : [];
    if (hostPortsOf([change.object]).length + before.length > 0) changes.notify();
  });
  let written = node;
  const nodeInformer = informers.of(nodes);
  const facts = (): NodeFacts => ({
    ...node,
    zone: nodeInformer.get({ name: node.nodeName })?.metadata.labels?.[ZONE_LABEL] ?? '',
  });
  nodeInformer.onChange(({ object: { metadata } }) => {
    if (metadata.name === node.nodeName && facts().zone !== written.zone) changes.notify();
  });
  const policies = watchPolicies(informers, changes.notify);
  const known = [serviceInformer.synced(), sliceInformer.synced(), podInformer.synced()];
  await untilAborted(Promise.all([...known, policies.synced()]), signal);
  const healthServers = createHealthServers(log);
  signal.addEventListener('abort', () => healthServers.close(), { once: true });
  for (let failures = 0; !signal.aborted; ) {
    changes.reset();
    written = facts();
    const ofServices = serviceRules({
      node: written,
      services: serviceInformer.list(),
      slices: sliceInformer.list(),
      hostPorts: hostPortsOf(podInformer.list()),
    });
    const rules = joinRulesets(ofServices, policyRules({ node, ...policies.objects() }));
    try {
      const { commands, whole, before } = await writer.apply(rules);
      if (!whole) await forgetFlows(staleFlows(before, rules), log);
      if (commands > 0) log.debug('wrote rules', { commands, whole });
      healthServers.update(healthPorts(serviceInformer.list(), sliceInformer.list(), node));
      failures = 0;
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
  const { writer, log, clock } = context;
  while (!signal.aborted) {
    await clock.sleep(VERIFY_MS, { signal });
    try {
      await writer.verify();
      if (context.routes) await applyRoutes(context.way, context.routes);
    } catch (error) {
      log.error('cannot restore rules or routes', { error: errorText(error) });
    }
  }
}

/** Routes to the pods of the other nodes. */
async function keepRoutes(context: Context, signal: AbortSignal): Promise<void> {
  const { way, informers, node, log, clock } = context;
  const nodeInformer = informers.of(nodes);
  const changes = changeSignal(signal);
  nodeInformer.onChange(changes.notify);
  await untilAborted(nodeInformer.synced(), signal);
  let written: string | undefined;
  for (let failures = 0; !signal.aborted; ) {
    changes.reset();
    const wanted = wantedRoutes(nodeInformer.list(), node.nodeName);
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
    next: () => untilAborted(current.promise, signal),
  };
}

async function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
