import { authenticationRules } from '#api/authentication/authentication-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** A question that is answered and never stored; create only. Source: authentication.k8s.io/v1 SelfSubjectReview. */
export const selfSubjectReview = defineKind({
  group: 'authentication.k8s.io',
  version: 'v1',
  kind: 'SelfSubjectReview',
  plural: 'selfsubjectreviews',
  singular: 'selfsubjectreview',
  scope: 'Cluster',
  schema: 'V1SelfSubjectReview',
  fieldRules: [authenticationRules, metaRules],
  verbs: ['create'],
  generation: 'none',
});
