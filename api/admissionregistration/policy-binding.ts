import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import { type BindingSpec, checkBinding } from '#api/admissionregistration/policy-validate.ts';
import { defaultMatching } from '#api/admissionregistration/rules-validate.ts';
import { defineKind, type Kind } from '#api/kind.ts';
import { text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

export type PolicyBinding = KubeObject & { spec?: BindingSpec & { validationActions?: string[] } };

/** The two kinds differ by name and by what one of them has to say: `more`. */
export function policyBinding(
  family: 'Mutating' | 'Validating',
  more: {
    hashedVersion?: string;
    check?: (errors: Errors, binding: PolicyBinding) => void;
  } = {},
): Kind {
  const { hashedVersion, check } = more;
  const kind = `${family}AdmissionPolicyBinding`;
  return defineKind<PolicyBinding>({
    group: 'admissionregistration.k8s.io',
    version: 'v1',
    kind,
    plural: `${kind.toLowerCase()}s`,
    singular: kind.toLowerCase(),
    categories: ['api-extensions'],
    scope: 'Cluster',
    ...(hashedVersion === undefined ? {} : { hashedVersion }),
    schema: `V1${kind}`,
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
      check?.(errors, object);
      return errors;
    },
  });
}
