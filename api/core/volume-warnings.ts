import type { ObjectMeta, PersistentVolume } from '#api/types.ts';

const CLASS_ANNOTATION = 'volume.beta.kubernetes.io/storage-class';
const MOUNT_ANNOTATION = 'volume.beta.kubernetes.io/mount-options';

/** Drivers that were part of Kubernetes once: when they were deprecated and stopped working. */
const GONE_SOURCES = {
  photonPersistentDisk: ['v1.11', 'v1.16'],
  scaleIO: ['v1.16', 'v1.22'],
  storageos: ['v1.22', 'v1.25'],
  glusterfs: ['v1.25', 'v1.26'],
  rbd: ['v1.28', 'v1.31'],
  cephfs: ['v1.28', 'v1.31'],
} as const;

/** Storage classes were named by an annotation before they had a field. */
export function warnOfClassAnnotation(found: string[], metadata: ObjectMeta): void {
  if (metadata.annotations?.[CLASS_ANNOTATION] === undefined) return;
  const instead = 'deprecated since v1.8; use "storageClassName" attribute instead';
  found.push(`metadata.annotations[${CLASS_ANNOTATION}]: ${instead}`);
}

/** What an author of a volume should know although it is accepted. */
export function volumeWarnings({ metadata, spec }: PersistentVolume): string[] {
  const found: string[] = [];
  warnOfClassAnnotation(found, metadata);
  if (metadata.annotations?.[MOUNT_ANNOTATION] !== undefined) {
    const instead = 'deprecated since v1.31; use "mountOptions" attribute instead';
    found.push(`metadata.annotations[${MOUNT_ANNOTATION}]: ${instead}`);
  }
  if (spec?.persistentVolumeReclaimPolicy === 'Recycle') {
    found.push(
      'spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. ' +
        'Instead, the recommended approach is to use dynamic provisioning.',
    );
  }
  for (const [field, [deprecated, gone]] of Object.entries(GONE_SOURCES)) {
    if (spec?.[field as keyof typeof GONE_SOURCES] === undefined) continue;
    found.push(`spec.${field}: deprecated in ${deprecated}, non-functional in ${gone}+`);
  }
  return found;
}
