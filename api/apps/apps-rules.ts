import {
  atomicList,
  emptyText,
  mergeMap,
  oneOf,
  rulesOf,
  struct,
  zero,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of apps lack (apps): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const appsRules: FieldRules = rulesOf({
  V1ControllerRevision: { revision: zero },
  V1DaemonSet: { spec: struct, status: struct },
  V1DaemonSetCondition: { status: emptyText, type: emptyText },
  V1DaemonSetSpec: { template: struct, updateStrategy: struct },
  V1DaemonSetStatus: {
    conditions: mergeMap('type'),
    currentNumberScheduled: zero,
    desiredNumberScheduled: zero,
    numberMisscheduled: zero,
    numberReady: zero,
  },
  V1DaemonSetUpdateStrategy: { type: oneOf('OnDelete', 'RollingUpdate') },
  V1Deployment: { spec: struct, status: struct },
  V1DeploymentCondition: { status: emptyText, type: emptyText },
  V1DeploymentSpec: { strategy: { patchStrategy: 'retainKeys', ...struct }, template: struct },
  V1DeploymentStatus: { conditions: mergeMap('type') },
  V1DeploymentStrategy: { type: oneOf('Recreate', 'RollingUpdate') },
  V1ReplicaSet: { spec: struct, status: struct },
  V1ReplicaSetCondition: { status: emptyText, type: emptyText },
  V1ReplicaSetSpec: { template: struct },
  V1ReplicaSetStatus: { conditions: mergeMap('type'), replicas: zero },
  V1StatefulSet: { spec: struct, status: struct },
  V1StatefulSetCondition: { status: emptyText, type: emptyText },
  V1StatefulSetOrdinals: { start: zero },
  V1StatefulSetSpec: {
    podManagementPolicy: oneOf('OrderedReady', 'Parallel'),
    serviceName: emptyText,
    template: struct,
    updateStrategy: struct,
    volumeClaimTemplates: atomicList,
  },
  V1StatefulSetStatus: { availableReplicas: zero, conditions: mergeMap('type'), replicas: zero },
  V1StatefulSetUpdateStrategy: { type: oneOf('OnDelete', 'RollingUpdate') },
});
