import { checkAtMostAll, checkCountOrPercent } from '#api/apps/workload-validate.ts';
import { invalid } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { integer, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import { policyRules } from '#api/policy/policy-rules.ts';
import type { KubeObject, PodDisruptionBudget } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkNotNegative } from '#api/validate.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';

const COUNTS = ['disruptionsAllowed', 'currentHealthy', 'desiredHealthy', 'expectedPods'] as const;
const EMPTY = Object.fromEntries(COUNTS.map((field) => [field, 0]));

/** Source: policy/v1 PodDisruptionBudget. */
export const podDisruptionBudget = defineKind<PodDisruptionBudget>({
  group: 'policy',
  version: 'v1',
  kind: 'PodDisruptionBudget',
  plural: 'poddisruptionbudgets',
  singular: 'poddisruptionbudget',
  shortNames: ['pdb'],
  scope: 'Namespaced',
  schema: 'V1PodDisruptionBudget',
  fieldRules: [policyRules, metaRules],
  generation: 'spec',
  unconditionalUpdate: false,
  subresources: { status: { type: 'status', validateUpdate: validateStatus } },
  columns: [
    text(
      'Min Available',
      (object) => String(object.spec?.minAvailable ?? 'N/A'),
      'The minimum number of pods that must be available.',
    ),
    text(
      'Max Unavailable',
      (object) => String(object.spec?.maxUnavailable ?? 'N/A'),
      'The maximum number of pods that may be unavailable.',
    ),
    integer(
      'Allowed Disruptions',
      (object) => object.status?.disruptionsAllowed ?? 0,
      'Calculated number of pods that may be disrupted at this time.',
    ),
  ],
  ...ownedStatus(EMPTY),

  defaults(object) {
    object.spec ??= {};
    object.status = { ...EMPTY, ...object.status } as NonNullable<PodDisruptionBudget['status']>;
  },
  validate(object) {
    const errors: Errors = [];
    const spec = object.spec ?? {};
    const { minAvailable, maxUnavailable, unhealthyPodEvictionPolicy: policy } = spec;
    if (minAvailable !== undefined && maxUnavailable !== undefined) {
      const shown = internalForm('PodDisruptionBudgetSpec', spec);
      errors.push(invalid('spec', shown, 'minAvailable and maxUnavailable cannot be both set'));
    }
    for (const field of ['minAvailable', 'maxUnavailable'] as const) {
      checkCountOrPercent(errors, `spec.${field}`, spec[field]);
      checkAtMostAll(errors, `spec.${field}`, spec[field]);
    }
    checkLabelSelector(errors, 'spec.selector', spec.selector);
    if (policy !== undefined) {
      const path = 'spec.unhealthyPodEvictionPolicy';
      checkEnum(errors, path, policy, ['AlwaysAllow', 'IfHealthyBudget']);
    }
    return errors;
  },
});

function validateStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as PodDisruptionBudget;
  for (const field of COUNTS) checkNotNegative(errors, `status.${field}`, status?.[field]);
  return errors;
}
