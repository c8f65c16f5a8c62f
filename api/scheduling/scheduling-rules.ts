import { oneOf, rulesOf, zero } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of scheduling lack (scheduling): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const schedulingRules: FieldRules = rulesOf({
  V1PriorityClass: { preemptionPolicy: oneOf('Never', 'PreemptLowerPriority'), value: zero },
});
