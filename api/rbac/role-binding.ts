import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { bindingColumns } from '#api/rbac/rbac-columns.ts';
import { defaultBinding } from '#api/rbac/rbac-defaults.ts';
import { checkBinding, checkRoleRefUpdate } from '#api/rbac/rbac-validate.ts';
import { rbacRules } from '#api/rbac/rbac-rules.ts';
import { isPathSegment } from '#api/validate-names.ts';
import type { RoleBinding } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

/** Source: rbac.authorization.k8s.io/v1 RoleBinding. */
export const roleBinding = defineKind<RoleBinding>({
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  kind: 'RoleBinding',
  plural: 'rolebindings',
  singular: 'rolebinding',
  scope: 'Namespaced',
  createOnUpdate: true,
  schema: 'V1RoleBinding',
  fieldRules: [rbacRules, metaRules],
  generation: 'none',
  validateName: isPathSegment,
  ageColumn: false,
  columns: bindingColumns('RoleBinding'),
  defaults: defaultBinding,
  validate(object) {
    const errors: Errors = [];
    checkBinding(errors, object, true);
    return errors;
  },
  validateUpdate: checkRoleRefUpdate,
});
