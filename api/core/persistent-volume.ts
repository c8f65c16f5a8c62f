import { coreRules } from '#api/core/core-rules.ts';
import { podSpecRules } from '#api/core/pod-spec-rules.ts';
import { validateVolume, validateVolumeUpdate } from '#api/core/persistent-volume-validate.ts';
import { accessModesText } from '#api/core/volume-columns.ts';
import { defaultNetworkVolume } from '#api/core/volume-defaults.ts';
import { volumeRules } from '#api/core/volume-rules.ts';
import { volumeWarnings } from '#api/core/volume-warnings.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, text, UNSET, wide } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { keepStatus, STATUS } from '#api/meta/status-part.ts';
import type { PersistentVolume, Volume } from '#api/types.ts';

/** Source: core/v1 PersistentVolume. */
export const persistentVolume = defineKind<PersistentVolume>({
  group: '',
  version: 'v1',
  kind: 'PersistentVolume',
  plural: 'persistentvolumes',
  singular: 'persistentvolume',
  shortNames: ['pv'],
  scope: 'Cluster',
  schema: 'V1PersistentVolume',
  fieldRules: [coreRules, podSpecRules, volumeRules, metaRules],
  generation: 'none',
  returnsDeleted: true,
  subresources: { status: STATUS },
  ageColumn: false,
  columns: [
    text(
      'Capacity',
      (object) => object.spec?.capacity?.['storage'] ?? '',
      'V1PersistentVolumeSpec.capacity',
    ),
    text(
      'Access Modes',
      (object) => accessModesText(object.spec?.accessModes),
      'V1PersistentVolumeSpec.accessModes',
    ),
    text(
      'Reclaim Policy',
      (object) => object.spec?.persistentVolumeReclaimPolicy ?? '',
      'V1PersistentVolumeSpec.persistentVolumeReclaimPolicy',
    ),
    text(
      'Status',
      (object) =>
        object.metadata.deletionTimestamp ? 'Terminating' : (object.status?.phase ?? ''),
      'V1PersistentVolumeStatus.phase',
    ),
    text(
      'Claim',
      (object) => {
        const claim = object.spec?.claimRef;
        return claim ? `${claim.namespace ?? ''}/${claim.name ?? ''}` : '';
      },
      'V1PersistentVolumeSpec.claimRef',
    ),
    text('StorageClass', (object) => object.spec?.storageClassName ?? '', 'StorageClass of the pv'),
    text(
      'VolumeAttributesClass',
      (object) => object.spec?.volumeAttributesClassName || UNSET,
      'VolumeAttributesClass of the pv',
    ),
    text('Reason', (object) => object.status?.reason ?? '', 'V1PersistentVolumeStatus.reason'),
    AGE,
    wide(
      text(
        'VolumeMode',
        (object) => object.spec?.volumeMode ?? UNSET,
        'V1PersistentVolumeSpec.volumeMode',
      ),
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    const { spec, status } = object;
    if (!status.phase) status.phase = 'Pending';
    if (!spec.persistentVolumeReclaimPolicy) spec.persistentVolumeReclaimPolicy = 'Retain';
    spec.volumeMode ??= 'Filesystem';
    if (spec.hostPath) spec.hostPath.type ??= '';
    canonicalResources(spec.capacity);
    defaultNetworkVolume(spec as unknown as Volume);
  },
  prepareForCreate(object) {
    object.status = { phase: 'Pending' };
    const { creationTimestamp } = object.metadata;
    if (creationTimestamp) object.status.lastPhaseTransitionTime = creationTimestamp;
  },
  prepareForUpdate: keepStatus,
  validate: validateVolume,
  validateUpdate: validateVolumeUpdate,
  warnings: volumeWarnings,
});
