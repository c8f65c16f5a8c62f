import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { bindingColumns } from '#api/rbac/rbac-columns.ts';
import { defaultBinding } from '#api/rbac/rbac-defaults.ts';
import { checkBinding, checkRoleRefUpdate } from '#api/rbac/rbac-validate.ts';
import { rbacRules } from '#api/rbac/rbac-rules.ts';
import { isPathSegment } from '#api/validate-names.ts';
import type { ClusterRoleBinding } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

/** Source: rbac.authorization.k8s.io/v1 ClusterRoleBinding. */
export const clusterRoleBinding = defineKind<ClusterRoleBinding>({
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  kind: 'ClusterRoleBinding',
  plural: 'clusterrolebindings',
  singular: 'clusterrolebinding',
  scope: 'Cluster',
  createOnUpdate: true,
  schema: 'V1ClusterRoleBinding',
  fieldRules: [rbacRules, metaRules],
  generation: 'none',
  validateName: isPathSegment,
  ageColumn: false,
  columns: bindingColumns('ClusterRoleBinding'),
  defaults: defaultBinding,
  validate(object) {
    const errors: Errors = [];
    checkBinding(errors, object, false);
    return errors;
  },
  validateUpdate: checkRoleRefUpdate,
});
