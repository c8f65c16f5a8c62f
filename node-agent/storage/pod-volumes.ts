import { existsSync, statSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Container, Pod, Volume } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { DownwardSource } from '#node-agent/containers/downward-api.ts';
import { expand } from '#node-agent/containers/env-vars.ts';
import type { CsiVolumes } from '#node-agent/csi/csi-volumes.ts';
import type { LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import type { ImageVolumes } from '#node-agent/storage/image-volumes.ts';
import { mountsIn, unmountAll } from '#node-agent/storage/mounts.ts';
import { podDir, type PodPaths, volumeDir } from '#node-agent/pods/pod-files.ts';
import type { Device, Mount, RuntimeFeatures } from '#node-agent/runtime/service.ts';
import { resolveSubPath } from '#node-agent/storage/sub-path.ts';
import type { TrustBundles } from '#node-agent/storage/trust-bundles.ts';
import {
  NotYetError,
  type PodTokens,
  type ReferencedObjects,
  type VolumeContext,
  type VolumeType,
} from '#node-agent/storage/volume-type.ts';
import { volumeTypes } from '#node-agent/volumes.ts';

export type VolumeServices = {
  paths: PodPaths;
  /** A tmpfs for what holds secrets; undefined where none could be mounted. */
  memoryDir: string | undefined;
  objects: ReferencedObjects;
  tokens: PodTokens;
  csi: CsiVolumes;
  images: ImageVolumes;
  local: LocalVolumes;
  trust: TrustBundles;
};

/** A prepared volume: a path of the host, for a block volume that of a device. */
export type ReadyVolume = { path: string; readOnly: boolean };

function typeOf(volume: Volume): VolumeType {
  const type = volumeTypes.find((t) => t.handles(volume));
  if (type) return type;
  const kind = Object.keys(volume).find((key) => key !== 'name') ?? 'unknown';
  throw new ConfigError(`volume "${volume.name}": type ${kind} is not supported by this node`);
}

function contextOf(
  pod: Pod,
  volume: Volume,
  type: VolumeType,
  services: VolumeServices,
  rest: Pick<VolumeContext, 'downward' | 'refresh'>,
): VolumeContext {
  const uid = pod.metadata.uid ?? '';
  const { paths, memoryDir, objects, tokens, csi, images, local, trust } = services;
  const dir =
    type.inMemory && memoryDir
      ? join(memoryDir, uid, type.plugin, volume.name)
      : volumeDir(paths, uid, type.plugin, volume.name);
  return { pod, volume, dir, local, objects, tokens, csi, images, trust, ...rest };
}

/**
 * Makes all volumes of a pod; with `refresh` brings those up to date that follow something.
 * Throws an Error that names the volume.
 */
export async function prepareVolumes(
  pod: Pod,
  services: VolumeServices,
  downward: DownwardSource,
  { refresh = false }: { refresh?: boolean } = {},
): Promise<Map<string, ReadyVolume>> {
  const wanted = (pod.spec.volumes ?? []).filter((volume) => !refresh || typeOf(volume).live);
  const prepared = await Promise.all(
    wanted.map(async (volume): Promise<[string, ReadyVolume]> => {
      const type = typeOf(volume);
      try {
        const context = contextOf(pod, volume, type, services, { downward, refresh });
        const path = await type.prepare(context);
        const readOnly = type.readOnly || volume.persistentVolumeClaim?.readOnly === true;
        return [volume.name, { path, readOnly }];
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        const message = `MountVolume.SetUp failed for volume "${volume.name}" : ${text}`;
        if (error instanceof NotYetError) throw new NotYetError(message);
        throw new Error(message, { cause: error });
      }
    }),
  );
  return new Map(prepared);
}

/** True when some volume of the pod follows API objects. */
export const hasLiveVolumes = (pod: Pod): boolean =>
  (pod.spec.volumes ?? []).some((volume) => volumeTypes.find((t) => t.handles(volume))?.live);

const SUB_PATHS = 'volume-subpaths';

/** Where a pod's subPaths are mounted, as the kubelet lays them. */
export const subPathsDir = (paths: PodPaths, uid: string): string =>
  join(podDir(paths, uid), SUB_PATHS);

/** Unmounts and removes a pod's volumes. What a hostPath points to is not touched. */
export async function releaseVolumes(
  uid: string,
  services: Omit<VolumeServices, 'objects' | 'tokens' | 'trust'>,
): Promise<void> {
  const { paths, memoryDir, csi, images, local } = services;
  await unmountAll(subPathsDir(paths, uid)); // they would keep the volumes busy
  await local.releasePod(uid);
  await csi.releasePod(uid);
  await images.releasePod(uid);
  // Mounts of parts of volumes go before the volumes.
  for (const folder of [SUB_PATHS, 'volumes', 'volumeDevices']) {
    const dir = join(podDir(paths, uid), folder);
    await unmountAll(dir);
    await removeUnmounted(dir);
  }
  if (memoryDir) await rm(join(memoryDir, uid), { recursive: true, force: true });
}

/** What is still mounted would be removed with the data behind it. */
async function removeUnmounted(dir: string): Promise<void> {
  const [left] = mountsIn(dir);
  if (left) throw new Error(`${left} is still mounted`);
  await rm(dir, { recursive: true, force: true });
}

const PROPAGATION = {
  None: 'PROPAGATION_PRIVATE',
  HostToContainer: 'PROPAGATION_HOST_TO_CONTAINER',
  Bidirectional: 'PROPAGATION_BIDIRECTIONAL',
} as const;

/**
 * The mounts of one container; subPaths are mounted below `bindDir`, where there is one. Throws
 * ConfigError for a bad subPath or an unsupported option.
 */
export async function containerMounts(
  container: Container,
  volumes: ReadonlyMap<string, ReadyVolume>,
  env: ReadonlyMap<string, string>,
  features: RuntimeFeatures,
  bindDir?: string,
): Promise<Mount[]> {
  const mounts: Mount[] = [];
  for (const [index, mount] of (container.volumeMounts ?? []).entries()) {
    const volume = volumes.get(mount.name);
    if (!volume) throw new ConfigError(`volume "${mount.name}" is not mounted`);
    const readonly = volume.readOnly || mount.readOnly === true;
    if (mount.recursiveReadOnly === 'Enabled' && !features.recursiveReadOnlyMounts)
      throw new ConfigError(
        `volumeMount "${mount.name}": recursiveReadOnly is not supported by the container runtime`,
      );
    const recursive = features.recursiveReadOnlyMounts && mount.recursiveReadOnly !== 'Disabled';
    const subPath = mount.subPathExpr ? expandAll(mount.subPathExpr, env) : mount.subPath;
    mounts.push({
      containerPath: mount.mountPath.startsWith('/') ? mount.mountPath : `/${mount.mountPath}`,
      hostPath: subPath
        ? await resolveSubPath(
            { ...volume, subPath },
            bindDir && join(bindDir, mount.name, container.name, String(index)),
          )
        : await existing(volume.path),
      readonly,
      ...(readonly && recursive && mount.recursiveReadOnly ? { recursiveReadOnly: true } : {}),
      propagation: PROPAGATION[(mount.mountPropagation ?? 'None') as keyof typeof PROPAGATION],
    });
  }
  return mounts;
}

/** The block devices of one container. Throws ConfigError when one is not there. */
export function containerDevices(
  container: Container,
  volumes: ReadonlyMap<string, ReadyVolume>,
): Device[] {
  return (container.volumeDevices ?? []).map(({ name, devicePath }) => {
    const volume = volumes.get(name);
    if (!volume) throw new ConfigError(`volume "${name}" is not mapped`);
    const { path, readOnly } = volume;
    if (!statSync(path, { throwIfNoEntry: false })?.isBlockDevice())
      throw new ConfigError(`volumeDevice "${name}": ${path} is not a block device`);
    return { containerPath: devicePath, hostPath: path, permissions: readOnly ? 'r' : 'mrw' };
  });
}

/** The runtime would make a missing path; that has to be seen as what it is. */
async function existing(path: string): Promise<string> {
  if (!existsSync(path)) await mkdir(path, { recursive: true });
  return path;
}

function expandAll(expression: string, env: ReadonlyMap<string, string>): string {
  let missing: string | undefined;
  const text = expand(expression, (name) => {
    const value = env.get(name);
    if (value === undefined) missing ??= name;
    return value;
  });
  if (missing !== undefined || text === '')
    throw new ConfigError(`failed to expand subPathExpr "${expression}": ${missing ?? 'empty'}`);
  return text;
}
