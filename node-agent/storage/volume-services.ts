import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import type { Pod, Secret, ServiceAccount } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import type { EventRecorder } from '#client/events.ts';
import type { Informers } from '#client/informer-factory.ts';
import { persistentVolumeClaims, serviceAccounts } from '#client/resources.ts';
import { credentialSource, type ProviderFlags } from '#node-agent/images/credential-providers.ts';
import { createCsi, type Csi } from '#node-agent/csi/csi-drivers.ts';
import { grownClaim } from '#node-agent/csi/csi-growth.ts';
import { pluginsDir } from '#node-agent/csi/csi-paths.ts';
import { ImageVolumes } from '#node-agent/storage/image-volumes.ts';
import { createImages, type Images } from '#node-agent/images/images.ts';
import {
  DEFAULT_VERIFICATION,
  PullRecords,
  type PullVerification,
} from '#node-agent/images/pull-records.ts';
import { LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import { makeShared, mountTmpfs } from '#node-agent/storage/mounts.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import type { PodPaths } from '#node-agent/pods/pod-files.ts';
import {
  podTokens,
  pullSecretNames,
  referencedObjects,
} from '#node-agent/pods/referenced-objects.ts';
import type { ImageSnapshots } from '#node-agent/runtime/containerd-snapshots.ts';
import type { ImageService } from '#node-agent/runtime/service.ts';
import { trustBundles } from '#node-agent/storage/trust-bundles.ts';
import { VolumeUsage } from '#node-agent/storage/volume-usage.ts';
import { WatchedObjects } from '#node-agent/pods/watched-objects.ts';

export type VolumeServicesOptions = {
  api: Api;
  nodeName: string;
  rootDir: string;
  paths: PodPaths;
  informers: Informers;
  /** Images of the runtime that runs the pod, and of the one that shows them as volumes. */
  imagesOf: (pod: Pod) => ImageService;
  volumeImages: ImageService;
  /** The node's credential provider programs, and pulls at a time. */
  credentialProviders?: ProviderFlags | undefined;
  imagePullVerification?: PullVerification | undefined;
  parallelPulls?: number | undefined;
  /** Undefined where the runtime does not show its images. */
  snapshots: ImageSnapshots | undefined;
  events: EventRecorder;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
  /** Something that this pod refers to is different now. */
  onReferenceChange: (uid: string) => void;
};

/** Everything that volumes and images of pods are made with. */
export async function makeVolumeServices(
  options: VolumeServicesOptions,
): Promise<{ volumes: NodeServices['volumes']; images: Images; csi: Csi }> {
  const { api, rootDir, paths, informers, events, clock, log, signal } = options;
  await shareMounts(rootDir, paths, log);
  const objects = new WatchedObjects({
    informers,
    direct: referencedObjects(api, clock),
    clock,
    onChange: options.onReferenceChange,
  });
  const tokens = podTokens(api, clock);
  const csi = createCsi({
    ...options,
    log: log.child('csi'),
    objects: () => objects,
    tokens,
  });
  const verification = options.imagePullVerification ?? DEFAULT_VERIFICATION;
  const records = new PullRecords({ dir: join(rootDir, PULL_RECORDS), verification, clock, log });
  await options.volumeImages
    .listImages()
    .then((there) => records.recover(there))
    .catch((error: unknown) => log.warn('cannot list images', { error: errorText(error) }));
  const shared = {
    clock,
    events,
    records,
    credentials: credentialSource(options.credentialProviders, {
      clock,
      log,
      accounts: { tokens, account: (namespace, name) => accountOf(api, namespace, name) },
    }),
    parallelPulls: options.parallelPulls,
    pullSecrets: async (pod: Pod) => {
      const namespace = pod.metadata.namespace ?? '';
      const found = await Promise.all(
        pullSecretNames(pod).map((name) => objects.secret(namespace, name)),
      );
      return found.filter((secret): secret is Secret => secret !== undefined);
    },
  };
  const images = createImages({ ...shared, serviceOf: options.imagesOf });
  const volumeImages = createImages({ ...shared, serviceOf: () => options.volumeImages });
  const { snapshots } = options;
  const local = new LocalVolumes(join(rootDir, 'local-volumes'));
  local.onGrown = async (claim, volume, hasSize) => {
    if (hasSize) {
      const object = grownClaim(claim, volume);
      await api.update(persistentVolumeClaims, object, { subresource: 'status' });
    }
    events.record(
      { ...claim, apiVersion: 'v1', kind: 'PersistentVolumeClaim' },
      hasSize ? GROWN : GROWS_LATER,
    );
  };
  return {
    images,
    csi,
    volumes: {
      paths,
      memoryDir: await secretsDir(join(rootDir, 'memory'), log),
      objects,
      tokens,
      csi: csi.volumes,
      images: new ImageVolumes({ snapshots, images: volumeImages, paths, clock, signal }),
      local,
      trust: trustBundles(api),
      usage: new VolumeUsage({ csi: csi.volumes, local, objects, events, clock, log }),
      follow: (pod) => objects.follow(pod),
      forget: (uid) => {
        tokens.forget(uid);
        objects.forget(uid);
      },
      sweep: () => objects.sweep(),
    },
  };
}

/** Source: the kubelet's directory. */
const PULL_RECORDS = 'image_manager';

async function accountOf(
  api: Api,
  namespace: string,
  name: string,
): Promise<ServiceAccount | undefined> {
  try {
    return await api.get(serviceAccounts, { namespace, name });
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return undefined;
    throw error;
  }
}

const GROWN = {
  type: 'Normal',
  reason: 'FileSystemResizeSuccessful',
  message: 'MountVolume.NodeExpandVolume succeeded',
} as const;
const GROWS_LATER = {
  type: 'Warning',
  reason: 'FileSystemResizeFailed',
  message:
    'the kernel lets nobody here enlarge a mounted file system (CAP_SYS_RESOURCE is missing): ' +
    'the volume grows when its last pod has ended and the next one starts',
} as const;

/** Lets mounts spread between host and pods: those that pods make, and those of storage drivers. */
async function shareMounts(rootDir: string, paths: PodPaths, log: Log): Promise<void> {
  mkdirSync(pluginsDir(rootDir), { recursive: true, mode: 0o750 });
  for (const dir of [paths.podsDir, pluginsDir(rootDir)])
    await makeShared(dir).catch((error: unknown) =>
      log.warn('mounts cannot spread between host and pods', { dir, error: errorText(error) }),
    );
}

/** Secrets are kept off the disk where the host lets us mount. */
async function secretsDir(dir: string, log: Log): Promise<string | undefined> {
  try {
    await mountTmpfs(dir, { mode: 0o711 });
    return dir;
  } catch (error) {
    log.warn('no tmpfs for secrets; they go to disk', { error: errorText(error) });
    return undefined;
  }
}
