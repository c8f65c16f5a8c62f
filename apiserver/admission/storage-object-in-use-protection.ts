import type { AdmissionRule } from '#apiserver/admission-rule.ts';

const FINALIZERS: Readonly<Record<string, string>> = {
  persistentvolumeclaims: 'kubernetes.io/pvc-protection',
  persistentvolumes: 'kubernetes.io/pv-protection',
  volumeattributesclasses: 'kubernetes.io/vac-protection',
};

/** Claims and volumes are born with a finalizer that a controller takes off when nobody uses them. */
export const storageObjectInUseProtection: AdmissionRule = {
  name: 'StorageObjectInUseProtection',
  handles: ({ operation, kind, subresource }) =>
    operation === 'CREATE' &&
    subresource === '' &&
    kind.plural in FINALIZERS &&
    kind.group === (kind.plural === 'volumeattributesclasses' ? 'storage.k8s.io' : ''),
  mutate({ object, kind }) {
    const finalizer = FINALIZERS[kind.plural];
    if (!object || finalizer === undefined) return;
    const present = object.metadata.finalizers ?? [];
    if (!present.includes(finalizer)) object.metadata.finalizers = [...present, finalizer];
  },
};
