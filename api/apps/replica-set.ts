import { appsRules } from '#api/apps/apps-rules.ts';
import { checkReplicaCounts, checkSelectorAndTemplate } from '#api/apps/workload-validate.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { workloadWarnings } from '#api/core/pod-warnings.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, integer, selectorColumn, templateColumns } from '#api/meta/columns.ts';
import { ownedStatus, SCALE } from '#api/meta/status-part.ts';
import type { KubeObject, ReplicaSet } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkNotNegative } from '#api/validate.ts';

/** Source: apps/v1 ReplicaSet. */
export const replicaSet = defineKind<ReplicaSet>({
  group: 'apps',
  version: 'v1',
  kind: 'ReplicaSet',
  plural: 'replicasets',
  singular: 'replicaset',
  shortNames: ['rs'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1ReplicaSet',
  fieldRules: [appsRules, ...podRules],
  generation: 'spec',
  subresources: { status: { type: 'status', validateUpdate: validateStatus }, scale: SCALE },
  ageColumn: false,
  columns: [
    integer('Desired', (object) => object.spec?.replicas ?? 0, 'V1ReplicaSetSpec.replicas'),
    integer('Current', (object) => object.status?.replicas ?? 0, 'V1ReplicaSetStatus.replicas'),
    integer(
      'Ready',
      (object) => object.status?.readyReplicas ?? 0,
      'V1ReplicaSetStatus.readyReplicas',
    ),
    AGE,
    ...templateColumns<ReplicaSet>((object) => object.spec?.template),
    selectorColumn<ReplicaSet>((object) => object.spec?.selector, 'V1ReplicaSetSpec.selector'),
  ],
  ...ownedStatus({ replicas: 0 }),

  defaults(object) {
    object.spec ??= {} as NonNullable<ReplicaSet['spec']>;
    object.status ??= { replicas: 0 };
    object.status.replicas ??= 0;
    object.spec.replicas ??= 1;
    object.spec.template ??= {};
    defaultPodTemplate(object.spec.template);
  },
  warnings: workloadWarnings,
  validate(object) {
    const errors: Errors = [];
    const { spec } = object;
    if (!spec) return errors;
    checkNotNegative(errors, 'spec.replicas', spec.replicas);
    checkNotNegative(errors, 'spec.minReadySeconds', spec.minReadySeconds);
    checkSelectorAndTemplate(errors, 'spec', spec, {
      emptySelector: 'empty selector is invalid for deployment',
      deadline: 'forbidden',
    });
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec.selector', object.spec?.selector, old.spec?.selector);
    return errors;
  },
});

function validateStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as ReplicaSet;
  if (!status) return errors;
  checkReplicaCounts(errors, status, [
    'fullyLabeledReplicas',
    'readyReplicas',
    'availableReplicas',
  ]);
  checkNotNegative(errors, 'status.observedGeneration', status.observedGeneration);
  return errors;
}
