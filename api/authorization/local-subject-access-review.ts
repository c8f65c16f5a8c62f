import { authorizationRules } from '#api/authorization/authorization-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** A question that is answered and never stored; create only. Source: authorization.k8s.io/v1 LocalSubjectAccessReview. */
export const localSubjectAccessReview = defineKind({
  group: 'authorization.k8s.io',
  version: 'v1',
  kind: 'LocalSubjectAccessReview',
  plural: 'localsubjectaccessreviews',
  singular: 'localsubjectaccessreview',
  scope: 'Namespaced',
  schema: 'V1LocalSubjectAccessReview',
  fieldRules: [authorizationRules, metaRules],
  verbs: ['create'],
  generation: 'none',
});
