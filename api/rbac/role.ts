import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { CREATED_AT } from '#api/meta/columns.ts';
import { defaultRules, showNoRulesAsNull } from '#api/rbac/rbac-defaults.ts';
import { checkRules } from '#api/rbac/rbac-validate.ts';
import { rbacRules } from '#api/rbac/rbac-rules.ts';
import { isPathSegment } from '#api/validate-names.ts';
import type { Role } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

/** Source: rbac.authorization.k8s.io/v1 Role. */
export const role = defineKind<Role>({
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  kind: 'Role',
  plural: 'roles',
  singular: 'role',
  scope: 'Namespaced',
  createOnUpdate: true,
  schema: 'V1Role',
  fieldRules: [rbacRules, metaRules],
  generation: 'none',
  validateName: isPathSegment,
  ageColumn: false,
  columns: [CREATED_AT],

  defaults: defaultRules,
  prepareForCreate: showNoRulesAsNull,
  prepareForUpdate: showNoRulesAsNull,
  validate(object) {
    const errors: Errors = [];
    checkRules(errors, object.rules ?? [], true);
    return errors;
  },
});
