import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { integer } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { forbidden, invalid, tooLong } from '#api/field-error.ts';
import type { ConfigMap } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkConfigKey, sameMeaning } from '#api/validate.ts';

const count = (map: object | undefined | null): number => Object.keys(map ?? {}).length;

/** All values together, in bytes; an object of the store holds little more. */
export const MAX_DATA_BYTES = 1024 * 1024;

const LOCKED = 'field is immutable when `immutable` is set';

/** The number of bytes that a base64 text stands for. */
export const decodedLength = (text: string): number => Buffer.byteLength(text, 'base64');

/** Source: core/v1 ConfigMap. */
export const configMap = defineKind<ConfigMap>({
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  singular: 'configmap',
  shortNames: ['cm'],
  scope: 'Namespaced',
  schema: 'V1ConfigMap',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  columns: [
    {
      ...integer<ConfigMap>('Data', (object) => count(object.data) + count(object.binaryData)),
      type: 'string',
      describedBy: 'V1ConfigMap.data',
    },
  ],

  validate(object) {
    const errors: Errors = [];
    let bytes = 0;
    for (const [key, value] of Object.entries(object.data ?? {})) {
      checkConfigKey(errors, `data[${key}]`, key);
      if (object.binaryData?.[key] !== undefined) {
        errors.push(invalid(`data[${key}]`, key, 'duplicate of key present in binaryData'));
      }
      bytes += Buffer.byteLength(value ?? '');
    }
    for (const [key, value] of Object.entries(object.binaryData ?? {})) {
      checkConfigKey(errors, `binaryData[${key}]`, key);
      bytes += decodedLength(value ?? '');
    }
    if (bytes > MAX_DATA_BYTES) errors.push(tooLong('[]', MAX_DATA_BYTES));
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    if (!old.immutable) return errors;
    if (!object.immutable) errors.push(forbidden('immutable', LOCKED));
    for (const field of ['data', 'binaryData'] as const) {
      if (!sameMeaning(object[field], old[field])) errors.push(forbidden(field, LOCKED));
    }
    return errors;
  },
});
