import { RBAC_GROUP } from '#api/rbac/rbac-defaults.ts';
import { invalid, notSupported, required } from '#api/field-error.ts';
import type { ClusterRoleBinding, PolicyRule, RbacSubject, RoleBinding } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, sameMeaning } from '#api/validate.ts';
import { isPathSegment, nameIsDnsSubdomain } from '#api/validate-names.ts';
import { internalForm } from '#api/internal-form.ts';

/** Source: rbac/v1 PolicyRule. */
export function checkRules(
  errors: Errors,
  rules: readonly PolicyRule[],
  namespaced: boolean,
): void {
  for (const [i, rule] of rules.entries()) {
    const path = `rules[${i}]`;
    const { verbs, apiGroups, resources, resourceNames, nonResourceURLs } = rule;
    if (!verbs?.length) {
      errors.push(required(`${path}.verbs`, 'verbs must contain at least one value'));
    }
    if (nonResourceURLs?.length) {
      const at = `${path}.nonResourceURLs`;
      if (namespaced) {
        const text = 'namespaced rules cannot apply to non-resource URLs';
        errors.push(invalid(at, nonResourceURLs, text));
      }
      if (apiGroups?.length || resources?.length || resourceNames?.length) {
        const text = 'rules cannot apply to both regular resources and non-resource URLs';
        errors.push(invalid(at, nonResourceURLs, text));
      }
      continue;
    }
    if (!apiGroups?.length) {
      const text = 'resource rules must supply at least one api group';
      errors.push(required(`${path}.apiGroups`, text));
    }
    if (!resources?.length) {
      const text = 'resource rules must supply at least one resource';
      errors.push(required(`${path}.resources`, text));
    }
  }
}

type Binding = RoleBinding | ClusterRoleBinding;

/** Source: rbac/v1 RoleBinding, ClusterRoleBinding. */
export function checkBinding(errors: Errors, binding: Binding, namespaced: boolean): void {
  const { roleRef } = binding;
  const kinds = namespaced ? ['Role', 'ClusterRole'] : ['ClusterRole'];
  if (roleRef.apiGroup !== RBAC_GROUP) {
    errors.push(notSupported('roleRef.apiGroup', roleRef.apiGroup, [RBAC_GROUP]));
  }
  if (!kinds.includes(roleRef.kind)) {
    errors.push(notSupported('roleRef.kind', roleRef.kind ?? '', kinds));
  }
  if (!roleRef.name) errors.push(required('roleRef.name'));
  else addInvalid(errors, 'roleRef.name', roleRef.name, isPathSegment(roleRef.name));
  for (const [i, subject] of (binding.subjects ?? []).entries()) {
    checkSubject(errors, `subjects[${i}]`, subject, namespaced);
  }
}

function checkSubject(
  errors: Errors,
  path: string,
  subject: RbacSubject,
  namespaced: boolean,
): void {
  const { name, apiGroup = '', namespace } = subject;
  const kind = subject.kind ?? '';
  if (!name) errors.push(required(`${path}.name`));
  if (kind === 'ServiceAccount') {
    if (name) addInvalid(errors, `${path}.name`, name, nameIsDnsSubdomain(name, false));
    if (apiGroup) errors.push(notSupported(`${path}.apiGroup`, apiGroup, ['']));
    if (!namespaced && !namespace) errors.push(required(`${path}.namespace`));
  } else if (kind === 'User' || kind === 'Group') {
    if (apiGroup !== RBAC_GROUP) {
      errors.push(notSupported(`${path}.apiGroup`, apiGroup, [RBAC_GROUP]));
    }
  } else {
    errors.push(notSupported(`${path}.kind`, kind, ['ServiceAccount', 'User', 'Group']));
  }
}

/** Another role is another binding: rights change hands by name only. */
export function checkRoleRefUpdate(binding: Binding, old: Binding): Errors {
  if (sameMeaning(binding.roleRef, old.roleRef)) return [];
  return [invalid('roleRef', internalForm('RoleRef', binding.roleRef), 'cannot change roleRef')];
}
