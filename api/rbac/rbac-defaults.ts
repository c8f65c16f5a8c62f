import type { ClusterRole, ClusterRoleBinding, Role, RoleBinding } from '#api/types.ts';

export const RBAC_GROUP = 'rbac.authorization.k8s.io';

/** Users and groups belong to the RBAC group, as does the role. Source: rbac/v1 Subject, RoleRef. */
export function defaultBinding(object: RoleBinding | ClusterRoleBinding): void {
  object.roleRef ??= {} as RoleBinding['roleRef'];
  if (!object.roleRef.apiGroup) object.roleRef.apiGroup = RBAC_GROUP;
  for (const subject of object.subjects ?? []) {
    if (!subject.apiGroup && (subject.kind === 'User' || subject.kind === 'Group')) {
      subject.apiGroup = RBAC_GROUP;
    }
  }
}

/** The rules are always shown, and as null when there are none. */
export function defaultRules(object: ClusterRole | Role): void {
  (object as { rules: unknown }).rules ??= null;
}

/** The same for a list that somebody wrote, and owns, although it is empty. */
export function showNoRulesAsNull(object: ClusterRole | Role): void {
  if (!object.rules?.length) (object as { rules: unknown }).rules = null;
}
