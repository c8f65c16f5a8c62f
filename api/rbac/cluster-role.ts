import { invalid, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { CREATED_AT } from '#api/meta/columns.ts';
import { defaultRules, showNoRulesAsNull } from '#api/rbac/rbac-defaults.ts';
import { checkRules } from '#api/rbac/rbac-validate.ts';
import { rbacRules } from '#api/rbac/rbac-rules.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { isPathSegment } from '#api/validate-names.ts';
import type { ClusterRole } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

/** Source: rbac.authorization.k8s.io/v1 ClusterRole. */
export const clusterRole = defineKind<ClusterRole>({
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  kind: 'ClusterRole',
  plural: 'clusterroles',
  singular: 'clusterrole',
  scope: 'Cluster',
  createOnUpdate: true,
  schema: 'V1ClusterRole',
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
    checkRules(errors, object.rules ?? [], false);
    if (object.aggregationRule) {
      const selectors = object.aggregationRule.clusterRoleSelectors ?? [];
      const path = 'aggregationRule.clusterRoleSelectors';
      if (selectors.length === 0) {
        const text = 'at least one clusterRoleSelector required if aggregationRule is non-nil';
        errors.push(required(path, text));
      }
      for (const [i, selector] of selectors.entries()) {
        const at = `${path}[${i}]`;
        const before = errors.length;
        checkLabelSelector(errors, at, selector);
        if (errors.length > before) errors.push(invalid(at, null, 'invalid label selector.'));
      }
    }
    return errors;
  },
});
