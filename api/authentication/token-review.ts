import { authenticationRules } from '#api/authentication/authentication-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** A question that is answered and never stored; create only. Source: authentication.k8s.io/v1 TokenReview. */
export const tokenReview = defineKind({
  group: 'authentication.k8s.io',
  version: 'v1',
  kind: 'TokenReview',
  plural: 'tokenreviews',
  singular: 'tokenreview',
  scope: 'Cluster',
  schema: 'V1TokenReview',
  fieldRules: [authenticationRules, metaRules],
  verbs: ['create'],
  generation: 'none',
});
