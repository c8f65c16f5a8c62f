import {
  localSubjectAccessReviews,
  selfSubjectAccessReviews,
  selfSubjectRulesReviews,
  subjectAccessReviews,
} from '#apiserver/subresources/access-reviews.ts';
import {
  selfSubjectReviews,
  tokenReviews,
} from '#apiserver/subresources/authentication-reviews.ts';
import type { SubresourceHandler } from '#apiserver/subresources/handler.ts';
import { serviceAccountToken } from '#apiserver/subresources/service-account-token.ts';

/** Subresources and create-only kinds that are more than stored data. */
export const subresourceHandlers: readonly SubresourceHandler[] = [
  selfSubjectAccessReviews,
  subjectAccessReviews,
  localSubjectAccessReviews,
  selfSubjectRulesReviews,
  selfSubjectReviews,
  tokenReviews,
  serviceAccountToken,
];
