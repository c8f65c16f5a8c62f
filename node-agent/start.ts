import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { namesIn, readIfThere } from '#base/files.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import { orAborted, type Running, runTogether } from '#base/running.ts';
import type { Node, Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createEventRecorder } from '#client/events.ts';
import { createInformers, type Informers } from '#client/informer-factory.ts';
import { nodes, pods, runtimeClasses, services as serviceResource } from '#client/resources.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { collectGarbage } from '#node-agent/node/container-gc.ts';
import { giveBackVolumes } from '#node-agent/csi/csi-farewell.ts';
import { allRecords } from '#node-agent/csi/csi-records.ts';
import { DevicePlugins } from '#node-agent/devices/device-plugins.ts';
import { parseResolvConf } from '#node-agent/containers/dns-config.ts';
import type { ProviderFlags } from '#node-agent/images/credential-providers.ts';
import type { PullVerification } from '#node-agent/images/pull-records.ts';
import { EvictionLoop } from '#node-agent/node/eviction-loop.ts';
import { type EvictionFlags, readThresholds } from '#node-agent/node/eviction-thresholds.ts';
import { createHandlers } from '#node-agent/containers/handlers.ts';
import { collectImages } from '#node-agent/images/image-gc.ts';
import { renewNodeLease } from '#node-agent/node/lease.ts';
import { rotateLogs } from '#node-agent/node/log-rotation.ts';
import { isMountPoint, unmountAll } from '#node-agent/storage/mounts.ts';
import { removeNetwork } from '#node-agent/network/start.ts';
import {
  allocatableAmounts,
  hasAppArmor,
  readCapacity,
  readNodeInfo,
  type Reserved,
} from '#node-agent/node/node-facts.ts';
import {
  nodeLimits,
  openNodeCgroups,
  readResourceFacts,
  removeNodeCgroups,
} from '#node-agent/node/node-cgroups.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { NodeShutdown } from '#node-agent/node/node-shutdown.ts';
import type { ShutdownPeriod } from '#node-agent/node/shutdown-plan.ts';
import { NodeReporter } from '#node-agent/node/node-status.ts';
import { admitPod } from '#node-agent/pods/pod-admission.ts';
import { PodDetails } from '#node-agent/pods/pod-details.ts';
import {
  choosePodNetwork,
  cniConfDir,
  DEFAULT_DNS_IP,
  DEFAULT_DOMAIN,
  mayListNodes,
  type PodNetwork,
  RESOLV_CONF,
  runNetwork,
} from '#node-agent/pods/pod-network.ts';
import { podUsers } from '#node-agent/containers/security-context.ts';
import { IdRanges, idSpace } from '#node-agent/pods/id-ranges.ts';
import { podPaths } from '#node-agent/pods/pod-files.ts';
import { judgeResize, type ResizePending } from '#node-agent/pods/pod-resize.ts';
import { PodRuntimes } from '#node-agent/pods/pod-runtimes.ts';
import { PodWorkers } from '#node-agent/pods/pod-workers.ts';
import { Probes } from '#node-agent/containers/probes.ts';
import { featuresOf, handlerFeatures, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { stopPods } from '#node-agent/runtime/containerd-daemon.ts';
import type { ImageSnapshots } from '#node-agent/runtime/containerd-snapshots.ts';
import {
  MICROVM_HANDLER,
  MICROVM_RUNTIME,
  type RuntimeHandler,
  type RuntimeVersion,
} from '#node-agent/runtime/service.ts';
import {
  containerdDir,
  type Runtimes,
  type RuntimesConfig,
  startRuntimes,
  stopRuntimes,
} from '#node-agent/runtimes.ts';
import { startServer } from '#node-agent/server/server.ts';
import { createAccess } from '#node-agent/server/server-access.ts';
import { createSlots } from '#node-agent/pods/slots.ts';
import { isStatic, StaticPods } from '#node-agent/pods/static-pods.ts';
import { makeVolumeServices } from '#node-agent/storage/volume-services.ts';
import { StopOrders } from '#node-agent/pods/stop-orders.ts';
import { createStatusWriter } from '#node-agent/pods/status-writer.ts';

/** Sandboxes made at a time; more only makes each of them slower. */
const PARALLEL_SANDBOXES = 4;
/** Time for steps under way to end; what is cut off, the next start goes on with. */
const DRAIN_MS = 5_000;
const AGENT_VERSION = 'v1.36.2+gantry';

export type NodeAgentConfig = RuntimesConfig & {
  api: Api;
  nodeName: string;
  /** One address, or one of each family: `192.0.2.1,2001:db8::1`; the first is the main one. */
  nodeIp: string;
  /** A CredentialProviderConfig and the folder of its programs. */
  imageCredentialProviders?: ProviderFlags;
  /** Whether a pod may use what another has pulled; default: not without credentials for it. */
  imagePullVerification?: PullVerification;
  /** Pulls at a time. */
  maxParallelImagePulls?: number;
  /** 0 takes any free port. Default 10250. */
  port?: number;
  bindAddress?: string;
  tlsCertFile?: string;
  tlsPrivateKeyFile?: string;
  clientCaFile?: string;
  /** Default: what `choosePodNetwork` finds. */
  podNetwork?: PodNetwork;
  clusterCidr?: string;
  serviceCidr?: string;
  clusterDnsIp?: string;
  clusterDomain?: string;
  resolvConf?: string;
  /** Instead of the range (one per family, with a comma between) a controller gives to the node. */
  podCidr?: string;
  /** Names the bridge and the nftables table; default `gantry`. */
  networkName?: string;
  /** Where load balancers ask whether traffic of Services may come here; default 10256, 0: nowhere. */
  proxyHealthPort?: number;
  labels?: Readonly<Record<string, string>>;
  /** For the system and for the agent itself; their sum is kept from pods. */
  reserved?: readonly Reserved[];
  maxPods?: number;
  podPidsLimit?: number;
  /** Where device plugins look for `kubelet.sock`; default `<root dir>/device-plugins`. */
  devicePluginDir?: string;
  /** Sysctls that pods may set besides the safe ones; `net.core.*` names all that begin so. */
  allowedUnsafeSysctls?: readonly string[];
  /** Manifests of pods that run here without being asked for through the API. */
  podManifestPath?: string;
  /** The command line that this was made of, as `/flagz` shows it. */
  flags?: Readonly<Record<string, string>>;
  /** When pods are evicted; default as the kubelet's. */
  eviction?: EvictionFlags & { maxGraceSeconds?: number };
  /** How long pods have to end, by priority, when the machine goes down; none: it does not wait. */
  shutdownPeriods?: readonly ShutdownPeriod[];
  /** Group above `kubepods`; with cgroupfs by default one of this node's own. */
  cgroupRoot?: string;
};

type Surroundings = { signal: AbortSignal; log?: Log; clock?: Clock };

export type NodeAgent = Running & {
  ready: Promise<void>;
  port: () => number;
  /** Serves with what the certificate files hold now. */
  reloadCertificate: () => void;
};

/**
 * Runs a node: registers it, runs the pods bound to it, reports on them. `ready` resolves when the
 * API has the node as Ready. When `signal` aborts the agent ends and leaves its pods running; the
 * next one finds them again.
 */
export async function start(
  config: NodeAgentConfig,
  { signal, log = silentLog, clock = systemClock }: Surroundings,
): Promise<NodeAgent> {
  const { api, nodeName, rootDir } = config;
  mkdirSync(rootDir, { recursive: true, mode: 0o711 });
  const informers = createInformers(api, { signal, log, clock });
  const podInformer = informers.of(pods, { fieldSelector: `spec.nodeName=${nodeName}` });
  const nodeInformer = informers.of(nodes, { fieldSelector: `metadata.name=${nodeName}` });
  informers.of(serviceResource);

  const networkBy = await choosePodNetwork(config, { log });
  const runtimes = { ...config, cniConfDir: cniConfDir(config, networkBy) };
  const others = (await mayListNodes(api, networkBy)) ? informers.of(nodes) : undefined;
  const runtime = await startRuntimes(runtimes, { nodes: others, signal, log, clock });
  const version = await runtime.client.version();
  const handlers = (await runtime.client.handlers?.()) ?? [];
  // Of another's network the runtime itself tells whether it is ready.
  const unset = 'the pod network is not set up yet';
  const network = { problem: networkBy === 'own' ? unset : undefined };
  const parts = await makeServices(config, {
    informers,
    runtime: runtime.client,
    cgroupDriver: runtime.cgroupDriver,
    imagesFor: (handler) => runtime.imagesFor(handler),
    snapshots: runtime.snapshots,
    version,
    handlers,
    networkProblem: () => network.problem,
    signal,
    log,
    clock,
  });
  const { services, events, csi } = parts;

  const { capacity, thresholds } = parts;
  const eviction = new EvictionLoop({
    services,
    images: runtime.client,
    rootDir,
    thresholds,
    maxGraceSeconds: config.eviction?.maxGraceSeconds ?? 0,
    onChange: () => reporter.poke(),
  });
  const shutdown = new NodeShutdown({
    services,
    periods: config.shutdownPeriods ?? [],
    onChange: () => reporter.poke(),
  });
  const apparmor = hasAppArmor();
  const workers = new PodWorkers({
    services,
    informer: podInformer,
    admit: (pod, others) => {
      const node = nodeInformer.get({ name: nodeName });
      const { allocatable } = services;
      const facts = node && {
        node,
        allocatable,
        hasAppArmor: apparmor,
        features: services.features(pod),
        allowedUnsafeSysctls: config.allowedUnsafeSysctls ?? [],
      };
      const refusal =
        shutdown.refuse() ?? eviction.refuse(pod) ?? (facts && admitPod(pod, others, facts));
      return refusal ?? services.devices.reserve(pod);
    },
    signal,
  });
  parts.onPodChange = (uid) => workers.wake(uid);
  const statics = new StaticPods({
    api,
    nodeName,
    path: config.podManifestPath,
    informer: podInformer,
    nodeUid: () => nodeInformer.get({ name: nodeName })?.metadata.uid,
    clock,
    log,
  });
  parts.mirror = (pod) => statics.mirror(pod);
  parts.judgeResize = (pod) =>
    judgeResize(pod, workers.granted(pod.metadata.uid ?? ''), services.allocatable);
  parts.onReferenceChange = (uid) => workers.get(uid)?.referenceChanged();

  const access = createAccess(api, nodeName, clock);
  const details = new PodDetails(services, () => workers.all().map((worker) => worker.pod));
  const { serveImages } = runtime;
  const server = await startServer({
    ...{ config, services, workers, access, details, signal, log },
    component: {
      name: 'gantry-node-agent',
      version: AGENT_VERSION,
      startedAtMs: clock.now(),
      flags: config.flags ?? {},
    },
    ...(serveImages ? { serveImages } : {}),
  });
  const reporter = new NodeReporter({
    api,
    clock,
    log,
    events,
    nodeName,
    ips: config.nodeIp.split(','),
    port: server.port,
    labels: config.labels ?? {},
    features: version.features,
    handlers,
    capacity,
    devices: () => services.devices.amounts(),
    info: readNodeInfo(version, AGENT_VERSION),
    has: (pressure) => eviction.has(pressure),
    notReady: async () =>
      shutdown.problem ?? network.problem ?? (await runtimeProblem(runtime.client)),
    images: () => runtime.client.listImages(),
    microvms: () => runtime.microvms(),
    volumes: csi.volumes,
  });
  csi.volumes.onInUse = () => reporter.poke();
  services.volumes.images.onPulled = (uid) => workers.get(uid)?.volumesMayBeReady();
  parts.onDeviceChange = () => reporter.poke();

  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  const running = runTogether(signal, [
    async (own) => {
      const node = await reporter.register(own);
      await Promise.all([
        renewNodeLease({ api, clock, log, signal: own, node }),
        reporter.run(own, ready.resolve),
      ]);
    },
    async (own) => {
      if (networkBy === 'cni') return;
      await runNetwork(config, { informers, nodeInformer, signal: own, log, clock }, (problem) => {
        network.problem = problem;
        reporter.poke();
        for (const worker of workers.all()) worker.wake();
      });
    },
    async (own) => {
      await services.runtimes.relist();
      await orAborted(
        Promise.all([
          podInformer.synced(),
          nodeInformer.synced(),
          informers.of(serviceResource).synced(),
          informers.of(runtimeClasses).synced(),
        ]),
        own,
      );
      workers.start();
      statics.look(workers);
      nodeInformer.onChange((change) => {
        if (change.type === 'updated' && attachedText(change.old) !== attachedText(change.object))
          retryVolumes(workers);
      });
      await Promise.all([
        services.runtimes.follow(own),
        workers.refreshVolumes(),
        collectGarbage({
          services,
          isWanted: (uid) => workers.has(uid),
          clock,
          signal: own,
        }),
        collectImages({ service: runtime.client, services, clock, signal: own }),
        rotateLogs({ services, clock, signal: own }),
        eviction.run(workers, own),
        shutdown.run(workers, own),
        services.volumes.usage.run(workers, own),
        statics.run(workers, own),
      ]);
    },
    (own) => csi.run(own, () => retryVolumes(workers)),
    (own) =>
      runtime.supervise(() => {
        reporter.poke();
        for (const worker of workers.all()) worker.wake();
      }, own),
    (own) => services.devices.serve(own),
    () => server.done,
    () => runtime.done,
  ]);
  const shutDown = async (): Promise<void> => {
    services.probes.stopAll();
    const limit = new AbortController();
    await Promise.race([
      workers.done().catch(() => undefined),
      clock.sleep(DRAIN_MS, { signal: limit.signal }).catch(() => undefined),
    ]);
    limit.abort();
    await events.flush().catch(() => undefined);
    runtime.client.close();
    runtime.snapshots.close();
    ready.reject(signal.reason ?? new Error('the node agent stopped'));
  };
  const done = (async () => {
    try {
      await running.done;
    } finally {
      await shutDown();
    }
  })();
  done.catch(() => {});
  return { done, ready: ready.promise, port: server.port, reloadCertificate: server.reload };
}

const attachedText = ({ status }: Node): string => JSON.stringify(status?.volumesAttached ?? []);

/** Some part that volumes wait for may be there now. */
function retryVolumes(workers: PodWorkers): void {
  for (const worker of workers.all()) worker.volumesMayBeReady();
}

async function runtimeProblem(runtime: RuntimeClient): Promise<string | undefined> {
  const bad = (await runtime.status()).filter((c) => !c.status);
  if (bad.length === 0) return undefined;
  return bad.map((c) => `${c.type}: ${c.message || c.reason}`).join('; ');
}

async function makeServices(
  config: NodeAgentConfig,
  around: {
    informers: Informers;
    runtime: RuntimeClient;
    imagesFor: Runtimes['imagesFor'];
    cgroupDriver: Runtimes['cgroupDriver'];
    snapshots: ImageSnapshots;
    version: RuntimeVersion;
    handlers: readonly RuntimeHandler[];
    networkProblem: () => string | undefined;
  } & Required<Surroundings>,
) {
  const { api, nodeName, nodeIp, rootDir } = config;
  const { informers, runtime, version, signal, log, clock } = around;
  const events = createEventRecorder(api, { component: 'kubelet', host: nodeName, clock, log });
  const paths = podPaths(rootDir);
  for (const dir of Object.values(paths)) mkdirSync(dir, { recursive: true, mode: 0o711 });
  const handlers = createHandlers({ runtime, clock });
  const result = {
    onPodChange: (_uid: string): void => {},
    onDeviceChange: (): void => {},
    onReferenceChange: (_uid: string): void => {},
    judgeResize: (_pod: Pod): ResizePending | undefined => undefined,
    mirror: (_pod: Pod): Pod | undefined => undefined,
  };
  const onChange = (uid: string): void => result.onPodChange(uid);
  const hostDns = parseResolvConf(readIfThere(config.resolvConf ?? RESOLV_CONF) ?? '');
  const serviceInformer = informers.of(serviceResource);
  const classes = informers.of(runtimeClasses);
  const handlerOf = ({ spec }: Pod): string => {
    if (!spec.runtimeClassName) return '';
    const found = classes.get({ name: spec.runtimeClassName });
    if (!found) throw new ConfigError(`RuntimeClass "${spec.runtimeClassName}" not found`);
    return found.handler;
  };
  // Without its class a pod could not have been started anew; it is of the default then.
  const microvm = { name: MICROVM_RUNTIME, features: featuresOf(MICROVM_RUNTIME) };
  const runtimeOf = ({ spec }: Pod): Pick<RuntimeVersion, 'name' | 'features'> => {
    const handler = classes.get({ name: spec.runtimeClassName ?? '' })?.handler ?? '';
    if (handler === MICROVM_HANDLER) return microvm;
    return { ...version, features: handlerFeatures(handler, version, around.handlers) };
  };
  const { volumes, images, csi } = await makeVolumeServices({
    ...around,
    api,
    nodeName,
    rootDir,
    paths,
    events,
    imagesOf: (pod) => around.imagesFor(handlerOf(pod)),
    volumeImages: around.imagesFor(''),
    parallelPulls: config.maxParallelImagePulls,
    credentialProviders: config.imageCredentialProviders,
    imagePullVerification: config.imagePullVerification,
    snapshots: version.name === 'containerd' ? around.snapshots : undefined,
    onReferenceChange: (uid) => result.onReferenceChange(uid),
  });
  const thresholds = readThresholds(config.eviction ?? {});
  const { reserved = [], maxPods } = config;
  const capacity = readCapacity(rootDir, { reserved, maxPods, thresholds });
  const cgroups = openNodeCgroups(
    { nodeName, rootDir, log },
    around.cgroupDriver,
    config.cgroupRoot,
  );
  await cgroups.setNode(nodeLimits(capacity, reserved));
  const idRanges = new IdRanges(
    paths,
    idSpace(
      Number(capacity.capacity['pods']),
      readIfThere('/etc/subuid') ?? '',
      readIfThere('/etc/subgid') ?? '',
    ),
  );
  const services: NodeServices = {
    nodeName,
    host: { ips: nodeIp.split(','), runtimeOf },
    allocatable: allocatableAmounts(capacity),
    resourceFacts: readResourceFacts(cgroups),
    podPidsLimit: config.podPidsLimit,
    clusterDomain: config.clusterDomain ?? DEFAULT_DOMAIN,
    dns: () => ({
      clusterDns: [config.clusterDnsIp ?? DEFAULT_DNS_IP],
      clusterDomain: config.clusterDomain ?? DEFAULT_DOMAIN,
      host: hostDns,
    }),
    paths,
    stopOrders: new StopOrders(join(rootDir, 'stop-orders'), log),
    clock,
    log,
    events,
    runtime,
    features: (pod) => runtimeOf(pod).features,
    users: (pod) => podUsers(pod, runtimeOf(pod).features, (uid) => idRanges.claim(uid)),
    idRanges,
    runtimes: new PodRuntimes({
      ...{ runtime, paths, clock, log, onChange },
      firstFamily: nodeIp.split(',')[0]?.includes(':') ? 6 : 4,
    }),
    images,
    probes: new Probes({ run: handlers, clock, log, events, onChange }),
    handlers,
    volumes,
    cgroups,
    services: (namespace) => [
      ...serviceInformer.list(namespace),
      ...(namespace === 'default'
        ? []
        : serviceInformer.list('default').filter((s) => s.metadata.name === 'kubernetes')),
    ],
    status: createStatusWriter(api, {
      clock,
      log,
      signal,
      shownBy: (pod) => (isStatic(pod) ? result.mirror(pod) : pod),
    }),
    sandboxSlots: createSlots(PARALLEL_SANDBOXES),
    networkProblem: around.networkProblem,
    judgeResize: (pod) => result.judgeResize(pod),
    runtimeHandler: handlerOf,
    devices: new DevicePlugins({
      dir: config.devicePluginDir ?? join(rootDir, 'device-plugins'),
      log,
      onChange: () => result.onDeviceChange(),
    }),
  };
  return Object.assign(result, { services, events, csi, capacity, thresholds });
}

/**
 * Stops the nodes of a data directory for good: containers, mounts, cgroups, rules and interfaces.
 * Images and the cluster's objects stay. Returns what it did, one line each. Idempotent.
 */
export async function clearNode(
  dataDir: string,
  { log = silentLog, networkName }: { log?: Log; networkName?: string } = {},
): Promise<string[]> {
  const nodesDir = join(dataDir, 'node');
  const did: string[] = [];
  for (const name of namesIn(nodesDir)) {
    const rootDir = join(nodesDir, name);
    if (existsSync(containerdDir(rootDir))) {
      did.push(...(await giveBack(rootDir, log)));
      await stopRuntimes(rootDir, { log, clock: systemClock });
      did.push(`Stopped the containers of node ${name}.`);
    }
    const mounted = isMountPoint(join(rootDir, 'memory'));
    await unmountAll(rootDir);
    if (mounted) did.push(`Unmounted the volumes of node ${name}.`);
    await removeNodeCgroups({ nodeName: name, rootDir, log });
  }
  if (did.length > 0) {
    await (networkName ? removeNetwork(networkName) : removeNetwork());
    did.push('Removed service rules and the pod bridge.');
  }
  return did;
}

/** Drivers take their volumes back as long as they run: their pods are the last to be ended. */
async function giveBack(rootDir: string, log: Log): Promise<string[]> {
  const uids = new Set(allRecords(podPaths(rootDir)).map(({ uid }) => uid));
  if (uids.size === 0) return [];
  await stopPods(containerdDir(rootDir), uids).catch((error: unknown) =>
    log.warn('could not end every pod with volumes', { error: errorText(error) }),
  );
  const { given, left } = await giveBackVolumes(rootDir, { clock: systemClock, log });
  return [
    ...(given > 0 ? [`Gave ${given} volumes back to their storage drivers.`] : []),
    ...left.map((volume) => `Storage driver did not take back ${volume}: unmounted by force.`),
  ];
}
