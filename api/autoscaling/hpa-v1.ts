import { autoscalingRules } from '#api/autoscaling/autoscaling-rules.ts';
import { horizontalPodAutoscaler } from '#api/autoscaling/horizontal-pod-autoscaler.ts';
import { hpaColumns } from '#api/autoscaling/hpa-columns.ts';
import { defaultHpa } from '#api/autoscaling/hpa-defaults.ts';
import type { Metric, OldMetric } from '#api/autoscaling/hpa-v1-metrics.ts';
import {
  fromOldMetric,
  fromOldStatus,
  toOldMetric,
  toOldStatus,
} from '#api/autoscaling/hpa-v1-metrics.ts';
import { validateHpa } from '#api/autoscaling/hpa-validate.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus, STATUS } from '#api/meta/status-part.ts';
import type { HorizontalPodAutoscaler, KubeObject } from '#api/types.ts';

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
type Status = NonNullable<HorizontalPodAutoscaler['status']>;
type OldSpec = Pick<Spec, 'scaleTargetRef' | 'minReplicas' | 'maxReplicas'> & {
  targetCPUUtilizationPercentage?: number;
};
type OldStatus = Pick<
  Status,
  'observedGeneration' | 'lastScaleTime' | 'currentReplicas' | 'desiredReplicas'
> & { currentCPUUtilizationPercentage?: number };

const PREFIX = 'autoscaling.alpha.kubernetes.io/';
const METRICS = `${PREFIX}metrics`;
const CURRENT = `${PREFIX}current-metrics`;
const CONDITIONS = `${PREFIX}conditions`;
const BEHAVIOR = `${PREFIX}behavior`;

/** The one metric that the older API has a field for. */
const isCpuTarget = (metric: Metric): boolean =>
  metric.type === 'Resource' &&
  metric.resource?.name === 'cpu' &&
  metric.resource.target?.averageUtilization !== undefined;

/** Without the fields that are undefined, which JSON does not have. */
const compact = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;

const toOldCondition = (one: NonNullable<Status['conditions']>[number]): object => {
  const { type, status, lastTransitionTime, reason, message } = one;
  return { type, status, lastTransitionTime, reason, message };
};

/** What v1 has no field for goes into annotations. */
function fromStored(object: KubeObject): KubeObject {
  const { spec, status } = object as unknown as HorizontalPodAutoscaler;
  const annotations: Record<string, string> = { ...object.metadata.annotations };
  const metrics = spec?.metrics ?? [];
  const cpu = metrics.find(isCpuTarget);
  const others = metrics.filter((metric) => metric !== cpu).map(toOldMetric);
  if (others.length > 0) annotations[METRICS] = JSON.stringify(others);
  const current = status?.currentMetrics ?? [];
  if (current.length > 0) annotations[CURRENT] = JSON.stringify(current.map(toOldStatus));
  if (status?.conditions?.length) {
    annotations[CONDITIONS] = JSON.stringify(status.conditions.map(toOldCondition));
  }
  if (spec?.behavior) annotations[BEHAVIOR] = JSON.stringify(capitalized(spec.behavior));
  const currentCpu = current.find((one) => one.resource?.name === 'cpu')?.resource?.current;
  const oldSpec: OldSpec = compact({
    scaleTargetRef: spec?.scaleTargetRef as Spec['scaleTargetRef'],
    minReplicas: spec?.minReplicas as number,
    maxReplicas: spec?.maxReplicas ?? 0,
    targetCPUUtilizationPercentage: cpu?.resource?.target?.averageUtilization as number,
  });
  const oldStatus: OldStatus = compact({
    observedGeneration: status?.observedGeneration as number,
    lastScaleTime: status?.lastScaleTime as string,
    currentReplicas: status?.currentReplicas ?? 0,
    desiredReplicas: status?.desiredReplicas ?? 0,
    currentCPUUtilizationPercentage: currentCpu?.averageUtilization as number,
  });
  const metadata = { ...object.metadata };
  if (Object.keys(annotations).length > 0) metadata.annotations = annotations;
  return { ...object, metadata, spec: oldSpec, status: oldStatus };
}

/** And comes back out of them. */
function toStored(object: KubeObject): KubeObject {
  const old = object as unknown as { spec?: OldSpec; status?: OldStatus };
  const annotations = { ...object.metadata.annotations };
  const take = (key: string): unknown => {
    const text = annotations[key];
    delete annotations[key];
    return text === undefined ? undefined : readJson(text);
  };
  const metrics = listOf<OldMetric>(take(METRICS)).map(fromOldMetric);
  const { targetCPUUtilizationPercentage: cpu, ...common } = old.spec ?? ({} as OldSpec);
  if (cpu !== undefined) {
    const target = { type: 'Utilization', averageUtilization: cpu };
    metrics.push({ type: 'Resource', resource: { name: 'cpu', target } });
  }
  const behavior = take(BEHAVIOR);
  const { currentCPUUtilizationPercentage: _, ...counts } = { ...old.status } as OldStatus;
  // The older API always shows this count, the newer does not show zero.
  if (!counts.currentReplicas) delete (counts as Partial<OldStatus>).currentReplicas;
  const current = listOf<OldMetric>(take(CURRENT)).map(fromOldStatus);
  const conditions = listOf<NonNullable<Status['conditions']>[number]>(take(CONDITIONS));
  const spec = compact({ ...common, metrics, behavior: behavior && uncapitalized(behavior) });
  const status = {
    ...counts,
    currentMetrics: current.length > 0 ? current : null,
    ...(conditions.length > 0 ? { conditions } : {}),
  };
  const metadata = { ...object.metadata };
  if (Object.keys(annotations).length > 0) metadata.annotations = annotations;
  else delete metadata.annotations;
  const stored = { ...object, metadata, spec, status } as unknown as HorizontalPodAutoscaler;
  defaultHpa(stored);
  return stored as unknown as KubeObject;
}

/** A damaged annotation says nothing, as upstream has it. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const listOf = <T>(value: unknown): T[] => (Array.isArray(value) ? (value as T[]) : []);

const RULE_FIELDS = [
  'stabilizationWindowSeconds',
  'selectPolicy',
  'policies',
  'tolerance',
] as const;
const POLICY_FIELDS = ['type', 'value', 'periodSeconds'] as const;
const upper = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** This annotation alone spells its fields with capitals; clients have learnt to read it so. */
function capitalized(behavior: NonNullable<Spec['behavior']>): unknown {
  const rules = (one: typeof behavior.scaleUp): unknown =>
    one === undefined
      ? null
      : Object.fromEntries(
          RULE_FIELDS.map((field) => [
            upper(field),
            field === 'policies'
              ? (one.policies ?? []).map((policy) =>
                  Object.fromEntries(POLICY_FIELDS.map((name) => [upper(name), policy[name]])),
                )
              : (one[field] ?? null),
          ]),
        );
  return { ScaleUp: rules(behavior.scaleUp), ScaleDown: rules(behavior.scaleDown) };
}

function uncapitalized(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(uncapitalized);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== null)
      .map(([key, inner]) => [key.charAt(0).toLowerCase() + key.slice(1), uncapitalized(inner)]),
  );
}

const asStored = (object: KubeObject): HorizontalPodAutoscaler =>
  toStored(structuredClone(object)) as unknown as HorizontalPodAutoscaler;

/** A view of what autoscaling/v2 stores. Source: autoscaling/v1 HorizontalPodAutoscaler. */
export const horizontalPodAutoscalerV1 = defineKind({
  group: 'autoscaling',
  version: 'v1',
  kind: 'HorizontalPodAutoscaler',
  plural: 'horizontalpodautoscalers',
  singular: 'horizontalpodautoscaler',
  shortNames: ['hpa'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1HorizontalPodAutoscaler',
  fieldRules: [autoscalingRules, metaRules],
  generation: 'none',
  subresources: { status: STATUS },
  storedAs: { kind: () => horizontalPodAutoscaler, toStored, fromStored },
  columns: hpaColumns.map((column) => ({
    ...column,
    value: (object, now) => column.value(asStored(object), now),
  })),
  ...ownedStatus({ currentReplicas: 0, desiredReplicas: 0 }),

  defaults(object) {
    const spec = (object['spec'] ??= {}) as Partial<OldSpec>;
    const status = (object['status'] ??= {}) as Partial<OldStatus>;
    spec.minReplicas ??= 1;
    if (!object.metadata.annotations?.[METRICS]) spec.targetCPUUtilizationPercentage ??= 80;
    status.currentReplicas ??= 0;
    status.desiredReplicas ??= 0;
  },
  // Errors name the stored fields, as upstream's do.
  validate: (object) => validateHpa(asStored(object)),
});
