import { appsRules } from '#api/apps/apps-rules.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, integer, selectorColumn, templateColumns } from '#api/meta/columns.ts';
import { ownedStatus, SCALE, STATUS } from '#api/meta/status-part.ts';
import type { ReplicaSet } from '#api/types.ts';

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
  subresources: { status: STATUS, scale: SCALE },
  selectableFields: { 'status.replicas': (object) => String(object.status?.replicas ?? 0) },
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
    selectorColumn<ReplicaSet>((object) => object.spec?.selector),
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
});
