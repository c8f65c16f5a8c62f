import type { HorizontalPodAutoscaler, LabelSelector } from '#api/types.ts';

/** Metrics in the older API's words, as its annotations keep them. Source: autoscaling/v1 MetricSpec. */

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
export type Metric = NonNullable<Spec['metrics']>[number];
export type MetricStatus = NonNullable<
  NonNullable<HorizontalPodAutoscaler['status']>['currentMetrics']
>[number];

type Values = { value?: string; averageValue?: string; averageUtilization?: number };
type Reference = { kind: string; name: string; apiVersion?: string };
type OldSource = {
  target?: Reference;
  metricName?: string;
  name?: string;
  container?: string;
  selector?: LabelSelector;
  metricSelector?: LabelSelector;
  [value: string]: unknown;
};
export type OldMetric = { type: string } & Partial<Record<SourceName, OldSource>>;

const SOURCES = ['object', 'pods', 'resource', 'containerResource', 'external'] as const;
type SourceName = (typeof SOURCES)[number];

/** A target or a current value: the same fields under another prefix. */
type Side = 'target' | 'current';

const defined = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;

export const toOldMetric = (metric: Metric): OldMetric => rename(metric, 'target');
export const toOldStatus = (metric: MetricStatus): OldMetric => rename(metric, 'current');

function rename(metric: Metric | MetricStatus, side: Side): OldMetric {
  const result: OldMetric = { type: metric.type };
  const metrics = metric as Partial<Record<SourceName, NewSource>>;
  for (const name of SOURCES) {
    const source = metrics[name];
    if (source) result[name] = oldSource(name, source, source[side] ?? {}, side);
  }
  return result;
}

type NewSource = {
  describedObject?: Reference;
  metric?: { name: string; selector?: LabelSelector };
  name?: string;
  container?: string;
  target?: Values;
  current?: Values;
};

function oldSource(name: SourceName, source: NewSource, values: Values, side: Side): OldSource {
  const { value, averageValue, averageUtilization } = values;
  const { metric } = source;
  switch (name) {
    case 'object':
      return defined({
        target: source.describedObject && orderedReference(source.describedObject),
        metricName: metric?.name,
        // The value was required.
        [`${side}Value`]: value ?? '0',
        selector: metric?.selector,
        averageValue,
      }) as OldSource;
    case 'pods':
      return defined({
        metricName: metric?.name,
        [`${side}AverageValue`]: averageValue,
        selector: metric?.selector,
      }) as OldSource;
    case 'external':
      return defined({
        metricName: metric?.name,
        metricSelector: metric?.selector,
        [`${side}Value`]: value,
        [`${side}AverageValue`]: averageValue,
      }) as OldSource;
    default:
      return defined({
        name: source.name,
        [`${side}AverageUtilization`]: averageUtilization,
        [`${side}AverageValue`]: averageValue,
        container: source.container,
      }) as OldSource;
  }
}

const orderedReference = ({ kind, name, apiVersion }: Reference): Reference =>
  defined({ kind, name, apiVersion }) as Reference;

export const fromOldMetric = (old: OldMetric): Metric => renameBack(old, 'target') as Metric;
export const fromOldStatus = (old: OldMetric): MetricStatus =>
  renameBack(old, 'current') as MetricStatus;

function renameBack(old: OldMetric, side: Side): unknown {
  const result: Record<string, unknown> = { type: old.type };
  for (const name of SOURCES) {
    const source = old[name];
    if (source) result[name] = newSource(name, source, side);
  }
  return result;
}

function newSource(name: SourceName, source: OldSource, side: Side): unknown {
  const given = source[`${side}Value`] as string | undefined;
  const value = given === '0' && source['averageValue'] !== undefined ? undefined : given;
  const averageValue = (source[`${side}AverageValue`] ?? source['averageValue']) as
    | string
    | undefined;
  const averageUtilization = source[`${side}AverageUtilization`] as number | undefined;
  const values = defined({ value, averageValue, averageUtilization }) as Values & {
    type?: string;
  };
  if (side === 'target') {
    values.type =
      averageUtilization !== undefined
        ? 'Utilization'
        : averageValue !== undefined
          ? 'AverageValue'
          : 'Value';
  }
  if (name === 'resource' || name === 'containerResource') {
    return defined({ name: source.name, container: source.container, [side]: values });
  }
  const selector = source.selector ?? source.metricSelector;
  const metric = defined({ name: source.metricName ?? '', selector });
  return defined({ describedObject: source.target, metric, [side]: values });
}
