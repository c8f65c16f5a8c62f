import { imagePullPolicyFor } from '#api/core/image-name.ts';
import { canonicalText } from '#api/meta/resource-list.ts';
import type { Volume } from '#api/types.ts';

/** Files without a mode of their own: 0644. */
const DEFAULT_MODE = 0o644;
const TOKEN_SECONDS = 3600;

type WithFieldRefs = {
  items?: {
    fieldRef?: { apiVersion?: string };
    resourceFieldRef?: { divisor?: string };
  }[];
};

/** Source: core/v1 Volume and the volume sources. */
export function defaultVolume(volume: Volume): void {
  if (Object.keys(volume).every((key) => key === 'name' || volume[key as 'name'] == null)) {
    volume.emptyDir = {};
  }
  if (volume.emptyDir?.sizeLimit !== undefined) {
    volume.emptyDir.sizeLimit = canonicalText(volume.emptyDir.sizeLimit);
  }
  if (volume.secret) volume.secret.defaultMode ??= DEFAULT_MODE;
  if (volume.configMap) volume.configMap.defaultMode ??= DEFAULT_MODE;
  if (volume.downwardAPI) {
    volume.downwardAPI.defaultMode ??= DEFAULT_MODE;
    defaultFieldRefs(volume.downwardAPI);
  }
  if (volume.hostPath) volume.hostPath.type ??= '';
  if (volume.projected) defaultProjected(volume.projected);
  if (volume.image && !volume.image.pullPolicy) {
    volume.image.pullPolicy = imagePullPolicyFor(volume.image.reference);
  }
  const claim = volume.ephemeral?.volumeClaimTemplate;
  if (claim) {
    claim.metadata ??= {};
    claim.spec ??= {};
    claim.spec.volumeMode ??= 'Filesystem';
    claim.spec.resources ??= {};
  }
  defaultNetworkVolume(volume);
}

function defaultProjected(projected: NonNullable<Volume['projected']>): void {
  projected.defaultMode ??= DEFAULT_MODE;
  for (const source of projected.sources ?? []) {
    if (source.serviceAccountToken) source.serviceAccountToken.expirationSeconds ??= TOKEN_SECONDS;
    if (source.downwardAPI) defaultFieldRefs(source.downwardAPI);
  }
}

function defaultFieldRefs({ items }: WithFieldRefs): void {
  for (const item of items ?? []) {
    if (item.fieldRef && !item.fieldRef.apiVersion) item.fieldRef.apiVersion = 'v1';
    if (item.resourceFieldRef) item.resourceFieldRef.divisor ??= '0';
  }
}

type NetworkSources = Pick<Volume, 'iscsi' | 'rbd' | 'azureDisk' | 'scaleIO'>;

/** Also used for PersistentVolumes, whose sources differ in their secret references only. */
export function defaultNetworkVolume({ iscsi, rbd, azureDisk, scaleIO }: NetworkSources): void {
  if (iscsi && !iscsi.iscsiInterface) iscsi.iscsiInterface = 'default';
  if (rbd) {
    if (!rbd.pool) rbd.pool = 'rbd';
    if (!rbd.user) rbd.user = 'admin';
    if (!rbd.keyring) rbd.keyring = '/etc/ceph/keyring';
  }
  if (azureDisk) {
    azureDisk.cachingMode ??= 'ReadWrite';
    azureDisk.kind ??= 'Shared';
    azureDisk.fsType ??= 'ext4';
    azureDisk.readOnly ??= false;
  }
  if (scaleIO) {
    if (!scaleIO.storageMode) scaleIO.storageMode = 'ThinProvisioned';
    if (!scaleIO.fsType) scaleIO.fsType = 'xfs';
  }
}
