import {
  atomicList,
  emptyText,
  listMap,
  mergeMap,
  no,
  oneOf,
  rulesOf,
  struct,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of apiextensions lack (apiextensions): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const apiextensionsRules: FieldRules = rulesOf({
  ApiextensionsV1ServiceReference: { name: emptyText, namespace: emptyText },
  V1CustomResourceColumnDefinition: { jsonPath: emptyText, name: emptyText, type: emptyText },
  V1CustomResourceConversion: { strategy: emptyText },
  V1CustomResourceDefinition: { spec: struct, status: struct },
  V1CustomResourceDefinitionCondition: { status: emptyText, type: emptyText },
  V1CustomResourceDefinitionNames: {
    categories: atomicList,
    kind: emptyText,
    plural: emptyText,
    shortNames: atomicList,
  },
  V1CustomResourceDefinitionSpec: {
    group: emptyText,
    names: struct,
    scope: emptyText,
    versions: atomicList,
  },
  V1CustomResourceDefinitionStatus: {
    acceptedNames: struct,
    conditions: listMap('type'),
    storedVersions: atomicList,
  },
  V1CustomResourceDefinitionVersion: {
    additionalPrinterColumns: atomicList,
    name: emptyText,
    selectableFields: atomicList,
    served: no,
    storage: no,
  },
  V1CustomResourceSubresourceScale: { specReplicasPath: emptyText, statusReplicasPath: emptyText },
  V1JSONSchemaProps: {
    allOf: atomicList,
    anyOf: atomicList,
    enum: atomicList,
    oneOf: atomicList,
    required: atomicList,
    'x-kubernetes-list-map-keys': atomicList,
    'x-kubernetes-validations': mergeMap('rule'),
  },
  V1SelectableField: { jsonPath: emptyText },
  V1ValidationRule: {
    reason: oneOf(
      'FieldValueDuplicate',
      'FieldValueForbidden',
      'FieldValueInvalid',
      'FieldValueRequired',
    ),
    rule: emptyText,
  },
  V1WebhookConversion: { conversionReviewVersions: atomicList },
});
