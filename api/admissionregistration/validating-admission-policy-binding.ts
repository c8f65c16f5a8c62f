import { policyBinding } from '#api/admissionregistration/policy-binding.ts';
import { duplicate, invalid, notSupported, required } from '#api/field-error.ts';
import type { Kind } from '#api/kind.ts';
import type { Errors } from '#api/validate.ts';

/** Source: admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding. */
export const validatingAdmissionPolicyBinding: Kind = policyBinding('Validating', {
  check: (errors, { spec }) => checkActions(errors, spec?.validationActions ?? []),
});

const ACTIONS = ['Audit', 'Deny', 'Warn'];

function checkActions(errors: Errors, actions: readonly string[]): void {
  const path = 'spec.validationActions';
  const seen = new Set<string>();
  for (const [i, action] of actions.entries()) {
    if (!ACTIONS.includes(action)) errors.push(notSupported(`${path}[${i}]`, action, ACTIONS));
    if (seen.has(action)) errors.push(duplicate(`${path}[${i}]`, action));
    seen.add(action);
  }
  if (seen.has('Deny') && seen.has('Warn')) {
    const text =
      'must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)';
    errors.push(invalid(path, actions, text));
  }
  if (actions.length === 0) {
    errors.push(required(path, 'at least one validation action is required'));
  }
}
