import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import { defaultMatching } from '#api/admissionregistration/rules-validate.ts';
import {
  checkValidatingPolicy,
  type ValidatingPolicySpec,
} from '#api/admissionregistration/validating-policy-validate.ts';
import { required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { integer, text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { KubeObject } from '#api/types.ts';
import { type Errors, sameMeaning } from '#api/validate.ts';

export type ValidatingAdmissionPolicy = KubeObject & {
  spec?: ValidatingPolicySpec;
  status?: { typeChecking?: { expressionWarnings?: { fieldRef?: string; warning?: string }[] } };
};

/** Source: admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy. */
export const validatingAdmissionPolicy = defineKind<ValidatingAdmissionPolicy>({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'ValidatingAdmissionPolicy',
  plural: 'validatingadmissionpolicies',
  singular: 'validatingadmissionpolicy',
  categories: ['api-extensions'],
  scope: 'Cluster',
  schema: 'V1ValidatingAdmissionPolicy',
  fieldRules: [admissionregistrationRules, metaRules],
  generation: 'spec',
  unconditionalUpdate: false,
  subresources: { status: { type: 'status', validateUpdate: (object) => checkStatus(object) } },
  columns: [
    integer(
      'Validations',
      ({ spec }) => spec?.validations?.length ?? 0,
      'Validations indicates the number of validation rules defined in this configuration',
    ),
    text(
      'ParamKind',
      ({ spec }) => {
        const kind = spec?.paramKind;
        return kind ? `${kind.apiVersion ?? ''}/${kind.kind ?? ''}` : UNSET;
      },
      'ParamKind specifies the kind of resources used to parameterize this policy',
    ),
  ],

  ...ownedStatus(),
  defaults(object) {
    object.spec ??= {};
    object.spec.failurePolicy ??= 'Fail';
    if (object.spec.matchConstraints) defaultMatching(object.spec.matchConstraints);
  },
  validateCreate(object) {
    const errors: Errors = [];
    checkValidatingPolicy(errors, object.metadata.name ?? '', object.spec ?? {}, true);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    const head = ({ spec }: ValidatingAdmissionPolicy): unknown => [
      spec?.paramKind,
      spec?.matchConditions,
    ];
    const changed = !sameMeaning(head(object), head(old));
    checkValidatingPolicy(errors, object.metadata.name ?? '', object.spec ?? {}, changed);
    return errors;
  },
});

function checkStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as ValidatingAdmissionPolicy;
  for (const [i, one] of (status?.typeChecking?.expressionWarnings ?? []).entries()) {
    const at = `status.typeChecking.expressionWarnings[${i}]`;
    if (!one.warning) errors.push(required(`${at}.warning`));
    if (!one.fieldRef?.trim()) errors.push(required(`${at}.fieldRef`));
  }
  return errors;
}
