import { atomicList, emptyText, oneOf, rulesOf, setList, struct } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of batch lack (batch): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const batchRules: FieldRules = rulesOf({
  V1CronJob: { spec: struct, status: struct },
  V1CronJobSpec: {
    concurrencyPolicy: oneOf('Allow', 'Forbid', 'Replace'),
    jobTemplate: struct,
    schedule: emptyText,
  },
  V1CronJobStatus: { active: atomicList },
  V1Job: { spec: struct, status: struct },
  V1JobCondition: { status: emptyText, type: emptyText },
  V1JobSpec: {
    completionMode: oneOf('Indexed', 'NonIndexed'),
    podReplacementPolicy: oneOf('Failed', 'TerminatingOrFailed'),
    template: struct,
  },
  V1JobStatus: { conditions: { ...atomicList, mergeKey: 'type', patchStrategy: 'merge' } },
  V1JobTemplateSpec: { spec: struct },
  V1PodFailurePolicy: { rules: atomicList },
  V1PodFailurePolicyOnExitCodesRequirement: {
    operator: { ...oneOf('In', 'NotIn'), ...emptyText },
    values: setList,
  },
  V1PodFailurePolicyOnPodConditionsPattern: { status: emptyText, type: emptyText },
  V1PodFailurePolicyRule: {
    action: { ...oneOf('Count', 'FailIndex', 'FailJob', 'Ignore'), ...emptyText },
    onPodConditions: atomicList,
  },
  V1SuccessPolicy: { rules: atomicList },
  V1UncountedTerminatedPods: { failed: setList, succeeded: setList },
});
