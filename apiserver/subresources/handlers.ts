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
import { bindings, podBinding } from '#apiserver/subresources/pod-binding.ts';
import { podEviction } from '#apiserver/subresources/pod-eviction.ts';
import { podLog } from '#apiserver/subresources/pod-log.ts';
import { podAttach, podExec, podPortForward } from '#apiserver/subresources/pod-streams.ts';
import { nodeProxy, podProxy, serviceProxy } from '#apiserver/subresources/proxy.ts';
import { nodeMetricsHandler, podMetricsHandler } from '#apiserver/subresources/resource-metrics.ts';
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
  bindings,
  podBinding,
  podEviction,
  podLog,
  podExec,
  podAttach,
  podPortForward,
  podProxy,
  serviceProxy,
  nodeProxy,
  nodeMetricsHandler,
  podMetricsHandler,
];
