import { appsRules } from '#api/apps/apps-rules.ts';
import { required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { NONE, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { ControllerRevision } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkNotNegative } from '#api/validate.ts';

/** A state that a controller can go back to. Source: apps/v1 ControllerRevision. */
export const controllerRevision = defineKind<ControllerRevision>({
  group: 'apps',
  version: 'v1',
  kind: 'ControllerRevision',
  plural: 'controllerrevisions',
  singular: 'controllerrevision',
  scope: 'Namespaced',
  schema: 'V1ControllerRevision',
  fieldRules: [appsRules, metaRules],
  generation: 'none',
  columns: [
    text(
      'Controller',
      (object) => {
        const owner = object.metadata.ownerReferences?.find((one) => one.controller);
        if (!owner) return NONE;
        const [group = '', version] = owner.apiVersion.split('/');
        const kind = owner.kind.toLowerCase();
        return `${version === undefined ? kind : `${kind}.${group}`}/${owner.name}`;
      },
      'Controller of the object',
    ),
    {
      name: 'Revision',
      type: 'string',
      describedBy: 'V1ControllerRevision.revision',
      value: (object) => object.revision ?? 0,
    },
  ],

  defaults(object) {
    object.revision ??= 0;
  },
  validate(object) {
    const errors: Errors = [];
    if (object.data == null) errors.push(required('data', 'data is mandatory'));
    checkNotNegative(errors, 'revision', object.revision);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'data', object.data, old.data);
    return errors;
  },
});
