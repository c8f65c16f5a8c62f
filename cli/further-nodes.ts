import { urlHost } from '#base/default-address.ts';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { backoffMs } from '#base/backoff.ts';
import { systemClock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { StatusError } from '#api/status.ts';
import type { Node } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createInformers } from '#client/informer-factory.ts';
import { nodes } from '#client/resources.ts';
import type { ClusterConfig } from '#cli/cluster.ts';
import { clusterDnsIp } from '#cli/cluster-dns.ts';
import {
  type AgentRecord,
  agentRecords,
  paths,
  readAgentRecord,
  readSettings,
  removeAgentRecord,
  writeAgentRecord,
  writeSettings,
} from '#cli/data-dir.ts';
import { type NodeSpace, openNodeSpaces } from '#cli/node-spaces.ts';
import { endProcess, startTicks } from '#cli/process.ts';

/** An agent that ends without being asked is started again. */
const RESTART = { initialMs: 500, maxMs: 10_000 };
const LAUNCHER = join(import.meta.dirname, '../gantry');
/** Agents drain within 10 s of SIGTERM. */
const GRACE_MS = 12_000;

/** Names of the nodes besides the first, which has the cluster's own process. */
export function furtherNodeNames({ nodeName, nodes: count }: ClusterConfig): string[] {
  return numbersOf(count).map((number) => nameOf(nodeName, number));
}

const numbersOf = (count: number): number[] =>
  Array.from({ length: count - 1 }, (_, index) => index + 2);

const nameOf = (nodeName: string, number: number): string => `${nodeName}-${number}`;

/**
 * Runs the further nodes of this machine until the signal aborts: each has a network namespace and,
 * in it, an agent process of its own, which starts its own containerd there. The namespaces and
 * containers stay, as the first node's do; `gantry down` takes them away.
 */
export async function runFurtherNodes(
  config: ClusterConfig,
  { signal, log }: { signal: AbortSignal; log: Log },
): Promise<void> {
  const { nodeName, networkName, nodeNetwork, nodeIp, clusterCidr } = config;
  const spaces = await openNodeSpaces({
    name: networkName,
    network: nodeNetwork,
    machineIp: nodeIp,
    // Only IPv4 leaves the machine through the wires between its nodes.
    clusterCidr: clusterCidr.split(',').find((range) => !range.includes(':')) ?? '',
    numbers: numbersOf(config.nodes),
  });
  await Promise.all(
    spaces.map((space) =>
      keepAgent(config, nameOf(nodeName, space.number), space, { signal, log }),
    ),
  );
}

/** Keeps one agent process running; resolves when it has ended after the signal. */
async function keepAgent(
  config: ClusterConfig,
  name: string,
  space: NodeSpace,
  { signal, log }: { signal: AbortSignal; log: Log },
): Promise<void> {
  const { dataDir } = config;
  await endAgent(dataDir, name);
  const { keepNodeCredentials } = await import('#apiserver/kubeconfig.ts');
  const renewing = keepNodeCredentials(dataDir, {
    ...credentialsWish(config, name, space),
    signal,
    log,
  }).catch(() => undefined); // ends with the signal
  for (let failures = 0; !signal.aborted; ) {
    const child = await spawnAgent(config, name, space);
    const startedAt = systemClock.now();
    const record = { pid: child.pid ?? 0, startTicks: startTicks(child.pid ?? 0) ?? '' };
    writeAgentRecord(dataDir, name, record);
    const stop = (): void => void child.kill('SIGTERM');
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    await ended(child, record, signal);
    signal.removeEventListener('abort', stop);
    removeAgentRecord(dataDir, name);
    if (signal.aborted) return await renewing;
    failures = systemClock.now() - startedAt > 60_000 ? 1 : failures + 1;
    const file = paths(dataDir).nodeLog(name);
    log.error('a node agent ended; starting it again', { node: name, failures, log: file });
    await systemClock.sleep(backoffMs(failures, RESTART), { signal }).catch(() => undefined);
  }
}

/** Resolves when the child is gone; insists once the signal has aborted. */
async function ended(child: ChildProcess, record: AgentRecord, signal: AbortSignal): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  const asked = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([gone, asked.then(() => endProcess(record, GRACE_MS, systemClock))]);
  await gone;
}

const credentialsWish = (config: ClusterConfig, nodeName: string, space: NodeSpace) => ({
  nodeName,
  ips: [space.address, '127.0.0.1'],
  server: `https://${urlHost(config.nodeIp)}:${config.securePort}`,
  clock: systemClock,
});

async function spawnAgent(
  config: ClusterConfig,
  name: string,
  space: NodeSpace,
): Promise<ChildProcess> {
  const { dataDir } = config;
  const { issueNodeCredentials } = await import('#apiserver/kubeconfig.ts');
  const issued = await issueNodeCredentials(dataDir, credentialsWish(config, name, space));
  const logFile = paths(dataDir).nodeLog(name);
  mkdirSync(dirname(logFile), { recursive: true });
  const fd = openSync(logFile, 'a');
  try {
    const flags = [
      ...['--kubeconfig', issued.kubeconfig, '--data-dir', dataDir],
      ...['--node-name', name, '--node-ip', space.address, '--port', `${config.agentPort}`],
      ...['--tls-cert-file', issued.certFile, '--tls-private-key-file', issued.keyFile],
      ...['--client-ca-file', issued.clientCaFile, '--network-name', config.networkName],
      ...['--cluster-cidr', config.clusterCidr, '--service-cidr', config.serviceCidr],
      ...['--cluster-dns', clusterDnsIp(config.serviceCidr), '--microvms', config.microvms],
    ];
    const { imageCredentialProviders: providers } = config;
    if (providers) {
      flags.push('--image-credential-provider-config', providers.configFile);
      flags.push('--image-credential-provider-bin-dir', providers.binDir);
    }
    const child = spawn('nsenter', [`--net=${space.namespace}`, LAUNCHER, 'node-agent', ...flags], {
      stdio: ['ignore', fd, fd],
      cwd: '/',
    });
    await once(child, 'spawn');
    return child;
  } finally {
    closeSync(fd);
  }
}

/** Ends all agent processes that records of this data directory name. */
export async function endAgents(dataDir: string): Promise<void> {
  await Promise.all(agentRecords(dataDir).map((name) => endAgent(dataDir, name)));
}

/** Ends the agent process that a record names, if it still runs. */
async function endAgent(dataDir: string, name: string): Promise<void> {
  const record = readAgentRecord(dataDir, name);
  if (!record) return;
  await endProcess(record, GRACE_MS, systemClock);
  removeAgentRecord(dataDir, name);
}

/** Forgets nodes that an earlier start had and this one has not. */
export async function removeSurplusNodes(api: Api, config: ClusterConfig): Promise<void> {
  const wanted = furtherNodeNames(config);
  for (const name of readSettings(config.dataDir)?.furtherNodes ?? []) {
    if (wanted.includes(name)) continue;
    await api.delete(nodes, { name }).catch((error: unknown) => {
      if (!(error instanceof StatusError && error.code === 404)) throw error;
    });
  }
  writeSettings(config.dataDir, { networkName: config.networkName, furtherNodes: wanted });
}

/** Resolves when all these nodes have said after `sinceMs` that they are Ready. */
export async function nodesReady(
  api: Api,
  names: readonly string[],
  { sinceMs, signal, log }: { sinceMs: number; signal: AbortSignal; log: Log },
): Promise<void> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const waiting = new Set(names);
  try {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      const informer = createInformers(api, { signal: until, log }).of(nodes);
      informer.onChange(({ type, object }) => {
        if (type !== 'deleted' && saidReady(object, sinceMs))
          waiting.delete(object.metadata.name ?? '');
        if (waiting.size === 0) resolve();
      });
    });
  } finally {
    stop.abort(new Error('all nodes are Ready'));
  }
}

/** Heartbeats have whole seconds. */
function saidReady({ status }: Node, sinceMs: number): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  const at = Date.parse(String(ready?.lastHeartbeatTime ?? ''));
  return ready?.status === 'True' && at >= Math.floor(sinceMs / 1000) * 1000;
}
