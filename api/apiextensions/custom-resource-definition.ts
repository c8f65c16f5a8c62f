import { apiextensionsRules } from '#api/apiextensions/apiextensions-rules.ts';
import {
  defaultDefinition,
  prepareChangedDefinition,
  prepareDefinitionDeletion,
  prepareNewDefinition,
} from '#api/apiextensions/definition-defaults.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { definitionWarnings } from '#api/apiextensions/definition-warnings.ts';
import {
  validateDefinition,
  validateDefinitionStatus,
  validateDefinitionUpdate,
} from '#api/apiextensions/definition-validate.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** Source: apiextensions.k8s.io/v1 CustomResourceDefinition. */
export const customResourceDefinition = defineKind<CustomResourceDefinition>({
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  singular: 'customresourcedefinition',
  shortNames: ['crd', 'crds'],
  categories: ['api-extensions'],
  scope: 'Cluster',
  schema: 'V1CustomResourceDefinition',
  fieldRules: [apiextensionsRules, metaRules],
  subresources: {
    status: {
      type: 'status',
      validateUpdate: (object) => validateDefinitionStatus(object as CustomResourceDefinition),
    },
  },
  hashedVersion: 'v1beta1',
  generation: 'spec',
  unconditionalUpdate: false,
  columns: [
    {
      name: 'Created At',
      type: 'date',
      describedBy: 'V1ObjectMeta.creationTimestamp',
      value: (object) => String(object.metadata.creationTimestamp ?? ''),
    },
  ],
  ageColumn: false,

  defaults: defaultDefinition,
  prepareForCreate: prepareNewDefinition,
  prepareForUpdate: prepareChangedDefinition,
  heldBack: () => false,
  prepareForDelete: prepareDefinitionDeletion,
  validateCreate: validateDefinition,
  validateUpdate: validateDefinitionUpdate,
  warnings: definitionWarnings,
});
