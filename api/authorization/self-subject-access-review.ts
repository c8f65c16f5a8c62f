import { authorizationRules } from '#api/authorization/authorization-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** A question that is answered and never stored; create only. Source: authorization.k8s.io/v1 SelfSubjectAccessReview. */
export const selfSubjectAccessReview = defineKind({
  group: 'authorization.k8s.io',
  version: 'v1',
  kind: 'SelfSubjectAccessReview',
  plural: 'selfsubjectaccessreviews',
  singular: 'selfsubjectaccessreview',
  scope: 'Cluster',
  schema: 'V1SelfSubjectAccessReview',
  fieldRules: [authorizationRules, metaRules],
  verbs: ['create'],
  generation: 'none',
});
