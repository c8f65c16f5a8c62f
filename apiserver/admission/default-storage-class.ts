import { newestDefault } from '#api/default-class.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';

const IS_DEFAULT = 'storageclass.kubernetes.io/is-default-class';
const OLD_ANNOTATION = 'volume.beta.kubernetes.io/storage-class';

/**
 * A claim that names no class gets the default one; of several defaults the newest counts.
 * Source: Kubernetes "Storage Classes", default StorageClass.
 */
export const defaultStorageClass: AdmissionRule = {
  name: 'DefaultStorageClass',
  handles: ({ operation, kind, subresource }) =>
    operation === 'CREATE' &&
    kind.group === '' &&
    kind.plural === 'persistentvolumeclaims' &&
    subresource === '',
  mutate({ object }, { reader }) {
    const claim = object as (KubeObject & { spec?: { storageClassName?: string } }) | null;
    if (!claim?.spec || claim.spec.storageClassName !== undefined) return;
    if (claim.metadata.annotations?.[OLD_ANNOTATION] !== undefined) return;
    const name = newestDefault(reader.list('storage.k8s.io', 'storageclasses'), IS_DEFAULT);
    if (name !== undefined) claim.spec.storageClassName = name;
  },
};
