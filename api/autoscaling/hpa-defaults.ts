import { canonicalText } from '#api/meta/resource-list.ts';
import type { HorizontalPodAutoscaler } from '#api/types.ts';

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
type Metric = NonNullable<Spec['metrics']>[number];
type Behavior = NonNullable<Spec['behavior']>;
type Rules = NonNullable<Behavior['scaleUp']>;

/** Source: autoscaling/v2 HorizontalPodAutoscalerSpec. */
export function defaultHpa(object: HorizontalPodAutoscaler): void {
  object.spec ??= {} as Spec;
  object.status ??= { desiredReplicas: 0, currentMetrics: null as never };
  const { spec, status } = object;
  status.desiredReplicas ??= 0;
  if (!status.currentMetrics?.length) (status as { currentMetrics: unknown }).currentMetrics = null;
  spec.minReplicas ??= 1;
  if (!spec.metrics?.length) {
    spec.metrics = [
      {
        type: 'Resource',
        resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } },
      },
    ];
  }
  for (const metric of spec.metrics) canonicalTargets(metric);
  if (spec.behavior) defaultBehavior(spec.behavior);
}

function canonicalTargets(metric: Metric): void {
  const sources = [
    metric.resource,
    metric.containerResource,
    metric.pods,
    metric.object,
    metric.external,
  ];
  for (const source of sources) {
    const target = source?.target;
    if (!target) continue;
    if (target.value !== undefined) target.value = canonicalText(target.value);
    if (target.averageValue !== undefined) target.averageValue = canonicalText(target.averageValue);
  }
}

/** Growth doubles or adds four pods per 15 s, whichever is more; shrinking waits for 5 minutes. */
function defaultBehavior(behavior: Behavior): void {
  behavior.scaleUp = withDefaults(behavior.scaleUp, {
    stabilizationWindowSeconds: 0,
    policies: [
      { type: 'Pods', value: 4, periodSeconds: 15 },
      { type: 'Percent', value: 100, periodSeconds: 15 },
    ],
  });
  behavior.scaleDown = withDefaults(behavior.scaleDown, {
    policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }],
  });
}

function withDefaults(rules: Rules | undefined, defaults: Rules): Rules {
  const result: Rules = { ...rules };
  result.selectPolicy ??= 'Max';
  if (
    result.stabilizationWindowSeconds === undefined &&
    defaults.stabilizationWindowSeconds !== undefined
  ) {
    result.stabilizationWindowSeconds = defaults.stabilizationWindowSeconds;
  }
  if (result.policies === undefined && defaults.policies) result.policies = defaults.policies;
  if (result.tolerance !== undefined) result.tolerance = canonicalText(result.tolerance);
  return result;
}
