import { atomicList, emptyText, mergeMap, rulesOf, struct, zero } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of apiregistration lack (apiregistration): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const apiregistrationRules: FieldRules = rulesOf({
  V1APIService: { spec: struct, status: struct },
  V1APIServiceCondition: { status: emptyText, type: emptyText },
  V1APIServiceSpec: { caBundle: atomicList, groupPriorityMinimum: zero, versionPriority: zero },
  V1APIServiceStatus: { conditions: mergeMap('type') },
});
