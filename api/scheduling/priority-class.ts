import { defineKind } from '#api/kind.ts';
import { AGE, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { schedulingRules } from '#api/scheduling/scheduling-rules.ts';
import type { PriorityClass } from '#api/types.ts';

/** Source: scheduling.k8s.io/v1 PriorityClass. */
export const priorityClass = defineKind<PriorityClass>({
  group: 'scheduling.k8s.io',
  version: 'v1',
  kind: 'PriorityClass',
  plural: 'priorityclasses',
  singular: 'priorityclass',
  shortNames: ['pc'],
  scope: 'Cluster',
  schema: 'V1PriorityClass',
  fieldRules: [schedulingRules, metaRules],
  generation: 'spec',
  ageColumn: false,
  columns: [
    {
      name: 'Value',
      type: 'integer',
      describedBy: 'V1PriorityClass.value',
      value: (object) => object.value ?? 0,
    },
    {
      name: 'Global-Default',
      type: 'boolean',
      describedBy: 'V1PriorityClass.globalDefault',
      value: (object) => object.globalDefault ?? false,
    },
    AGE,
    text('PreemptionPolicy', (object) => object.preemptionPolicy ?? ''),
  ],

  defaults(object) {
    object.value ??= 0;
    object.preemptionPolicy ??= 'PreemptLowerPriority';
    if (object.globalDefault === false) delete object.globalDefault;
  },
  prepareForCreate(object) {
    object.metadata.generation = 1;
  },
});
