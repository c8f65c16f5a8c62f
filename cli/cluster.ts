import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { defaultAddress, urlHost } from '#base/default-address.ts';
import { systemClock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { orAborted, runTogether, untilAborted } from '#base/running.ts';
import { parseDuration } from '#api/time.ts';
import type { ApiServer, ApiServerConfig } from '#apiserver/start.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { type Door, inProcessTransport } from '#client/in-process-transport.ts';
import { clusterDnsIp } from '#cli/cluster-dns.ts';
import { paths, readSettings, removeRecord, writeRecord, writeSettings } from '#cli/data-dir.ts';
import { startTicks } from '#cli/process.ts';
import { publishSettings } from '#cli/joining-objects.ts';
import { claimNetwork, releaseNetwork } from '#cli/network-claim.ts';
import type { ProgressMessage } from '#cli/progress.ts';
import { UserError } from '#cli/verb.ts';

/** Flags of `gantry up`, as the command line gives them. */
export type ClusterFlags = {
  securePort: string;
  kubeletPort: string;
  nodeName?: string;
  nodeIp?: string;
  containerRuntimeEndpoint?: string;
  etcdServers?: string;
  clusterCidr: string;
  serviceClusterIpRange: string;
  schedulingProfile: string;
  clusterSigningDuration?: string;
  networkName: string;
  microvms: string;
  imageCredentialProviderConfig?: string;
  imageCredentialProviderBinDir?: string;
  /** As many as at the last start when absent. */
  nodes?: string;
  nodeNetwork?: string;
};

/** A whole cluster on one machine: what its components are started with. */
export type ClusterConfig = {
  dataDir: string;
  securePort: number;
  agentPort: number;
  nodeName: string;
  /** Where others reach this machine. */
  nodeIp: string;
  /** That address, and perhaps one of the other family, with a comma between. */
  nodeIps: string;
  runtimeEndpoint?: string;
  etcdServers?: string[];
  clusterCidr: string;
  serviceCidr: string;
  schedulingProfile: 'pack' | 'spread';
  /** Longest life of the certificates that joining nodes get. */
  signingDurationMs: number | undefined;
  /** Names the pods' bridge and the nftables table: two clusters on one machine need two names. */
  networkName: string;
  /** `auto`: pods of the class `microvm` run where the machine can. */
  microvms: 'auto' | 'off';
  /** Programs that give pull credentials: their configuration and folder. */
  imageCredentialProviders?: { configFile: string; binDir: string };
  /** How many nodes this machine plays. */
  nodes: number;
  /** A /24 of which the nodes besides the first have their addresses. */
  nodeNetwork: string;
};

export function clusterConfig(
  dataDir: string,
  flags: ClusterFlags,
  env: Record<string, string | undefined>,
): ClusterConfig {
  const profile = flags.schedulingProfile;
  if (profile !== 'pack' && profile !== 'spread') {
    throw new UserError(`--scheduling-profile is pack or spread, not "${profile}"`);
  }
  const { microvms } = flags;
  if (microvms !== 'auto' && microvms !== 'off')
    throw new UserError(`--microvms is auto or off, not "${microvms}"`);
  return {
    dataDir,
    microvms,
    securePort: port(flags.securePort, '--secure-port'),
    agentPort: port(flags.kubeletPort, '--kubelet-port'),
    nodeName: flags.nodeName ?? (env['GANTRY_NODE_NAME'] || hostname().toLowerCase()),
    ...addresses(flags.nodeIp ?? defaultNodeIp(firstFamily(flags.clusterCidr)), flags),
    ...(flags.containerRuntimeEndpoint ? { runtimeEndpoint: flags.containerRuntimeEndpoint } : {}),
    ...(flags.etcdServers ? { etcdServers: flags.etcdServers.split(',') } : {}),
    ...networks(flags),
    schedulingProfile: profile,
    signingDurationMs: signingDuration(flags.clusterSigningDuration),
    networkName: networkName(flags.networkName),
    ...credentialProviders(flags),
    nodes: nodeCount(flags, readSettings(dataDir)?.furtherNodes ?? []),
    nodeNetwork: nodeNetwork(flags.nodeNetwork ?? DEFAULT_NODE_NETWORK),
  };
}

export const DEFAULT_NODE_NETWORK = '10.243.0.0/24';
/** Node numbers end the addresses of a /24. */
const MAX_NODES = 250;

function nodeCount(flags: ClusterFlags, before: readonly string[]): number {
  const count = flags.nodes === undefined ? before.length + 1 : Number(flags.nodes);
  if (!Number.isInteger(count) || count < 1 || count > MAX_NODES)
    throw new UserError(`--nodes takes a number between 1 and ${MAX_NODES}, not "${flags.nodes}"`);
  if (count > 1 && firstFamily(flags.clusterCidr) === 'IPv6')
    throw new UserError(
      'the nodes besides the first have IPv4 addresses: several nodes on one machine need an IPv4 ' +
        'range first in --cluster-cidr and --service-cluster-ip-range',
    );
  if (count > 1 && flags.containerRuntimeEndpoint)
    throw new UserError(
      'each of several nodes starts a containerd of its own: give --nodes or ' +
        '--container-runtime-endpoint, not both',
    );
  return count;
}

function nodeNetwork(text: string): string {
  if (/^(\d{1,3}\.){3}0\/24$/.test(text)) return text;
  throw new UserError(`--node-network takes an IPv4 range like 10.243.0.0/24, not "${text}"`);
}

function credentialProviders({
  imageCredentialProviderConfig: configFile,
  imageCredentialProviderBinDir: binDir,
}: ClusterFlags): Pick<ClusterConfig, 'imageCredentialProviders'> {
  if (!configFile && !binDir) return {};
  // The cluster's process has another working directory.
  if (configFile && binDir)
    return {
      imageCredentialProviders: { configFile: resolve(configFile), binDir: resolve(binDir) },
    };
  throw new UserError(
    '--image-credential-provider-config and --image-credential-provider-bin-dir go together',
  );
}

const firstFamily = (cidrs: string): 'IPv4' | 'IPv6' =>
  isIP(cidrs.split('/')[0] ?? '') === 6 ? 'IPv6' : 'IPv4';

/** The first is where pods find the API server, so it has the family that Services have first. */
function addresses(
  text: string,
  { clusterCidr }: ClusterFlags,
): { nodeIp: string; nodeIps: string } {
  const all = text.split(',');
  const [first = ''] = all;
  const families = all.map(isIP);
  if (families.includes(0) || new Set(families).size < all.length) {
    throw new UserError(
      `--node-ip takes an address, or one of each family with a comma between, not "${text}"`,
    );
  }
  const wanted = firstFamily(clusterCidr);
  if (families[0] !== (wanted === 'IPv6' ? 6 : 4)) {
    throw new UserError(
      `--node-ip "${text}" begins with another family than --cluster-cidr ${clusterCidr}: give an ` +
        `${wanted} address first`,
    );
  }
  return { nodeIp: first, nodeIps: text };
}

/** One network, or one of each family; both flags name the same families. */
function networks({ clusterCidr, serviceClusterIpRange }: ClusterFlags) {
  const families = (flag: string, text: string): string => {
    const parts = text.split(',').map((part) => {
      const [address = '', prefix = ''] = part.split('/');
      const family = isIP(address);
      if (family === 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > (family === 6 ? 128 : 32))
        throw new UserError(
          `${flag}: "${part}" is no range like 10.244.0.0/16 or fd00:10:244::/56`,
        );
      return family;
    });
    if (new Set(parts).size < parts.length)
      throw new UserError(`${flag} takes at most one range of each family, not "${text}"`);
    return parts.join();
  };
  const ofPods = families('--cluster-cidr', clusterCidr);
  const ofServices = families('--service-cluster-ip-range', serviceClusterIpRange);
  if (ofPods !== ofServices) {
    throw new UserError(
      `--cluster-cidr ${clusterCidr} and --service-cluster-ip-range ${serviceClusterIpRange} must ` +
        'have the same families, in the same order',
    );
  }
  return { clusterCidr, serviceCidr: serviceClusterIpRange };
}

function signingDuration(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms !== undefined && ms > 0) return ms;
  throw new UserError(`--cluster-signing-duration takes a duration like 8760h, not "${text}"`);
}

/** The bridge adds a digit, and the kernel takes 15 characters. */
function networkName(text: string): string {
  if (/^[a-z][a-z0-9-]{0,13}$/.test(text)) return text;
  throw new UserError(
    `--network-name takes up to 14 lower-case letters, digits and dashes, not "${text}"`,
  );
}

const DEFAULT_CLUSTER_DOMAIN = 'cluster.local';

function port(text: string, flag: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0 && value < 65536) return value;
  throw new UserError(`${flag} takes a port between 1 and 65535, not "${text}"`);
}

/** The machine's address of that family that others most likely reach. */
export function defaultNodeIp(family: 'IPv4' | 'IPv6' = 'IPv4'): string {
  const found = defaultAddress(family);
  if (found) return found;
  throw new UserError(
    `this machine has no ${family} address besides loopback; give one that pods can reach with --node-ip`,
  );
}

type Surroundings = {
  signal: AbortSignal;
  log: Log;
  report: (message: ProgressMessage) => void;
};

/**
 * Runs API server, controllers, scheduler and node agent in this process until the signal aborts.
 * They meet only at the API server's door, as the same users as in a cluster of many machines.
 */
export async function runCluster(config: ClusterConfig, around: Surroundings): Promise<void> {
  const { log, signal } = around;
  const { dataDir, nodeName, nodeIp } = config;
  const startedAt = systemClock.now();
  const since = (): number => systemClock.now() - startedAt;
  // Those of an earlier start stay named until their objects are gone.
  const before = readSettings(dataDir)?.furtherNodes ?? [];
  const further = config.nodes > 1 ? (await furtherNodes()).furtherNodeNames(config) : [];
  writeSettings(dataDir, {
    networkName: config.networkName,
    furtherNodes: [...new Set([...before, ...further])],
  });
  claimNetwork(config.networkName, dataDir);
  // From here on `down` can find this process, Ready or not.
  writeRecord(dataDir, {
    pid: process.pid,
    startTicks: startTicks(process.pid) ?? '',
    server: `https://${urlHost(nodeIp)}:${config.securePort}`,
    nodeName,
    startedAt: new Date(startedAt).toISOString(),
  });
  // The API server must outlive the others' last writes, so it has a signal of its own.
  const stopServer = new AbortController();
  let stopped: Promise<void> = Promise.resolve();
  try {
    const { start } = await import('#apiserver/start.ts');
    const server = await start(serverConfig(config), {
      signal: stopServer.signal,
      log: log.child('apiserver'),
    });
    stopped = server.done;
    await Promise.race([server.ready, untilAborted(signal)]);
    signal.throwIfAborted();
    around.report({
      type: 'step',
      text: `API server answers at ${server.url}`,
      elapsedMs: since(),
    });
    await publishSettings(apiAs(server.handle, 'gantry:up', ['system:masters'], 'gantry'), {
      clusterCidr: config.clusterCidr,
      serviceCidr: config.serviceCidr,
      clusterDnsIp: clusterDnsIp(config.serviceCidr),
      clusterDomain: DEFAULT_CLUSTER_DOMAIN,
    });
    await runComponents(config, { ...around, server, since });
  } finally {
    stopServer.abort(signal.reason ?? new Error('the cluster ends'));
    await stopped.catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    removeRecord(dataDir);
    releaseNetwork(config.networkName);
  }
}

const serverConfig = (config: ClusterConfig): ApiServerConfig => ({
  dataDir: config.dataDir,
  securePort: config.securePort,
  advertiseAddress: config.nodeIp,
  serviceClusterIpRange: config.serviceCidr,
  extraHosts: [config.nodeName],
  clusterSigningDurationMs: config.signingDurationMs,
  ...(config.etcdServers ? { etcdServers: config.etcdServers } : {}),
});

/** Loaded only by clusters that have them. */
const furtherNodes = () => import('#cli/further-nodes.ts');

type WithServer = Surroundings & { server: ApiServer; since: () => number };

/** Everything that talks to the API server; one part's failure ends all. */
async function runComponents(config: ClusterConfig, around: WithServer): Promise<void> {
  const { server, log, signal, report, since } = around;
  const [controllers, scheduler] = await Promise.all([
    import('#controllers/start.ts'),
    import('#scheduler/start.ts'),
  ]);
  const agentReady = Promise.withResolvers<void>();
  agentReady.promise.catch(() => {});
  const running = runTogether(signal, [
    // It ends last; here only its failure counts.
    (own) => Promise.race([server.done, untilAborted(own)]),
    (own) =>
      controllers.start(
        {
          api: apiAs(server.handle, 'system:kube-controller-manager', [], 'controller-manager'),
          clusterCidr: config.clusterCidr,
          serviceClusterIpRange: config.serviceCidr,
          rootCa: server.pki.ca.certPem,
        },
        { signal: own, log: log.child('controllers') },
      ).done,
    (own) =>
      scheduler.start(
        {
          api: apiAs(server.handle, 'system:kube-scheduler', [], 'kube-scheduler'),
          profile: config.schedulingProfile,
        },
        { signal: own, log: log.child('scheduler') },
      ).done,
    async (own) => {
      const agent = await startAgent(config, server, { signal: own, log });
      report({ type: 'step', text: 'container runtime is up', elapsedMs: since() });
      agent.ready.then(agentReady.resolve, agentReady.reject);
      await agent.done;
    },
    (own) => runOtherNodes(config, server, { signal: own, log }),
    async (own) => {
      await orAborted(agentReady.promise, own);
      const { adminKubeconfig } = paths(config.dataDir);
      if (config.nodes > 1) {
        const api = apiAs(server.handle, 'gantry:up', ['system:masters'], 'gantry');
        const { furtherNodeNames, nodesReady } = await furtherNodes();
        const sinceMs = systemClock.now() - since();
        await nodesReady(api, furtherNodeNames(config), { sinceMs, signal: own, log });
      }
      const who = config.nodes > 1 ? `${config.nodes} nodes are` : `node ${config.nodeName} is`;
      const text = `${who} Ready; kubeconfig: ${adminKubeconfig}`;
      report({ type: 'ready', text, elapsedMs: since() });
    },
  ]);
  await running.done;
}

/** The nodes besides the first, if this machine plays several. */
async function runOtherNodes(
  config: ClusterConfig,
  server: ApiServer,
  { signal, log }: { signal: AbortSignal; log: Log },
): Promise<void> {
  const before = readSettings(config.dataDir)?.furtherNodes ?? [];
  if (config.nodes === 1 && before.length === 0) return;
  const { removeSurplusNodes, runFurtherNodes } = await furtherNodes();
  const api = apiAs(server.handle, 'gantry:up', ['system:masters'], 'gantry');
  await removeSurplusNodes(api, config);
  await runFurtherNodes(config, { signal, log: log.child('nodes') });
}

async function startAgent(
  config: ClusterConfig,
  server: ApiServer,
  { signal, log }: { signal: AbortSignal; log: Log },
) {
  const { nodeName, nodeIps } = config;
  const [nodeAgent, { issueNodeCredentials, keepNodeCredentials }] = await Promise.all([
    import('#node-agent/start.ts'),
    import('#apiserver/kubeconfig.ts'),
  ]);
  const wish = {
    nodeName,
    ips: [...nodeIps.split(','), '127.0.0.1'],
    server: server.url,
    clock: systemClock,
    get pki() {
      return server.pki;
    },
  };
  const issued = await issueNodeCredentials(config.dataDir, wish);
  const keeping = Object.assign(wish, { signal, log });
  const renewing = keepNodeCredentials(config.dataDir, keeping).catch(() => {}); // ends with the signal
  const read = (file: string): string => readFileSync(file, 'utf8');
  const agent = await nodeAgent.start(
    {
      api: apiAs(server.handle, `system:node:${nodeName}`, ['system:nodes'], 'kubelet'),
      nodeName,
      nodeIp: nodeIps,
      ...(isIP(config.nodeIp) === 6 ? { bindAddress: '::' } : {}),
      rootDir: paths(config.dataDir).node(nodeName),
      port: config.agentPort,
      tlsCertFile: issued.certFile,
      tlsPrivateKeyFile: issued.keyFile,
      clientCaFile: issued.clientCaFile,
      peerIdentity: () => ({ cert: read(issued.clientCertFile), key: read(issued.clientKeyFile) }),
      ...(config.imageCredentialProviders
        ? { imageCredentialProviders: config.imageCredentialProviders }
        : {}),
      clusterCidr: config.clusterCidr,
      serviceCidr: config.serviceCidr,
      clusterDnsIp: clusterDnsIp(config.serviceCidr),
      networkName: config.networkName,
      microvms: config.microvms,
      ...(config.runtimeEndpoint ? { runtimeEndpoint: config.runtimeEndpoint } : {}),
    },
    { signal, log: log.child('node-agent') },
  );
  return { ...agent, done: Promise.all([agent.done, renewing]).then(() => undefined) };
}

/** The API as one of the components, without a network in between. */
function apiAs(door: Door, name: string, groups: readonly string[], userAgent: string): Api {
  const user = { name, groups: [...groups, 'system:authenticated'] };
  return createApi(inProcessTransport(door, user), { userAgent });
}
