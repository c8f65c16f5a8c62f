import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import {
  checkMutatingPolicy,
  type MutatingPolicySpec,
} from '#api/admissionregistration/mutating-policy-validate.ts';
import { defaultMatching } from '#api/admissionregistration/rules-validate.ts';
import { defineKind } from '#api/kind.ts';
import { integer, text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';
import { type Errors, sameMeaning } from '#api/validate.ts';

export type MutatingAdmissionPolicy = KubeObject & { spec?: MutatingPolicySpec };

/** Source: admissionregistration.k8s.io/v1 MutatingAdmissionPolicy. */
export const mutatingAdmissionPolicy = defineKind<MutatingAdmissionPolicy>({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'MutatingAdmissionPolicy',
  plural: 'mutatingadmissionpolicies',
  singular: 'mutatingadmissionpolicy',
  categories: ['api-extensions'],
  scope: 'Cluster',
  hashedVersion: 'v1beta1',
  schema: 'V1MutatingAdmissionPolicy',
  fieldRules: [admissionregistrationRules, metaRules],
  generation: 'spec',
  unconditionalUpdate: false,
  columns: [
    integer(
      'Mutations',
      ({ spec }) => spec?.mutations?.length ?? 0,
      'Mutations indicates the number of mutations rules defined in this configuration',
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

  defaults(object) {
    object.spec ??= {};
    object.spec.failurePolicy ??= 'Fail';
    if (object.spec.matchConstraints) defaultMatching(object.spec.matchConstraints);
  },
  validateCreate(object) {
    const errors: Errors = [];
    checkMutatingPolicy(errors, object.spec ?? {}, true);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    const head = ({ spec }: MutatingAdmissionPolicy): unknown => [
      spec?.paramKind,
      spec?.matchConditions,
    ];
    checkMutatingPolicy(errors, object.spec ?? {}, !sameMeaning(head(object), head(old)));
    return errors;
  },
});
