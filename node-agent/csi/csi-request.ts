import { parseQuantity, quantityValue } from '#api/quantity.ts';
import type {
  CSIDriver,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Volume,
} from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { NodeCapability, VolumeCapability } from '#node-agent/csi/csi-driver.ts';
import { inlineHandle } from '#node-agent/csi/csi-paths.ts';

/** What a pod wants of a CSI driver, whichever kind of volume says so. */
export type CsiRequest = {
  pod: Pod;
  /** Name in the pod's spec. */
  volume: string;
  /** '' when it is inline. */
  claim: string;
  /** The PersistentVolume, or the pod's volume when it is inline. */
  name: string;
  driver: string;
  handle: string;
  lifecycle: 'Persistent' | 'Ephemeral';
  block: boolean;
  readOnly: boolean;
  fsType: string;
  mountOptions: readonly string[];
  accessModes: readonly string[];
  attributes: Readonly<Record<string, string>>;
  secrets: {
    stage?: SecretRef | undefined;
    publish?: SecretRef | undefined;
    expand?: SecretRef | undefined;
  };
  /** Set when the volume has become larger than what the claim has been told. */
  growth?: { claim: PersistentVolumeClaim; volume: PersistentVolume } | undefined;
};

export type SecretRef = { namespace: string; name: string };

const refOf = (
  ref: { name?: string; namespace?: string } | undefined,
  namespace = '',
): SecretRef | undefined =>
  ref?.name ? { namespace: ref.namespace ?? namespace, name: ref.name } : undefined;

/** A claim's volume as a request. Pure. */
export function persistentRequest(of: {
  pod: Pod;
  volume: Volume;
  persistent: PersistentVolume;
  claim: PersistentVolumeClaim;
  readOnly: boolean;
}): CsiRequest {
  const { pod, volume, persistent, claim, readOnly } = of;
  const { csi, accessModes = [], mountOptions = [], volumeMode } = persistent.spec ?? {};
  return {
    pod,
    volume: volume.name,
    claim: claim.metadata.name ?? '',
    name: persistent.metadata.name ?? '',
    driver: csi?.driver ?? '',
    handle: csi?.volumeHandle ?? '',
    lifecycle: 'Persistent',
    block: volumeMode === 'Block',
    readOnly: readOnly || csi?.readOnly === true,
    fsType: csi?.fsType ?? '',
    mountOptions,
    accessModes,
    attributes: csi?.volumeAttributes ?? {},
    secrets: {
      stage: refOf(csi?.nodeStageSecretRef),
      publish: refOf(csi?.nodePublishSecretRef),
      expand: refOf(csi?.nodeExpandSecretRef),
    },
    growth: hasGrown(persistent, claim) ? { claim, volume: persistent } : undefined,
  };
}

/** An inline volume as a request. Pure. */
export function inlineRequest(pod: Pod, volume: Volume): CsiRequest {
  const { csi } = volume;
  return {
    pod,
    volume: volume.name,
    claim: '',
    name: volume.name,
    driver: csi?.driver ?? '',
    handle: inlineHandle(pod.metadata.uid ?? '', volume.name),
    lifecycle: 'Ephemeral',
    block: false,
    readOnly: csi?.readOnly === true,
    fsType: csi?.fsType ?? '',
    mountOptions: [],
    accessModes: ['ReadWriteOnce'],
    attributes: csi?.volumeAttributes ?? {},
    secrets: { publish: refOf(csi?.nodePublishSecretRef, pod.metadata.namespace) },
  };
}

export const sizeOf = (text: string | undefined): number =>
  quantityValue(parseQuantity(text ?? '0'));

/** The volume is larger than what its claim has been told. */
export function hasGrown({ spec }: PersistentVolume, { status }: PersistentVolumeClaim): boolean {
  const told = status?.capacity?.['storage'];
  return told !== undefined && sizeOf(spec?.capacity?.['storage']) > sizeOf(told);
}

/** Whether the driver may be used this way at all. Throws ConfigError in the kubelet's words. */
export function checkLifecycle(request: CsiRequest, driver: CSIDriver | undefined): void {
  const { lifecycle, driver: name } = request;
  if (!driver) {
    if (lifecycle === 'Persistent') return;
    throw new ConfigError(
      `volume mode "Ephemeral" not supported by driver ${name} (no CSIDriver object)`,
    );
  }
  const modes = driver.spec.volumeLifecycleModes ?? ['Persistent'];
  if (modes.includes(lifecycle)) return;
  throw new ConfigError(
    `volume mode "${lifecycle}" not supported by driver ${name} (only supports ${JSON.stringify(modes)})`,
  );
}

export const needsAttachment = (
  { lifecycle }: CsiRequest,
  driver: CSIDriver | undefined,
): boolean => lifecycle === 'Persistent' && driver?.spec.attachRequired !== false;

/** How the group of a pod gets at a volume. Source: CSIDriver.spec.fsGroupPolicy. */
export function groupAccess(
  { accessModes, block, fsType, pod, readOnly }: CsiRequest,
  driver: CSIDriver | undefined,
  capabilities: ReadonlySet<NodeCapability>,
): { by: 'nobody' } | { by: 'driver' | 'agent'; gid: number } {
  const gid = pod.spec.securityContext?.fsGroup;
  const policy = driver?.spec.fsGroupPolicy ?? 'ReadWriteOnceWithFSType';
  if (gid === undefined || block || policy === 'None') return { by: 'nobody' };
  if (capabilities.has('VOLUME_MOUNT_GROUP')) return { by: 'driver', gid };
  if (readOnly) return { by: 'nobody' };
  if (policy === 'File') return { by: 'agent', gid };
  const single = accessModes.every((mode) => /^ReadWriteOnce(Pod)?$/.test(mode));
  return fsType !== '' && single ? { by: 'agent', gid } : { by: 'nobody' };
}

/** Access modes in CSI's words; a driver that can tell pods apart is told more exactly. */
function accessMode(modes: readonly string[], capabilities: ReadonlySet<NodeCapability>): string {
  const exact = capabilities.has('SINGLE_NODE_MULTI_WRITER');
  if (modes.includes('ReadWriteMany')) return 'MULTI_NODE_MULTI_WRITER';
  if (modes.includes('ReadOnlyMany') && !modes.includes('ReadWriteOnce'))
    return 'MULTI_NODE_READER_ONLY';
  if (modes.includes('ReadWriteOncePod'))
    return exact ? 'SINGLE_NODE_SINGLE_WRITER' : 'SINGLE_NODE_WRITER';
  return exact ? 'SINGLE_NODE_MULTI_WRITER' : 'SINGLE_NODE_WRITER';
}

export function capabilityOf(
  request: CsiRequest,
  driver: CSIDriver | undefined,
  capabilities: ReadonlySet<NodeCapability>,
): VolumeCapability {
  const mode = { accessMode: { mode: accessMode(request.accessModes, capabilities) } };
  if (request.block) return { ...mode, block: {} };
  const group = groupAccess(request, driver, capabilities);
  const { fsType, mountOptions } = request;
  const byDriver = group.by === 'driver' ? { volumeMountGroup: String(group.gid) } : {};
  return { ...mode, mount: { fsType, mountFlags: mountOptions, ...byDriver } };
}

const CONTEXT = 'csi.storage.k8s.io';
export const TOKENS_KEY = `${CONTEXT}/serviceAccount.tokens`;

/** What a driver that asks for it is told of the pod. Source: CSIDriver.spec.podInfoOnMount. */
export function podContext(
  { pod, lifecycle }: CsiRequest,
  driver: CSIDriver | undefined,
): Record<string, string> {
  if (!driver?.spec.podInfoOnMount) return {};
  const { name = '', namespace = '', uid = '' } = pod.metadata;
  return {
    [`${CONTEXT}/pod.name`]: name,
    [`${CONTEXT}/pod.namespace`]: namespace,
    [`${CONTEXT}/pod.uid`]: uid,
    [`${CONTEXT}/serviceAccount.name`]: pod.spec.serviceAccountName ?? 'default',
    [`${CONTEXT}/ephemeral`]: String(lifecycle === 'Ephemeral'),
  };
}
