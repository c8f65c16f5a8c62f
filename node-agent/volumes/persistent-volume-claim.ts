import { stat } from 'node:fs/promises';
import { LOCAL_DRIVER } from '#api/csi-names.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, Volume } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { persistentRequest, sizeOf } from '#node-agent/csi/csi-request.ts';
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
    const { pod, volume, objects, csi, refresh } = context;
    if (refresh && !csi.hasPersistent(pod.metadata.uid ?? '')) return '';
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
    if (!source || source.driver === LOCAL_DRIVER)
      return refresh ? '' : pathOf(persistent, claim, context);
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
  const path = isOurs
    ? await context.local.directory(spec.csi?.volumeHandle ?? '', context.objects)
    : (spec.local?.path ?? '');
  const there = await stat(path).catch(() => undefined);
  const isBlock = spec.volumeMode === 'Block';
  if (isBlock ? !there?.isBlockDevice() : !there?.isDirectory())
    throw new ConfigError(
      `path "${path}" is no ${isBlock ? 'block device' : 'directory'} of this node`,
    );
  const use: LocalUse = {
    uid: context.pod.metadata.uid ?? '',
    volume: context.volume.name,
    claim: claim.metadata.name ?? '',
    persistentVolume: metadata.name ?? '',
    path,
    capacityBytes: sizeOf(spec.capacity?.['storage']),
  };
  context.local.use(use, { exclusive: spec.accessModes?.includes('ReadWriteOncePod') ?? false });
  if (isBlock) return path;
  const { fsGroup, fsGroupChangePolicy } = context.pod.spec.securityContext ?? {};
  const onlyIfNeeded = fsGroupChangePolicy === 'OnRootMismatch';
  await giveToGroup(path, fsGroup, 'writable', { onlyIfNeeded });
  return path;
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
