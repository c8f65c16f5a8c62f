import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { defaultAddress } from '#base/default-address.ts';
import { systemClock } from '#base/clock.ts';
import { createLog, errorText, type Log } from '#base/log.ts';
import { systemRandom } from '#base/random.ts';
import { runTogether } from '#base/running.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { PROXY_HEALTH_PORT } from '#node-agent/network/proxy-health.ts';
import { bootstrapNode } from '#node-agent/node/bootstrap.ts';
import {
  certificateFile,
  ensureFirstServingPair,
  ensureOwnServingPair,
  keepClientCertificate,
  keepServingCertificate,
} from '#node-agent/node/certificates.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import {
  DEFAULT_VERIFICATION,
  readVerification,
  VERIFICATION_POLICIES,
} from '#node-agent/images/pull-records.ts';
import { readKubeletConfig } from '#node-agent/kubelet-config.ts';
import { shutdownPeriods } from '#node-agent/node/shutdown-plan.ts';
import { type NodeAgentConfig, start } from '#node-agent/start.ts';

type Flags = {
  config?: string;
  kubeconfig: string;
  bootstrapKubeconfig?: string;
  certDir?: string;
  rotateCertificates?: boolean;
  rotateServerCertificates?: boolean;
  nodeName: string;
  nodeIp: string;
  dataDir?: string;
  rootDir?: string;
  containerRuntimeEndpoint?: string;
  cniConfDir?: string;
  imageStoreDir?: string;
  imageCredentialProviderConfig?: string;
  imageCredentialProviderBinDir?: string;
  imagePullCredentialsVerificationPolicy?: string;
  preloadedImagesVerificationAllowlist?: string;
  maxParallelImagePulls?: string;
  tlsCertFile?: string;
  tlsPrivateKeyFile?: string;
  clientCaFile?: string;
  address?: string;
  port: string;
  podNetwork?: 'own' | 'cni';
  clusterCidr?: string;
  podCidr?: string;
  serviceCidr?: string;
  clusterDns?: string;
  clusterDomain?: string;
  resolvConf?: string;
  networkName?: string;
  proxyHealthzPort: string;
  microvms?: 'auto' | 'off';
  nodeLabels?: string;
  systemReserved?: string;
  kubeReserved?: string;
  maxPods?: string;
  podMaxPids?: string;
  podManifestPath?: string;
  cgroupDriver?: string;
  cgroupRoot?: string;
  allowedUnsafeSysctls?: string;
  devicePluginDir?: string;
  evictionHard?: string;
  evictionSoft?: string;
  evictionSoftGracePeriod?: string;
  evictionMinimumReclaim?: string;
  evictionMaxPodGracePeriod?: string;
  shutdownGracePeriod?: string;
  shutdownGracePeriodCriticalPods?: string;
  shutdownGracePeriodByPodPriority?: string;
  v: string;
};

/** What the command line says, then what the configuration file says, then the defaults. */
function withConfig(command: Command, log: Log): Flags {
  const { config: file } = command.opts<Flags>();
  if (file === undefined) return command.opts<Flags>();
  const { flags, ignored } = readKubeletConfig(readFileSync(file, 'utf8'), file);
  if (ignored.length > 0)
    log.warn('fields of the configuration that mean nothing here', { file, fields: ignored });
  for (const [name, value] of Object.entries(flags))
    if (command.getOptionValueSource(name) !== 'cli') command.setOptionValue(name, value);
  return command.opts<Flags>();
}

/** Time for what ends by the signal to end. */
const EXIT_MS = 2_000;

/** Runs `gantry node-agent` with these arguments until SIGTERM or SIGINT. */
export async function main(args: readonly string[]): Promise<void> {
  const command = new Command('node-agent')
    .description('run the pods bound to this node')
    .requiredOption('--kubeconfig <file>', 'how to reach the API server, as this node')
    .option('--config <file>', 'a KubeletConfiguration; flags that are given count more')
    .option('--bootstrap-kubeconfig <file>', 'with which to ask for what --kubeconfig will name')
    .option(
      '--cert-dir <dir>',
      'certificates that the cluster has signed; default: pki in the root',
    )
    .option('--rotate-certificates', 'replace the client certificate before it expires')
    .option('--rotate-server-certificates', 'have serving certificates signed by the cluster')
    .option('--node-name <name>', 'name of the Node object', hostname().toLowerCase())
    .option('--node-ip <address>', 'address under which others reach this node', defaultAddress())
    .option('--data-dir <dir>', 'data directory of the machine; the node lives in node/<name>')
    .option('--root-dir <dir>', "this node's own folder, instead of --data-dir")
    .option('--container-runtime-endpoint <socket>', 'CRI socket; default: a containerd of our own')
    .option('--cni-conf-dir <dir>', 'where that runtime looks for its CNI configuration')
    .option('--image-store-dir <dir>', "the machine's own images")
    .option('--image-credential-provider-config <file>', 'programs that give pull credentials')
    .option('--image-credential-provider-bin-dir <dir>', 'where those programs are')
    .option(
      '--image-pull-credentials-verification-policy <policy>',
      `${VERIFICATION_POLICIES.join(', ')} (default: ${DEFAULT_VERIFICATION.policy})`,
    )
    .option(
      '--preloaded-images-verification-allowlist <names>',
      'images that every pod may use, for NeverVerifyAllowlistedImages; like a.example/app,b.example/*',
    )
    .option('--max-parallel-image-pulls <count>', 'pulls at a time')
    .option('--tls-cert-file <file>', 'serving certificate')
    .option('--tls-private-key-file <file>', 'its key')
    .option('--client-ca-file <file>', 'authority of the clients that may ask this node')
    .option('--address <address>', 'address to serve on')
    .option('--port <port>', 'port to serve on', '10250')
    .option('--pod-network <who>', 'own or cni; default: own where the node may read enough')
    .option('--cluster-cidr <cidr>', 'addresses of all pods')
    .option('--pod-cidr <cidr>', "addresses of this node's pods, instead of what a controller says")
    .option('--service-cidr <cidr>', 'addresses of services')
    .option('--cluster-dns <address>', 'address of the cluster DNS service')
    .option('--cluster-domain <domain>', 'domain of the cluster')
    .option('--network-name <name>', "names the pods' bridge and the nftables table")
    .option(
      '--proxy-healthz-port <port>',
      'where load balancers ask whether traffic of Services may come here; 0: nowhere',
      `${PROXY_HEALTH_PORT}`,
    )
    .option('--microvms <auto|off>', 'run pods of the class microvm where possible', 'off')
    .option('--resolv-conf <file>', "the node's own resolver configuration")
    .option('--node-labels <list>', 'k=v,… to put on the Node object')
    .option('--system-reserved <list>', 'cpu=…,memory=… that pods cannot have')
    .option('--kube-reserved <list>', 'the same, for the agent and the container runtime')
    .option('--max-pods <count>', 'most pods on this node')
    .option('--pod-max-pids <count>', 'most processes of one pod')
    .option('--pod-manifest-path <path>', 'manifests of pods to run without the API')
    .option('--cgroup-driver <cgroupfs|systemd>', "who makes pods' groups; default: cgroupfs")
    .option('--cgroup-root <group>', "group above pods' own")
    .option('--device-plugin-dir <dir>', 'where device plugins look for kubelet.sock')
    .option('--allowed-unsafe-sysctls <list>', 'sysctls pods may set besides the safe ones')
    .option('--eviction-hard <list>', 'memory.available<100Mi,…: evict pods at once')
    .option('--eviction-soft <list>', 'evict pods when it lasts')
    .option('--eviction-soft-grace-period <list>', 'memory.available=1m30s,…')
    .option('--eviction-minimum-reclaim <list>', 'memory.available=50Mi,…: free so much more')
    .option('--eviction-max-pod-grace-period <seconds>', 'most grace of a soft eviction')
    .option('--shutdown-grace-period <duration>', 'how long pods have when the machine goes down')
    .option('--shutdown-grace-period-critical-pods <duration>', 'the part of it for critical pods')
    .option('--shutdown-grace-period-by-pod-priority <list>', '0=20,1000=30: seconds instead')
    .option('-v, --v <level>', 'verbosity: 0 or 4', '0');
  command.parse(args, { from: 'user' });
  const given = command.opts<Flags>();
  const log = createLog({
    component: 'node-agent',
    level: Number(given.v) >= 4 ? 'debug' : 'info',
  });
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.once(name, () => stop.abort(new Error(`received ${name}`)));
  try {
    const flags = withConfig(command, log);
    await run(flags, { shown: shownFlags(command), signal: stop.signal, log });
  } catch (error) {
    if (!stop.signal.aborted) {
      log.error('the node agent ended', { error: errorText(error) });
      process.exitCode = 1;
    }
    // What had begun before the failure must not keep a dead agent's process: nobody would start it anew.
    stop.abort(error);
    setTimeout(() => process.exit(), EXIT_MS).unref();
  }
}

/** All flags with their values, given or not: none of them is a secret. */
const shownFlags = (command: Command): Record<string, string> =>
  Object.fromEntries(
    command.options.map((option) => {
      const value: unknown = command.getOptionValue(option.attributeName());
      return [option.long?.replace(/^--/, '') ?? '', value === undefined ? '' : String(value)];
    }),
  );

async function run(
  flags: Flags,
  around: { shown: Record<string, string>; signal: AbortSignal; log: Log },
): Promise<void> {
  const { shown, signal, log } = around;
  const { nodeName, kubeconfig, bootstrapKubeconfig } = flags;
  if (!flags.nodeIp) throw new Error('this machine has no address but loopback; give --node-ip');
  const clock = systemClock;
  const config = configOf(flags);
  const certDir = flags.certDir ?? join(config.rootDir, 'pki');
  if (bootstrapKubeconfig) {
    const where = { nodeName, kubeconfig, bootstrapKubeconfig, certDir };
    await bootstrapNode(where, { signal, clock, log });
  }
  const connection = loadKubeconfig(kubeconfig);
  if (flags.rotateServerCertificates || !config.tlsCertFile) {
    const hosts = [nodeName, ...config.nodeIp.split(',')];
    if (flags.rotateServerCertificates) await ensureFirstServingPair(certDir, { nodeName, clock });
    else await ensureOwnServingPair(certDir, { hosts, clock });
    config.tlsCertFile = config.tlsPrivateKeyFile = certificateFile(certDir, 'serving');
  }
  // The cluster's own authority vouches for its API server, also when that calls here.
  if (!config.clientCaFile && connection.ca) {
    config.clientCaFile = join(certDir, 'cluster-ca.crt');
    writeFileSync(config.clientCaFile, connection.ca);
  }
  const { cert, key, certFile, keyFile } = connection;
  if (cert && key) {
    // The files are renewed in place.
    const read = (file: string | undefined, text: string): string =>
      file ? readFileSync(file, 'utf8') : text;
    config.peerIdentity = () => ({ cert: read(certFile, cert), key: read(keyFile, key) });
  }
  const transport = httpsTransport(connection);
  try {
    const api = createApi(transport, { userAgent: 'gantry-node-agent' });
    const agent = await start({ api, ...config, flags: shown }, { signal, log });
    const running = runTogether(signal, [
      () => agent.done,
      async (own) => {
        const keeper = { api, nodeName, certDir, signal: own, clock, random: systemRandom, log };
        await Promise.all([
          ...(flags.rotateCertificates ? [keepClientCertificate(keeper)] : []),
          ...(flags.rotateServerCertificates
            ? [keepServingCertificate(keeper, agent.reloadCertificate)]
            : []),
        ]);
      },
    ]);
    await running.done;
  } finally {
    await transport.close();
  }
}

function configOf(flags: Flags): Omit<NodeAgentConfig, 'api'> {
  const rootDir = flags.rootDir ?? join(flags.dataDir ?? '/var/lib/gantry', 'node', flags.nodeName);
  const { nodeName, nodeIp } = flags;
  const optional = {
    port: Number(flags.port),
    runtimeEndpoint: flags.containerRuntimeEndpoint,
    cniConfDir: flags.cniConfDir,
    imageStoreDir: flags.imageStoreDir,
    imageCredentialProviders: credentialProviders(flags),
    imagePullVerification: readVerification(
      flags.imagePullCredentialsVerificationPolicy,
      flags.preloadedImagesVerificationAllowlist,
    ),
    maxParallelImagePulls: optionalNumber(flags.maxParallelImagePulls),
    bindAddress: flags.address,
    tlsCertFile: flags.tlsCertFile,
    tlsPrivateKeyFile: flags.tlsPrivateKeyFile,
    clientCaFile: flags.clientCaFile,
    podNetwork: flags.podNetwork,
    clusterCidr: flags.clusterCidr,
    podCidr: flags.podCidr,
    serviceCidr: flags.serviceCidr,
    clusterDnsIp: flags.clusterDns,
    clusterDomain: flags.clusterDomain,
    networkName: flags.networkName,
    proxyHealthPort: Number(flags.proxyHealthzPort),
    microvms: flags.microvms === 'auto' ? 'auto' : 'off',
    resolvConf: flags.resolvConf,
    labels: pairs(flags.nodeLabels),
    reserved: [pairs(flags.systemReserved) ?? {}, pairs(flags.kubeReserved) ?? {}],
    maxPods: optionalNumber(flags.maxPods),
    podManifestPath: flags.podManifestPath,
    eviction: {
      evictionHard: flags.evictionHard,
      evictionSoft: flags.evictionSoft,
      evictionSoftGracePeriod: flags.evictionSoftGracePeriod,
      evictionMinimumReclaim: flags.evictionMinimumReclaim,
      maxGraceSeconds: Number(flags.evictionMaxPodGracePeriod ?? 0),
    },
    cgroupDriver: cgroupDriver(flags.cgroupDriver),
    cgroupRoot: flags.cgroupRoot,
    shutdownPeriods: shutdownPeriods({
      gracePeriod: flags.shutdownGracePeriod,
      gracePeriodCriticalPods: flags.shutdownGracePeriodCriticalPods,
      gracePeriodByPodPriority: flags.shutdownGracePeriodByPodPriority,
    }),
    devicePluginDir: flags.devicePluginDir,
    allowedUnsafeSysctls: flags.allowedUnsafeSysctls?.split(','),
    podPidsLimit: optionalNumber(flags.podMaxPids),
  };
  const given = Object.entries(optional).filter(([, value]) => value !== undefined);
  return { nodeName, nodeIp, rootDir, ...(Object.fromEntries(given) as Partial<NodeAgentConfig>) };
}

function cgroupDriver(text: string | undefined): NodeAgentConfig['cgroupDriver'] {
  if (text === undefined || text === 'cgroupfs' || text === 'systemd') return text;
  throw new ConfigError(`--cgroup-driver is cgroupfs or systemd, not "${text}"`);
}

const optionalNumber = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number(text);

function credentialProviders(flags: Flags): NodeAgentConfig['imageCredentialProviders'] {
  const { imageCredentialProviderConfig: configFile, imageCredentialProviderBinDir: binDir } =
    flags;
  if (!configFile && !binDir) return undefined;
  if (configFile && binDir) return { configFile, binDir };
  throw new ConfigError(
    '--image-credential-provider-config and --image-credential-provider-bin-dir go together',
  );
}

/** `a=1,b=2` as an object. */
function pairs(list: string | undefined): Record<string, string> | undefined {
  if (!list) return undefined;
  return Object.fromEntries(
    list.split(',').map((pair) => {
      const [key = '', ...value] = pair.split('=');
      return [key, value.join('=')];
    }),
  );
}
