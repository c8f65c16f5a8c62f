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

/** Name of the newest object that says it is the default; equal ages go by name. */
export function newestDefault(
  classes: readonly KubeObject[],
  annotation: string,
): string | undefined {
  const age = (one: KubeObject): number => Date.parse(one.metadata.creationTimestamp ?? '');
  const name = (one: KubeObject): string => one.metadata.name ?? '';
  const defaults = classes.filter((one) => one.metadata.annotations?.[annotation] === 'true');
  defaults.sort((a, b) => age(b) - age(a) || (name(a) < name(b) ? -1 : 1));
  return defaults[0]?.metadata.name;
}
