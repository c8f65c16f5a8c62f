import { atomicList, atomicMap, emptyText, rulesOf } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of node lack (node): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const nodeRules: FieldRules = rulesOf({
  V1RuntimeClass: { handler: emptyText },
  V1Scheduling: { nodeSelector: atomicMap, tolerations: atomicList },
});
