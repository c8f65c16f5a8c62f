import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import { forbiddenError } from '#api/status.ts';
import type { PersistentVolumeClaim, StorageClass } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';

const CLAIMS = { group: '', resource: 'persistentvolumeclaims' };

/**
 * A claim grows only where its class lets volumes grow, and only once it has its volume.
 * Source: Kubernetes "Admission Control", PersistentVolumeClaimResize.
 */
export const claimResize: AdmissionRule = {
  name: 'PersistentVolumeClaimResize',
  handles: ({ operation, kind, subresource }) =>
    operation === 'UPDATE' &&
    kind.group === '' &&
    kind.plural === CLAIMS.resource &&
    subresource === '',
  validate({ object, oldObject }, { reader }) {
    if (!object || !oldObject) return;
    const now = object as unknown as PersistentVolumeClaim;
    const before = oldObject as unknown as PersistentVolumeClaim;
    if (compareQuantity(sizeOf(now), sizeOf(before)) <= 0) return;
    const refuse = (why: string): Error => forbiddenError(CLAIMS, now.metadata.name ?? '', why);
    if (before.status?.phase !== 'Bound')
      throw refuse('Only bound persistent volume claims can be expanded');
    const name = now.spec?.storageClassName;
    const home = name
      ? (reader.get('storage.k8s.io', 'storageclasses', { name }) as StorageClass | undefined)
      : undefined;
    if (home?.allowVolumeExpansion) return;
    throw refuse(
      'only dynamically provisioned pvc can be resized and the storageclass that provisions the ' +
        'pvc must support resize',
    );
  },
};

const sizeOf = ({ spec }: PersistentVolumeClaim) =>
  parseQuantity(spec?.resources?.requests?.['storage'] ?? '0');
