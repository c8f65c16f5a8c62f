import { policyBinding } from '#api/admissionregistration/policy-binding.ts';
import type { Kind } from '#api/kind.ts';

/** Source: admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding. */
export const mutatingAdmissionPolicyBinding: Kind = policyBinding('Mutating', {
  hashedVersion: 'v1beta1',
});
