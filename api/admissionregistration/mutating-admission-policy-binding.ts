import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import { type BindingSpec, checkBinding } from '#api/admissionregistration/policy-validate.ts';
import { defaultMatching } from '#api/admissionregistration/rules-validate.ts';
import { defineKind } from '#api/kind.ts';
import { text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

export type MutatingAdmissionPolicyBinding = KubeObject & { spec?: BindingSpec };

/** Source: admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding. */
export const mutatingAdmissionPolicyBinding = defineKind<MutatingAdmissionPolicyBinding>({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'MutatingAdmissionPolicyBinding',
  plural: 'mutatingadmissionpolicybindings',
  singular: 'mutatingadmissionpolicybinding',
  categories: ['api-extensions'],
  scope: 'Cluster',
  hashedVersion: 'v1beta1',
  schema: 'V1MutatingAdmissionPolicyBinding',
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
    return errors;
  },
});
