import { atomicList, no, rulesOf, struct } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of authorization lack (authorization): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const authorizationRules: FieldRules = rulesOf({
  V1FieldSelectorAttributes: { requirements: atomicList },
  V1LabelSelectorAttributes: { requirements: atomicList },
  V1LocalSubjectAccessReview: { spec: struct, status: struct },
  V1NonResourceRule: { nonResourceURLs: atomicList, verbs: atomicList },
  V1ResourceRule: {
    apiGroups: atomicList,
    resourceNames: atomicList,
    resources: atomicList,
    verbs: atomicList,
  },
  V1SelfSubjectAccessReview: { spec: struct, status: struct },
  V1SelfSubjectRulesReview: { spec: struct, status: struct },
  V1SubjectAccessReview: { spec: struct, status: struct },
  V1SubjectAccessReviewSpec: { groups: atomicList },
  V1SubjectAccessReviewStatus: { allowed: no },
  V1SubjectRulesReviewStatus: {
    incomplete: no,
    nonResourceRules: atomicList,
    resourceRules: atomicList,
  },
});
