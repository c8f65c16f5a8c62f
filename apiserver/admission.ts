import type { AdmissionRule } from '#apiserver/admission-rule.ts';
import {
  certificateApproval,
  certificateSigning,
  certificateSubjectRestriction,
} from '#apiserver/admission/certificates.ts';
import { claimResize } from '#apiserver/admission/claim-resize.ts';
import { defaultIngressClass } from '#apiserver/admission/default-ingress-class.ts';
import { defaultStorageClass } from '#apiserver/admission/default-storage-class.ts';
import { defaultTolerationSeconds } from '#apiserver/admission/default-toleration-seconds.ts';
import { deviceAdminAccess } from '#apiserver/admission/device-admin-access.ts';
import { limitRanger } from '#apiserver/admission/limit-ranger.ts';
import { microvmIsolation } from '#apiserver/admission/microvm-isolation.ts';
import { mutatingAdmissionPolicy } from '#apiserver/admission/mutating-admission-policy.ts';
import { mutatingWebhook } from '#apiserver/admission/mutating-webhook.ts';
import { namespaceLifecycle } from '#apiserver/admission/namespace-lifecycle.ts';
import { nodeRestriction } from '#apiserver/admission/node-restriction.ts';
import { podSecurity } from '#apiserver/admission/pod-security.ts';
import { priority } from '#apiserver/admission/priority.ts';
import { resourceQuota } from '#apiserver/admission/resource-quota.ts';
import { roleEscalation } from '#apiserver/admission/role-escalation.ts';
import { runtimeClass } from '#apiserver/admission/runtime-class.ts';
import { serviceAccount } from '#apiserver/admission/service-account.ts';
import { storageObjectInUseProtection } from '#apiserver/admission/storage-object-in-use-protection.ts';
import { taintNodesByCondition } from '#apiserver/admission/taint-nodes-by-condition.ts';
import { validatingAdmissionPolicy } from '#apiserver/admission/validating-admission-policy.ts';
import { validatingWebhook } from '#apiserver/admission/validating-webhook.ts';

/** What every write passes, in this order: all that mutate, then, after validation, all that check. */
export const admissionRules: readonly AdmissionRule[] = [
  namespaceLifecycle,
  roleEscalation,
  limitRanger,
  serviceAccount,
  nodeRestriction,
  taintNodesByCondition,
  podSecurity,
  priority,
  defaultTolerationSeconds,
  defaultStorageClass,
  storageObjectInUseProtection,
  // Before the class's overhead and node selector are taken over.
  microvmIsolation,
  runtimeClass,
  claimResize,
  deviceAdminAccess,
  certificateApproval,
  certificateSigning,
  certificateSubjectRestriction,
  defaultIngressClass,
  mutatingAdmissionPolicy,
  mutatingWebhook,
  validatingAdmissionPolicy,
  validatingWebhook,
  // Last, so that only what passes everything else is charged.
  resourceQuota,
];
