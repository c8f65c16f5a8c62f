import {
  atomicList,
  emptyText,
  mergeMap,
  no,
  oneOf,
  rulesOf,
  setList,
  struct,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of storage lack (storage): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const storageRules: FieldRules = rulesOf({
  StorageV1TokenRequest: { audience: emptyText },
  V1CSIDriver: { spec: struct },
  V1CSIDriverSpec: { tokenRequests: atomicList, volumeLifecycleModes: setList },
  V1CSINode: { spec: struct },
  V1CSINodeDriver: { name: emptyText, nodeID: emptyText, topologyKeys: atomicList },
  V1CSINodeSpec: { drivers: mergeMap('name') },
  V1CSIStorageCapacity: { storageClassName: emptyText },
  V1StorageClass: {
    allowedTopologies: atomicList,
    mountOptions: atomicList,
    provisioner: emptyText,
    reclaimPolicy: oneOf('Delete', 'Recycle', 'Retain'),
    volumeBindingMode: oneOf('Immediate', 'WaitForFirstConsumer'),
  },
  V1VolumeAttachment: { spec: struct, status: struct },
  V1VolumeAttachmentSpec: { attacher: emptyText, nodeName: emptyText, source: struct },
  V1VolumeAttachmentStatus: { attached: no },
  V1VolumeAttributesClass: { driverName: emptyText },
});
