import { atomicList, emptyText, rulesOf, struct } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of authentication lack (authentication): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const authenticationRules: FieldRules = rulesOf({
  AuthenticationV1TokenRequest: { spec: struct, status: struct },
  V1SelfSubjectReview: { status: struct },
  V1SelfSubjectReviewStatus: { userInfo: struct },
  V1TokenRequestSpec: { audiences: atomicList },
  V1TokenRequestStatus: { token: emptyText },
  V1TokenReview: { spec: struct, status: struct },
  V1TokenReviewSpec: { audiences: atomicList },
  V1TokenReviewStatus: { audiences: atomicList, user: struct },
  V1UserInfo: { groups: atomicList },
});
