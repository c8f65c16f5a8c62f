import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { canonicalText } from '#api/meta/resource-list.ts';
import { storageRules } from '#api/storage/storage-rules.ts';
import type { CSIStorageCapacity } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkImmutable, checkQuantityNotNegative } from '#api/validate.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { nameIsDnsSubdomain } from '#api/validate-names.ts';

/** Source: storage.k8s.io/v1 CSIStorageCapacity. */
export const csiStorageCapacity = defineKind<CSIStorageCapacity>({
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'CSIStorageCapacity',
  plural: 'csistoragecapacities',
  singular: 'csistoragecapacity',
  scope: 'Namespaced',
  schema: 'V1CSIStorageCapacity',
  fieldRules: [storageRules, metaRules],
  generation: 'none',
  unconditionalUpdate: false,
  columns: [
    text(
      'StorageClassName',
      (object) => object.storageClassName ?? '',
      'V1CSIStorageCapacity.storageClassName',
    ),
    text('Capacity', (object) => object.capacity ?? '<unset>', 'V1CSIStorageCapacity.capacity'),
  ],

  defaults(object) {
    object.storageClassName ??= '';
    for (const field of ['capacity', 'maximumVolumeSize'] as const) {
      if (object[field] !== undefined) object[field] = canonicalText(object[field]);
    }
  },
  validate(object) {
    const errors: Errors = [];
    checkLabelSelector(errors, 'nodeTopology', object.nodeTopology);
    const name = object.storageClassName;
    addInvalid(errors, 'storageClassName', name, nameIsDnsSubdomain(name, false));
    if (object.capacity !== undefined) {
      checkQuantityNotNegative(errors, 'capacity', object.capacity);
    }
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'nodeTopology', object.nodeTopology, old.nodeTopology);
    checkImmutable(errors, 'storageClassName', object.storageClassName, old.storageClassName);
    return errors;
  },
});
