import { required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { checkParameters } from '#api/storage/storage-class.ts';
import { storageRules } from '#api/storage/storage-rules.ts';
import type { VolumeAttributesClass } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkQualifiedName } from '#api/validate.ts';

/** Source: storage.k8s.io/v1 VolumeAttributesClass. */
export const volumeAttributesClass = defineKind<VolumeAttributesClass>({
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'VolumeAttributesClass',
  plural: 'volumeattributesclasses',
  singular: 'volumeattributesclass',
  shortNames: ['vac'],
  scope: 'Cluster',
  schema: 'V1VolumeAttributesClass',
  fieldRules: [storageRules, metaRules],
  generation: 'none',
  returnsDeleted: true,
  columns: [
    text('DriverName', (object) => object.driverName ?? '', 'V1VolumeAttributesClass.driverName'),
  ],

  defaults(object) {
    object.driverName ??= '';
  },
  validate(object) {
    const errors: Errors = [];
    if (!object.driverName) errors.push(required('driverName'));
    else checkQualifiedName(errors, 'driverName', object.driverName.toLowerCase());
    const parameters = object.parameters ?? {};
    if (Object.keys(parameters).length === 0) {
      errors.push(required('parameters', 'must contain at least one key/value pair'));
    }
    checkParameters(errors, parameters);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'driverName', object.driverName, old.driverName);
    checkImmutable(errors, 'parameters', object.parameters, old.parameters);
    return errors;
  },
});
