import {
  atomicList,
  atomicMap,
  emptyText,
  mergeMap,
  rulesOf,
  struct,
  zero,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of autoscaling lack (autoscaling): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const autoscalingRules: FieldRules = rulesOf({
  V1CrossVersionObjectReference: { '': atomicMap, kind: emptyText, name: emptyText },
  V1HorizontalPodAutoscaler: { spec: struct, status: struct },
  V1HorizontalPodAutoscalerSpec: { maxReplicas: zero, scaleTargetRef: struct },
  V1HorizontalPodAutoscalerStatus: { currentReplicas: zero, desiredReplicas: zero },
  V1Scale: { spec: struct, status: struct },
  V1ScaleSpec: { replicas: zero },
  V1ScaleStatus: { replicas: zero },
  V2ContainerResourceMetricSource: { container: emptyText, name: emptyText, target: struct },
  V2ContainerResourceMetricStatus: { container: emptyText, current: struct, name: emptyText },
  V2CrossVersionObjectReference: { kind: emptyText, name: emptyText },
  V2ExternalMetricSource: { metric: struct, target: struct },
  V2ExternalMetricStatus: { current: struct, metric: struct },
  V2HPAScalingPolicy: { periodSeconds: zero, type: emptyText, value: zero },
  V2HPAScalingRules: { policies: atomicList },
  V2HorizontalPodAutoscaler: { spec: struct, status: struct },
  V2HorizontalPodAutoscalerCondition: { status: emptyText, type: emptyText },
  V2HorizontalPodAutoscalerSpec: { maxReplicas: zero, metrics: atomicList, scaleTargetRef: struct },
  V2HorizontalPodAutoscalerStatus: {
    conditions: mergeMap('type'),
    currentMetrics: atomicList,
    desiredReplicas: zero,
  },
  V2MetricIdentifier: { name: emptyText },
  V2MetricSpec: { type: emptyText },
  V2MetricStatus: { type: emptyText },
  V2MetricTarget: { type: emptyText },
  V2ObjectMetricSource: { describedObject: struct, metric: struct, target: struct },
  V2ObjectMetricStatus: { current: struct, describedObject: struct, metric: struct },
  V2PodsMetricSource: { metric: struct, target: struct },
  V2PodsMetricStatus: { current: struct, metric: struct },
  V2ResourceMetricSource: { name: emptyText, target: struct },
  V2ResourceMetricStatus: { current: struct, name: emptyText },
});
