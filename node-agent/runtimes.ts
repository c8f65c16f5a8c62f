import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Node } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import { PAUSE_IMAGE } from '#node-agent/images-local/pause.ts';
import { createPeers, type PeerIdentity } from '#node-agent/images-local/peers.ts';
import type { RegistryHandler } from '#node-agent/images-local/registry.ts';
import { startLocalImages } from '#node-agent/images-local/start.ts';
import { type CgroupDriver } from '#node-agent/node/cgroup-layout.ts';
import { chooseDriver } from '#node-agent/node/node-cgroups.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { connectSnapshots, type ImageSnapshots } from '#node-agent/runtime/containerd-snapshots.ts';
import { detectHost } from '#node-agent/runtime/containerd-config.ts';
import {
  containerdPaths,
  contentDir,
  registryPort,
  ensureContainerd,
  stopContainerd,
} from '#node-agent/runtime/containerd-daemon.ts';
import {
  ensureMicrovmRuntime,
  type EnsureMicrovmOptions,
  hasMicrovmPods,
  stopMicrovmRuntime,
} from '#node-agent/runtime/microvm/daemon.ts';
import { missingForMicrovms } from '#node-agent/runtime/microvm/host.ts';
import { createRouter, type RuntimeRouter } from '#node-agent/runtime/router.ts';
import { MICROVM_HANDLER } from '#node-agent/runtime/service.ts';

/** How often the runtimes are asked whether they live. */
const LOOK_MS = 2_000;
/** What kept the microVM runtime from starting may pass: memory, a busy machine. */
const START_AGAIN_MS = 60_000;

export type RuntimesConfig = {
  /** Everything this node keeps: `<data-dir>/node/<name>`. */
  rootDir: string;
  /** A CRI socket; without, a containerd of our own runs below `rootDir`. */
  runtimeEndpoint?: string;
  /** Images of this machine; default `<data-dir>/images`, shared by all its nodes. */
  imageStoreDir?: string;
  /** Where the runtimes look for the CNI configuration; default below `rootDir`. */
  cniConfDir?: string;
  nodeName: string;
  /** Who makes pods' groups; a runtime that was given is asked first. */
  cgroupDriver?: CgroupDriver;
  /** Authority of the nodes' certificates, path. */
  clientCaFile?: string;
  /** With which other nodes are asked for images; without, they are not. */
  peerIdentity?: PeerIdentity;
  /** `auto` runs pods of the class `microvm` where the machine can; default `off`. */
  microvms?: 'auto' | 'off';
};

/** Whether pods can have microVMs here, in words for users; undefined when nobody asked for them. */
export type MicrovmState = { ready: boolean; reason: string; message: string } | undefined;

export type Runtimes = Pick<RuntimeRouter, 'client' | 'imagesFor'> & {
  /** Of the main runtime. */
  snapshots: ImageSnapshots;
  microvms(): MicrovmState;
  /** With whose groups the main runtime works. */
  cgroupDriver: CgroupDriver;
  /** Keeps the runtimes alive until the signal: pods run on without, but nothing can be done for them. */
  supervise(onChange: () => void, signal: AbortSignal): Promise<void>;
  /** Answers other nodes with images and layers that are here; absent for a runtime that was given. */
  serveImages?: RegistryHandler;
  done: Promise<void>;
};

type Around = { signal: AbortSignal; log: Log; clock: Clock };

/**
 * Connects to the runtime that was given, or starts our own with the images of this machine and,
 * where the node may know them, of the other `nodes`.
 */
export async function startRuntimes(
  config: RuntimesConfig,
  around: Around & { nodes: Informer<Node> | undefined },
): Promise<Runtimes> {
  const { signal, log, clock } = around;
  const main = await startMain(config, around);
  let state: MicrovmState =
    config.microvms === 'auto'
      ? { ready: false, reason: 'Starting', message: 'the microVM runtime is starting' }
      : undefined;
  const client = connectContainerd({ endpoint: main.endpoint, clock, log });
  const told = config.runtimeEndpoint ? await client.cgroupDriver?.() : undefined;
  const router = createRouter(client, {
    reserved: [MICROVM_HANDLER],
    missing: () => `this node has no microVMs: ${state?.message ?? 'they are turned off'}`,
  });
  const microvm = microvmOptions(config, around);
  let joined: RuntimeClient | undefined;
  let triedAtMs = 0;

  async function ensureMicrovms(): Promise<void> {
    const missing = config.runtimeEndpoint
      ? ['the container runtime is somebody else’s (--container-runtime-endpoint)']
      : missingForMicrovms();
    if (missing.length > 0) {
      state = { ready: false, reason: 'Missing', message: missing.join('; ') };
      return;
    }
    const { endpoint } = await ensureMicrovmRuntime(microvm);
    const client = joined ?? connectContainerd({ endpoint, clock, log });
    const ready = (await client.status()).find(({ type }) => type === 'RuntimeReady');
    if (!joined) router.add(MICROVM_HANDLER, client);
    joined = client;
    state = {
      ready: ready?.status === true,
      reason: ready?.reason ?? 'Unknown',
      message: ready?.message ?? 'the microVM runtime says nothing about itself',
    };
  }

  const tryMicrovms = async (): Promise<void> => {
    triedAtMs = clock.now();
    try {
      await ensureMicrovms();
    } catch (error) {
      signal.throwIfAborted();
      state = { ready: false, reason: 'Failed', message: errorText(error) };
      log.error('cannot start the microVM runtime', { error: errorText(error) });
    }
  };
  // VMs of an earlier start may run: their pods must not look as if they were gone.
  if (state && hasMicrovmPods(microvm.dir)) await tryMicrovms();

  return {
    client: router.client,
    imagesFor: (handler) => router.imagesFor(handler),
    snapshots: connectSnapshots(main.endpoint),
    microvms: () => state,
    cgroupDriver: chooseDriver(config.cgroupDriver, told),
    done: main.done,
    ...(main.serveImages ? { serveImages: main.serveImages } : {}),
    async supervise(onChange, until) {
      if (state && !joined) {
        await tryMicrovms();
        onChange();
      }
      while (!until.aborted) {
        await clock.sleep(LOOK_MS, { signal: until }).catch(() => undefined);
        if (until.aborted) return;
        try {
          await router.client.version();
        } catch (error) {
          log.warn('the container runtime does not answer', { error: errorText(error) });
          await main
            .revive()
            .catch((failure: unknown) =>
              log.error('could not start the container runtime', { error: errorText(failure) }),
            );
        }
        const { ready: before } = state ?? {};
        const answers = joined && (await joined.version().catch(() => undefined)) !== undefined;
        const waited = clock.now() - triedAtMs >= START_AGAIN_MS;
        // One that was asked too early after its restart answers now.
        const failed = state?.reason === 'Failed' && (answers || waited);
        if ((joined && !answers) || failed) await tryMicrovms();
        if (before !== state?.ready) onChange();
      }
    },
  };
}

type MainRuntime = Pick<Runtimes, 'done' | 'serveImages'> & {
  endpoint: string;
  /** Starts our own again when it died; nothing to do for one that was given. */
  revive(): Promise<void>;
};

async function startMain(
  config: RuntimesConfig,
  { nodes, signal, log, clock }: Around & { nodes: Informer<Node> | undefined },
): Promise<MainRuntime> {
  if (config.runtimeEndpoint)
    return {
      endpoint: config.runtimeEndpoint,
      done: Promise.resolve(),
      revive: () => Promise.resolve(),
    };
  const storeDir = config.imageStoreDir ?? join(config.rootDir, '../../images');
  const dir = containerdDir(config.rootDir);
  const { nodeName, peerIdentity: identity, clientCaFile: caFile } = config;
  const peers =
    nodes && identity && caFile
      ? createPeers({ nodes, nodeName, identity, caFile, log })
      : undefined;
  const images = { storeDir, contentDir: contentDir(dir), peers };
  // The port of the last start, where it is free: then nothing has to be written, nor read again.
  const local = await startLocalImages(
    { ...images, port: registryPort(dir) },
    { signal, log },
  ).catch(() => startLocalImages(images, { signal, log }));
  const ensure = () =>
    ensureContainerd({
      dir,
      cniConfDir: cniConfDir(config),
      sandboxImage: PAUSE_IMAGE,
      systemdCgroup: config.cgroupDriver === 'systemd',
      registries: local.registries,
      clock,
      log,
      signal,
    });
  const { endpoint } = await ensure();
  const revive = async (): Promise<void> => void (await ensure());
  return { endpoint, done: local.done, revive, serveImages: local.forPeers };
}

export const containerdDir = (rootDir: string): string => join(rootDir, 'containerd');
const microvmDir = (rootDir: string): string => join(rootDir, 'microvm');
const cniConfDir = (config: Pick<RuntimesConfig, 'rootDir' | 'cniConfDir'>): string =>
  config.cniConfDir ?? join(config.rootDir, 'cni');

/** How the microVM runtime of a node is started, whoever does it. */
export function microvmOptions(
  config: Pick<RuntimesConfig, 'rootDir' | 'cniConfDir'>,
  around: Around,
): EnsureMicrovmOptions {
  const { rootDir } = config;
  return {
    dir: microvmDir(rootDir),
    cacheDir: join(rootDir, '../../microvm-guest'),
    certsDir: containerdPaths(containerdDir(rootDir)).certsDir,
    cniConfDir: cniConfDir(config),
    cniBinDir: detectHost().cniBinDir ?? '/opt/cni/bin',
    ...around,
  };
}

/** Stops the runtimes of a node with all their pods; images stay. Idempotent. */
export async function stopRuntimes(
  rootDir: string,
  { log, clock }: Pick<Around, 'log' | 'clock'>,
): Promise<void> {
  const signal = new AbortController().signal;
  const options = microvmOptions({ rootDir }, { log, clock, signal });
  await stopMicrovmRuntime(options.dir, {
    revive: () => ensureMicrovmRuntime(options),
    log,
    clock,
  });
  await stopContainerd(containerdDir(rootDir), { log });
}
