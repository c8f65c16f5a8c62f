import { atomicList, atomicMap, emptyText, rulesOf, struct } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of rbac lack (rbac): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const rbacRules: FieldRules = rulesOf({
  RbacV1Subject: { '': atomicMap, kind: emptyText, name: emptyText },
  V1AggregationRule: { clusterRoleSelectors: atomicList },
  V1ClusterRole: { rules: atomicList },
  V1ClusterRoleBinding: { roleRef: struct, subjects: atomicList },
  V1PolicyRule: {
    apiGroups: atomicList,
    nonResourceURLs: atomicList,
    resourceNames: atomicList,
    resources: atomicList,
    verbs: atomicList,
  },
  V1Role: { rules: atomicList },
  V1RoleBinding: { roleRef: struct, subjects: atomicList },
  V1RoleRef: { '': atomicMap, apiGroup: emptyText, kind: emptyText, name: emptyText },
});
