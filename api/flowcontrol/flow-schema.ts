import { defineKind } from '#api/kind.ts';
import { checkFlowSchema, checkConditions } from '#api/flowcontrol/flow-schema-validate.ts';
import { flowcontrolRules } from '#api/flowcontrol/flowcontrol-rules.ts';
import { mandatoryFlowSchemas } from '#api/flowcontrol/mandatory.ts';
import { invalid } from '#api/field-error.ts';
import { AGE, integer, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { FlowSchema } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { sameMeaning } from '#api/validate.ts';
import { internalForm } from '#api/internal-form.ts';

const DEFAULT_PRECEDENCE = 1_000;

/** Which requests belong to which priority level. Source: flowcontrol.apiserver.k8s.io/v1. */
export const flowSchema = defineKind<FlowSchema>({
  group: 'flowcontrol.apiserver.k8s.io',
  version: 'v1',
  kind: 'FlowSchema',
  plural: 'flowschemas',
  singular: 'flowschema',
  scope: 'Cluster',
  schema: 'V1FlowSchema',
  fieldRules: [flowcontrolRules, metaRules],
  generation: 'spec',
  subresources: {
    status: {
      type: 'status',
      validateUpdate: (object) => {
        const errors: Errors = [];
        checkConditions(errors, object);
        return errors;
      },
    },
  },
  ageColumn: false,
  columns: [
    text(
      'PriorityLevel',
      (object) => object.spec?.priorityLevelConfiguration?.name ?? '',
      'V1PriorityLevelConfigurationReference.name',
    ),
    {
      ...integer<FlowSchema>(
        'MatchingPrecedence',
        (object) => object.spec?.matchingPrecedence ?? 0,
        'V1FlowSchemaSpec.matchingPrecedence',
      ),
      type: 'string',
    },
    text(
      'DistinguisherMethod',
      (object) => object.spec?.distinguisherMethod?.type ?? '<none>',
      'V1FlowSchemaSpec.distinguisherMethod',
    ),
    AGE,
    {
      name: 'MissingPL',
      type: 'string',
      description: 'references a broken or non-existent PriorityLevelConfiguration',
      value: ({ status }) => status?.conditions?.find((c) => c.type === 'Dangling')?.status ?? '?',
    },
  ],
  ...ownedStatus(),

  defaults(object) {
    const spec = (object.spec ??= { priorityLevelConfiguration: { name: '' } });
    spec.matchingPrecedence ||= DEFAULT_PRECEDENCE;
    object.status ??= {};
  },
  validate(object) {
    const errors: Errors = [];
    checkFlowSchema(errors, object);
    const { name = '' } = object.metadata;
    const fixed = mandatoryFlowSchemas.find((one) => one.metadata.name === name);
    if (fixed && !sameMeaning(fixed.spec, object.spec)) {
      errors.push(
        invalid(
          'spec',
          internalForm('FlowSchemaSpec', object.spec),
          `spec of '${name}' must equal the fixed value`,
        ),
      );
    }
    checkConditions(errors, object);
    return errors;
  },
});
