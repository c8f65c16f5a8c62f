import { rulesOf, struct } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of coordination lack (coordination): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const coordinationRules: FieldRules = rulesOf({
  V1Lease: { spec: struct },
});
