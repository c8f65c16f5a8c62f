import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join as joinPath, resolve } from 'node:path';
import type { Command } from 'commander';
import { systemClock } from '#base/clock.ts';
import { parseBootstrapToken, TOKEN_SHAPE } from '#api/bootstrap-token.ts';
import { isStatusError } from '#api/status.ts';
import type { Node } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { nodes } from '#client/resources.ts';
import { defaultNodeIp } from '#cli/cluster.ts';
import {
  dataDirOf,
  joinedNode,
  type JoinedNode,
  paths,
  readAgentRecord,
  writeAgentRecord,
  writeJoinedNode,
  writeSettings,
} from '#cli/data-dir.ts';
import { discoverCluster, serverAddress } from '#cli/discovery.ts';
import { fetchSettings } from '#cli/joining-objects.ts';
import {
  hasService,
  hasSystemd,
  isServiceActive,
  serviceName,
  serviceUnit,
  startService,
} from '#cli/node-service.ts';
import { claimNetwork } from '#cli/network-claim.ts';
import { preflight } from '#cli/preflight.ts';
import { isSameProcess, startTicks } from '#cli/process.ts';
import { showProgress } from '#cli/progress.ts';
import { UserError, type Verb } from '#cli/verb.ts';

const LAUNCHER = joinPath(import.meta.dirname, '../../gantry');

type Flags = {
  server?: string;
  token?: string;
  caCertHash?: string;
  dataDir?: string;
  nodeName?: string;
  nodeIp?: string;
  kubeletPort: string;
  networkName: string;
  clusterCidr?: string;
  serviceClusterIpRange?: string;
  imageCredentialProviderConfig?: string;
  imageCredentialProviderBinDir?: string;
  clusterDns?: string;
  clusterDomain?: string;
  cgroupDriver?: string;
  shutdownGracePeriod?: string;
  shutdownGracePeriodCriticalPods?: string;
  service: string;
  timeout: string;
};

export const join: Verb = {
  name: 'join',
  summary: 'make this machine a node of a cluster that runs elsewhere',
  configure(command: Command) {
    command
      .option('--server <url>', 'the API server: https://HOST:PORT')
      .option('--token <token>', 'of "gantry token create", run where the cluster is')
      .option('--ca-cert-hash <hash>', "sha256:... of the cluster's authority, to be surer still")
      .option('--data-dir <dir>', 'where everything of this machine is kept')
      .option('--node-name <name>', "the node's name (default: host name)")
      .option('--node-ip <ip>', "the node's address (default: of the default route)")
      .option('--kubelet-port <port>', 'port of the node agent', '10250')
      .option('--network-name <name>', "names the pods' bridge and the nftables table", 'gantry')
      .option('--image-credential-provider-config <file>', 'programs that give pull credentials')
      .option('--image-credential-provider-bin-dir <dir>', 'where those programs are')
      .option('--cluster-cidr <cidr>', 'addresses of pods (default: the cluster tells)')
      .option('--service-cluster-ip-range <cidr>', 'addresses of Services (the cluster tells)')
      .option('--cluster-dns <ip>', "address of the cluster's DNS (the cluster tells)")
      .option('--cluster-domain <domain>', "the cluster's domain (the cluster tells)")
      .option('--cgroup-driver <cgroupfs|systemd>', "who makes pods' groups (default: cgroupfs)")
      .option('--shutdown-grace-period <duration>', 'how long pods have when the machine goes down')
      .option('--shutdown-grace-period-critical-pods <duration>', 'the part for critical pods')
      .option('--service <auto|off>', 'run the agent as a service where systemd runs', 'auto')
      .option('--timeout <seconds>', 'give up waiting for Ready', '120')
      .addHelpText('after', '\nWithout --server and --token, a node that has joined is started.')
      .action((flags: Flags) => run(flags));
  },
};

async function run(flags: Flags): Promise<void> {
  const dataDir = dataDirOf(flags.dataDir, process.env);
  const before = joinedNode(dataDir);
  const agent = before && readAgentRecord(dataDir, before.nodeName);
  if (before && ((agent && isSameProcess(agent)) || (await isServiceActive(dataDir)))) {
    console.log(`Already running: node ${before.nodeName} of ${before.server}.`);
    return;
  }
  if (!before && existsSync(paths(dataDir).adminKubeconfig)) {
    throw new UserError(
      `${dataDir} holds a cluster of its own; choose another --data-dir, or remove the cluster ` +
        'with "gantry down --remove-data"',
    );
  }
  const startedAtMs = systemClock.now();
  const report = (text: string, type: 'step' | 'ready' = 'step'): void =>
    showProgress({ type, text, elapsedMs: systemClock.now() - startedAtMs });
  const wanted = flags.server || flags.token ? wishOf(flags) : before;
  if (!wanted) throw new UserError('give --server and --token of the cluster to join');
  await checkMachine(dataDir, wanted);
  const joined = 'token' in wanted ? await enrol(dataDir, wanted, report) : wanted;
  writeSettings(dataDir, { networkName: joined.networkName });
  const asService = flags.service === 'auto' && (hasSystemd() || hasService(dataDir));
  const agentEnded = await (asService ? startAsService : spawnAgent)(dataDir, joined);
  if (asService) report(`the agent is a service of systemd: ${serviceName(dataDir)}`);
  const seen: Seen = { problem: '' };
  await within(
    (signal) =>
      waitReady(dataDir, joined, { sinceMs: startedAtMs, isEnded: agentEnded, seen, signal }),
    seen,
    flags.timeout,
    paths(dataDir).nodeLog(joined.nodeName),
  );
  report(`node ${joined.nodeName} is Ready`, 'ready');
}

type Wish = Omit<JoinedNode, 'flags'> & { token: string; caCertHash?: string; flags: Flags };

function wishOf(flags: Flags): Wish {
  const { server, token, caCertHash } = flags;
  if (!server) throw new UserError('--server is missing: the https://HOST:PORT of the API server');
  if (!token)
    throw new UserError('--token is missing: run "gantry token create" where the cluster is');
  return {
    server: serverAddress(server),
    token,
    ...(caCertHash === undefined ? {} : { caCertHash }),
    nodeName: flags.nodeName ?? hostname().toLowerCase(),
    nodeIp: flags.nodeIp ?? defaultNodeIp(),
    port: Number(flags.kubeletPort),
    networkName: flags.networkName,
    flags,
  };
}

async function checkMachine(dataDir: string, of: { port: number; networkName: string }) {
  const problems = await preflight({
    dataDir,
    ports: [{ port: of.port, flag: '--kubelet-port', use: 'node agent' }],
    networkName: of.networkName,
    nodes: 1,
    ownRuntime: true,
    env: process.env,
    platform: process.platform,
    uid: process.getuid?.() ?? 0,
  });
  if (problems.length === 0) return;
  throw new UserError(`this machine is not ready:\n${problems.map((p) => `  - ${p}`).join('\n')}`);
}

/** Makes sure of the cluster, and writes down what the agent needs to ask it for a certificate. */
async function enrol(
  dataDir: string,
  wish: Wish,
  report: (text: string) => void,
): Promise<JoinedNode> {
  const { server, nodeName, nodeIp, port, networkName, flags } = wish;
  const token = parseBootstrapToken(wish.token);
  if (!token) throw new UserError(`--token has ${TOKEN_SHAPE}; "${wish.token}" has not`);
  const { caCertHash } = wish;
  const ca = await discoverCluster({ server, token, caCertHash }, { clock: systemClock });
  report(`the cluster at ${server} is the right one`);
  const transport = httpsTransport({ server, ca, token: wish.token });
  const api = createApi(transport, { userAgent: 'gantry' });
  try {
    await refuseTakenName(api, nodeName);
    const told = await fetchSettings(api);
    const agentFlags: [string, string | undefined][] = [
      ['--cluster-cidr', flags.clusterCidr ?? told?.clusterCidr],
      ['--service-cidr', flags.serviceClusterIpRange ?? told?.serviceCidr],
      ['--cluster-dns', flags.clusterDns ?? told?.clusterDnsIp],
      ['--image-credential-provider-config', absolute(flags.imageCredentialProviderConfig)],
      ['--image-credential-provider-bin-dir', absolute(flags.imageCredentialProviderBinDir)],
      ['--cluster-domain', flags.clusterDomain ?? told?.clusterDomain],
      ['--cgroup-driver', flags.cgroupDriver],
      ['--shutdown-grace-period', flags.shutdownGracePeriod],
      ['--shutdown-grace-period-critical-pods', flags.shutdownGracePeriodCriticalPods],
    ];
    const set = agentFlags.flatMap(([flag, value]) => (value ? [flag, value] : []));
    const joined = { server, nodeName, nodeIp, port, networkName, flags: set };
    writeCredentials(dataDir, { server, ca, token: wish.token });
    writeJoinedNode(dataDir, joined);
    return joined;
  } finally {
    await transport.close();
  }
}

/** The agent has another working directory. */
const absolute = (path: string | undefined): string | undefined => path && resolve(path);

/** Two machines of one name would fight over one Node object. */
async function refuseTakenName(api: Api, name: string): Promise<void> {
  const node = await api.get(nodes, { name }).catch((error: unknown): undefined => {
    if (isStatusError(error, 'Unauthorized'))
      throw new UserError(
        'the token may not be used to log in; make one with "gantry token create"',
      );
    if (!isStatusError(error, 'NotFound') && !isStatusError(error, 'Forbidden')) throw error;
  });
  if (!node || !isReady(node)) return;
  throw new UserError(
    `the cluster has a node ${name} already, and it is Ready; choose another --node-name, or ` +
      `remove that one with "kubectl delete node ${name}"`,
  );
}

const files = (dataDir: string) => ({
  ca: joinPath(dataDir, 'pki', 'ca.crt'),
  certDir: joinPath(dataDir, 'pki'),
  bootstrap: joinPath(dataDir, 'kubeconfig', 'bootstrap.kubeconfig'),
  kubeconfig: joinPath(dataDir, 'kubeconfig', 'node.kubeconfig'),
});

function writeCredentials(
  dataDir: string,
  { server, ca, token }: { server: string; ca: string; token: string },
): void {
  const to = files(dataDir);
  const data = Buffer.from(ca).toString('base64');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'gantry', cluster: { server, 'certificate-authority-data': data } }],
    users: [{ name: 'bootstrap', user: { token } }],
    contexts: [{ name: 'bootstrap', context: { cluster: 'gantry', user: 'bootstrap' } }],
    'current-context': 'bootstrap',
  };
  for (const file of [to.ca, to.bootstrap])
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(to.ca, ca);
  writeFileSync(to.bootstrap, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
}

function agentArguments(dataDir: string, joined: JoinedNode): string[] {
  const { nodeName, nodeIp, port, networkName } = joined;
  const to = files(dataDir);
  return [
    'node-agent',
    ...['--kubeconfig', to.kubeconfig, '--bootstrap-kubeconfig', to.bootstrap],
    ...['--cert-dir', to.certDir, '--rotate-certificates', '--rotate-server-certificates'],
    ...['--client-ca-file', to.ca, '--data-dir', dataDir, '--network-name', networkName],
    ...['--node-name', nodeName, '--node-ip', nodeIp, '--port', String(port)],
    ...joined.flags,
  ];
}

function agentLog(dataDir: string, { nodeName }: JoinedNode): string {
  const file = paths(dataDir).nodeLog(nodeName);
  mkdirSync(dirname(file), { recursive: true });
  return file;
}

/** Tells whether the agent has ended for good. */
type Ended = () => boolean;

/** The agent outlives this command; its record lets `gantry down` find it. */
async function spawnAgent(dataDir: string, joined: JoinedNode): Promise<Ended> {
  const fd = openSync(agentLog(dataDir, joined), 'a');
  const child = spawn(LAUNCHER, agentArguments(dataDir, joined), {
    detached: true,
    stdio: ['ignore', fd, fd],
    cwd: '/',
  });
  closeSync(fd);
  await once(child, 'spawn');
  child.unref();
  noteAgent(dataDir, joined, child.pid ?? 0);
  return () => child.exitCode !== null || child.signalCode !== null;
}

/** systemd keeps the agent running, also after a boot. */
async function startAsService(dataDir: string, joined: JoinedNode): Promise<Ended> {
  const unit = serviceUnit({
    nodeName: joined.nodeName,
    command: [LAUNCHER, ...agentArguments(resolve(dataDir), joined)],
    logFile: agentLog(resolve(dataDir), joined),
  });
  noteAgent(dataDir, joined, await startService(dataDir, unit));
  return () => false;
}

function noteAgent(dataDir: string, { nodeName, networkName }: JoinedNode, pid: number): void {
  const record = { pid, startTicks: startTicks(pid) ?? '' };
  writeAgentRecord(dataDir, nodeName, record);
  claimNetwork(networkName, dataDir, record);
}

const LOOK_MS = 200;

/** Resolves when the API has the node as Ready, by a word of this agent; rejects when it has ended. */
async function waitReady(
  dataDir: string,
  { nodeName }: JoinedNode,
  around: { sinceMs: number; isEnded: Ended; seen: Seen; signal: AbortSignal },
): Promise<void> {
  const { sinceMs, isEnded, seen, signal } = around;
  const { kubeconfig } = files(dataDir);
  for (;;) {
    if (isEnded()) throw new UserError('the node agent ended');
    if (existsSync(kubeconfig)) {
      const problem = await problemOf(kubeconfig, nodeName, sinceMs);
      if (problem === undefined) return;
      if (problem) seen.problem = problem;
    }
    await systemClock.sleep(LOOK_MS, { signal });
  }
}

/** What the node's object said last of why it is not Ready; a CNI plugin may be missing there. */
type Seen = { problem: string };

/** Undefined for a Ready node, else why it is not; empty when nobody knows. */
async function problemOf(
  kubeconfig: string,
  name: string,
  sinceMs: number,
): Promise<string | undefined> {
  const transport = httpsTransport(loadKubeconfig(kubeconfig));
  try {
    const api = createApi(transport, { userAgent: 'gantry' });
    const node = await api.get(nodes, { name }, { signal: AbortSignal.timeout(5_000) });
    if (isReady(node, sinceMs)) return undefined;
    const ready = node.status?.conditions?.find(({ type }) => type === 'Ready');
    return ready?.status === 'True' ? '' : (ready?.message ?? '');
  } catch {
    return ''; // not registered yet, or an older certificate that has ended
  } finally {
    await transport.close();
  }
}

/** Heartbeats have whole seconds. */
function isReady({ status }: Node, sinceMs = 0): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  const at = Date.parse(String(ready?.lastHeartbeatTime ?? ''));
  return ready?.status === 'True' && at >= Math.floor(sinceMs / 1000) * 1000;
}

async function within(
  wait: (signal: AbortSignal) => Promise<void>,
  seen: Seen,
  seconds: string,
  logFile: string,
): Promise<void> {
  const stop = new AbortController();
  const late = systemClock.sleep(Number(seconds) * 1000, { signal: stop.signal }).then(() => {
    const why = seen.problem && `: ${seen.problem}`;
    throw new UserError(`not Ready after ${seconds} s${why}; it goes on in the background`);
  });
  late.catch(() => {});
  const ready = wait(stop.signal);
  ready.catch(() => {}); // it ends by the signal when it was too late
  try {
    await Promise.race([ready, late]);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-8);
    const tail = lines.map((line) => `  ${line}`).join('\n');
    throw new UserError(`${error.message}\nLast lines of ${logFile}:\n${tail}`);
  } finally {
    stop.abort();
  }
}
