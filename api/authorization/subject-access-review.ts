import { authorizationRules } from '#api/authorization/authorization-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** A question that is answered and never stored; create only. Source: authorization.k8s.io/v1 SubjectAccessReview. */
export const subjectAccessReview = defineKind({
  group: 'authorization.k8s.io',
  version: 'v1',
  kind: 'SubjectAccessReview',
  plural: 'subjectaccessreviews',
  singular: 'subjectaccessreview',
  scope: 'Cluster',
  schema: 'V1SubjectAccessReview',
  fieldRules: [authorizationRules, metaRules],
  verbs: ['create'],
  generation: 'none',
});
