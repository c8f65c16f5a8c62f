import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import { type BindingSpec, checkBinding } from '#api/admissionregistration/policy-validate.ts';
import { defaultMatching } from '#api/admissionregistration/rules-validate.ts';
import { duplicate, invalid, notSupported, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

export type ValidatingAdmissionPolicyBinding = KubeObject & {
  spec?: BindingSpec & { validationActions?: string[] };
};

/** Source: admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding. */
export const validatingAdmissionPolicyBinding = defineKind<ValidatingAdmissionPolicyBinding>({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'ValidatingAdmissionPolicyBinding',
  plural: 'validatingadmissionpolicybindings',
  singular: 'validatingadmissionpolicybinding',
  categories: ['api-extensions'],
  scope: 'Cluster',
  schema: 'V1ValidatingAdmissionPolicyBinding',
  fieldRules: [admissionregistrationRules, metaRules],
  generation: 'spec',
  unconditionalUpdate: false,
  columns: [
    text(
      'PolicyName',
      ({ spec }) => spec?.policyName ?? '',
      'PolicyName indicates the policy definition which the policy binding binded to',
    ),
    text(
      'ParamRef',
      ({ spec }) => {
        const ref = spec?.paramRef;
        if (!ref) return UNSET;
        if (!ref.name) return '*';
        return ref.namespace ? `${ref.namespace}/${ref.name}` : `*/${ref.name}`;
      },
      'ParamRef indicates the param resource which sets the configration param',
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    if (object.spec.matchResources) defaultMatching(object.spec.matchResources);
  },
  validate(object) {
    const errors: Errors = [];
    checkBinding(errors, object.spec ?? {});
    checkActions(errors, object.spec?.validationActions ?? []);
    return errors;
  },
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
