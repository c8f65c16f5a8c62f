import { mergeMap, oneOf, rulesOf, struct, zero } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of policy lack (policy): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const policyRules: FieldRules = rulesOf({
  V1PodDisruptionBudget: { spec: struct, status: struct },
  V1PodDisruptionBudgetSpec: {
    selector: { patchStrategy: 'replace' },
    unhealthyPodEvictionPolicy: oneOf('AlwaysAllow', 'IfHealthyBudget'),
  },
  V1PodDisruptionBudgetStatus: {
    conditions: mergeMap('type'),
    currentHealthy: zero,
    desiredHealthy: zero,
    disruptionsAllowed: zero,
    expectedPods: zero,
  },
});
