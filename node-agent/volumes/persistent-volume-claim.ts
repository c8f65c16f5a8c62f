import { stat } from 'node:fs/promises';
import { LOCAL_DRIVER, LOCAL_TYPE } from '#api/csi-names.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, Volume } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { hasGrown, persistentRequest, sizeOf } from '#node-agent/csi/csi-request.ts';
import type { LocalUse } from '#node-agent/storage/local-volumes.ts';
import { mountNfs } from '#node-agent/storage/mounts.ts';
import { giveToGroup } from '#node-agent/storage/volume-ownership.ts';
import {
  NotYetError,
  type VolumeContext,
  type VolumeType,
} from '#node-agent/storage/volume-type.ts';
import { hostPathVolume } from '#node-agent/volumes/host-path.ts';

/**
 * What a claim is bound to: a directory of this node, by `local` or by `hostPath`. Also the claims
 * that are made for a pod alone (`ephemeral`). It outlives the pod: nothing is removed with it.
 */
export const persistentVolumeClaimVolume: VolumeType = {
  plugin: 'local-volume',
  live: true,
  readOnly: false,
  inMemory: false,
  handles: (volume) => volume.persistentVolumeClaim !== undefined || volume.ephemeral !== undefined,
  async prepare(context) {
    const { pod, volume, objects, csi, local, refresh } = context;
    const uid = pod.metadata.uid ?? '';
    if (refresh && !csi.hasPersistent(uid) && !local.mayChange(uid, volume.name)) return '';
    const name = claimName(pod, volume);
    const claim = await objects.claim(pod.metadata.namespace ?? '', name);
    if (!claim) throw new ConfigError(`persistentvolumeclaim "${name}" not found`);
    if (volume.ephemeral && !belongsTo(claim, pod))
      throw new ConfigError(
        `PVC ${pod.metadata.namespace}/${name} was not created for pod ` +
          `${pod.metadata.namespace}/${pod.metadata.name} (pod is not owner)`,
      );
    const bound = claim.spec?.volumeName;
    if (!bound || claim.status?.phase !== 'Bound')
      throw new NotYetError(`persistentvolumeclaim "${name}" is not bound`);
    const persistent = await objects.persistentVolume(bound);
    if (!persistent) throw new ConfigError(`persistentvolume "${bound}" not found`);
    if (persistent.spec?.claimRef?.uid !== claim.metadata.uid)
      throw new ConfigError(`persistentvolume "${bound}" is bound to another claim than "${name}"`);
    const source = persistent.spec?.csi;
    local.looked(uid, volume.name);
    if (!source || source.driver === LOCAL_DRIVER) return pathOf(persistent, claim, context);
    const readOnly = volume.persistentVolumeClaim?.readOnly === true;
    const request = persistentRequest({ pod, volume, persistent, claim, readOnly });
    if (refresh && !request.growth && !csi.republishes(source.driver)) return '';
    return csi.mount(request, { refresh });
  },
};

const claimName = (pod: Pod, { name, persistentVolumeClaim }: Volume): string =>
  persistentVolumeClaim?.claimName ?? `${pod.metadata.name}-${name}`;

const belongsTo = ({ metadata }: PersistentVolumeClaim, pod: Pod): boolean =>
  (metadata.ownerReferences ?? []).some((o) => o.controller && o.uid === pod.metadata.uid);

async function pathOf(
  { metadata, spec }: PersistentVolume,
  claim: PersistentVolumeClaim,
  context: VolumeContext,
): Promise<string> {
  if (context.refresh && (spec?.hostPath ?? spec?.nfs)) return '';
  if (spec?.hostPath) {
    const volume: Volume = { name: context.volume.name, hostPath: spec.hostPath };
    return hostPathVolume.prepare({ ...context, volume });
  }
  if (spec?.nfs) {
    const { server, path, readOnly } = spec.nfs;
    const options = [...(spec.mountOptions ?? []), ...(readOnly ? ['ro'] : [])];
    await mountNfs(context.dir, { server, path, options });
    return context.dir;
  }
  const isOurs = spec?.csi?.driver === LOCAL_DRIVER;
  if (!spec?.local && !isOurs) throw new ConfigError(unsupported(metadata.name, spec ?? {}));
  const place = await placeOf({ metadata, spec }, claim, context);
  const use: LocalUse = {
    uid: context.pod.metadata.uid ?? '',
    volume: context.volume.name,
    claim: claim.metadata.name ?? '',
    persistentVolume: metadata.name ?? '',
    capacityBytes: sizeOf(spec.capacity?.['storage']),
    ...place,
  };
  const exclusive = spec.accessModes?.includes('ReadWriteOncePod') ?? false;
  context.local.use(use, { exclusive, refresh: context.refresh });
  if (spec.volumeMode === 'Block' || context.refresh) return use.path;
  const { fsGroup, fsGroupChangePolicy } = context.pod.spec.securityContext ?? {};
  const onlyIfNeeded = fsGroupChangePolicy === 'OnRootMismatch';
  await giveToGroup(use.path, fsGroup, 'writable', { onlyIfNeeded });
  return use.path;
}

type Place = Pick<LocalUse, 'path' | 'mounted' | 'growable'>;

/** Where a volume of this node is: a directory, a device, or a file system that is mounted for it. */
async function placeOf(
  volume: PersistentVolume,
  claim: PersistentVolumeClaim,
  { local, objects, refresh }: VolumeContext,
): Promise<Place> {
  const { csi, local: source, mountOptions: options = [], volumeMode } = volume.spec ?? {};
  const handle = csi?.volumeHandle ?? '';
  if (csi?.volumeAttributes?.[LOCAL_TYPE] === 'image') {
    const sizeBytes = sizeOf(volume.spec?.capacity?.['storage']);
    const grows = hasGrown(volume, claim);
    const image = { sizeBytes, options, objects, isThere: refresh && !grows };
    const { path, hasSize } = await local.image(handle, image);
    if (grows) await local.onGrown(claim, volume, hasSize);
    return { path, mounted: true, growable: true };
  }
  const path = csi ? await local.directory(handle, objects) : (source?.path ?? '');
  const there = await stat(path).catch(() => undefined);
  if (volumeMode === 'Block') {
    if (there?.isBlockDevice()) return { path };
    throw new ConfigError(`path "${path}" is no block device of this node`);
  }
  if (there?.isBlockDevice()) {
    const fsType = source?.fsType ?? '';
    const readOnly = volume.spec?.accessModes?.every((mode) => mode === 'ReadOnlyMany') ?? false;
    const disk = { device: path, fsType, options, readOnly };
    return { path: await local.disk(volume.metadata.name ?? '', disk), mounted: true };
  }
  if (there?.isDirectory()) return { path };
  throw new ConfigError(`path "${path}" is no directory or block device of this node`);
}

const COMMON_FIELDS = new Set([
  'accessModes',
  'capacity',
  'claimRef',
  'mountOptions',
  'nodeAffinity',
  'persistentVolumeReclaimPolicy',
  'storageClassName',
  'volumeAttributesClassName',
  'volumeMode',
]);

function unsupported(name: string | undefined, spec: object): string {
  const kind = Object.keys(spec).find((field) => !COMMON_FIELDS.has(field)) ?? 'unknown';
  return (
    `persistentvolume "${name}": volumes of type ${kind} are not supported by this node; ` +
    'csi, local, hostPath and nfs are'
  );
}
