import { defineKind } from '#api/kind.ts';
import { AGE, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { schedulingRules } from '#api/scheduling/scheduling-rules.ts';
import { forbidden } from '#api/field-error.ts';
import type { PriorityClass } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkRequiredEnum } from '#api/validate.ts';

/** What users may give; the system's own classes are above. */
const MAX_USER_PRIORITY = 1_000_000_000;
const SYSTEM: Readonly<Record<string, number>> = {
  'system-cluster-critical': 2_000_000_000,
  'system-node-critical': 2_000_001_000,
};

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
  generation: 'none',
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
    text(
      'PreemptionPolicy',
      (object) => object.preemptionPolicy ?? '',
      'V1PriorityClass.preemptionPolicy',
    ),
  ],

  defaults(object) {
    object.value ??= 0;
    object.preemptionPolicy ??= 'PreemptLowerPriority';
    if (object.globalDefault === false) delete object.globalDefault;
  },
  // The generation is one and stays so, although the description may change.
  prepareForCreate(object) {
    object.metadata.generation = 1;
  },
  validate(object) {
    const errors: Errors = [];
    const { name = '' } = object.metadata;
    const value = object.value ?? 0;
    if (name.startsWith('system-')) {
      const problem = systemProblem(name, value);
      if (problem) {
        const rule =
          "priority class names with 'system-' prefix are reserved for system use only. error: ";
        errors.push(forbidden('metadata.name', rule + problem));
      }
    } else if (value > MAX_USER_PRIORITY) {
      const rule = `maximum allowed value of a user defined priority is ${MAX_USER_PRIORITY}`;
      errors.push(forbidden('value', rule));
    }
    checkRequiredEnum(errors, 'preemptionPolicy', object.preemptionPolicy, [
      'PreemptLowerPriority',
      'Never',
    ]);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    if (object.value !== old.value) {
      errors.push(forbidden('value', 'may not be changed in an update.'));
    }
    checkImmutable(errors, 'preemptionPolicy', object.preemptionPolicy, old.preemptionPolicy);
    return errors;
  },
});

function systemProblem(name: string, value: number): string {
  const known = SYSTEM[name];
  if (known === undefined) return `${name} is not a known system priority class`;
  return known === value ? '' : `value of ${name} PriorityClass must be ${known}`;
}
