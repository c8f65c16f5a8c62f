import type { Column } from '#api/kind.ts';
import { integer, NONE, text } from '#api/meta/columns.ts';
import type { HorizontalPodAutoscaler } from '#api/types.ts';

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
type Metric = NonNullable<Spec['metrics']>[number];
type Current = NonNullable<
  NonNullable<HorizontalPodAutoscaler['status']>['currentMetrics']
>[number];

const UNKNOWN = '<unknown>';
/** Cells spell out this many metrics and count the others. */
const SHOWN = 2;

type Values = { value?: string; averageValue?: string; averageUtilization?: number };

const percent = (value: number | undefined): string =>
  value === undefined ? UNKNOWN : `${value}%`;

function resourceCell(name: string, target: Values, current: Values | undefined): string {
  if (target.averageValue !== undefined) {
    return `${name}: ${current?.averageValue ?? UNKNOWN}/${target.averageValue}`;
  }
  const wanted =
    target.averageUtilization === undefined ? '<auto>' : `${target.averageUtilization}%`;
  return `${name}: ${percent(current?.averageUtilization)}/${wanted}`;
}

function metricCell(metric: Metric, current: Current | undefined): string {
  switch (metric.type) {
    case 'External': {
      const target = metric.external?.target;
      if (target?.averageValue !== undefined) {
        const now = current?.external?.current?.averageValue ?? UNKNOWN;
        return `${now}/${target.averageValue} (avg)`;
      }
      return `${current?.external?.current?.value ?? UNKNOWN}/${target?.value ?? UNKNOWN}`;
    }
    case 'Pods':
      return `${current?.pods?.current?.averageValue ?? UNKNOWN}/${metric.pods?.target?.averageValue}`;
    case 'Object': {
      const target = metric.object?.target;
      if (target?.averageValue !== undefined) {
        const now = current?.object?.current?.averageValue ?? UNKNOWN;
        return `${now}/${target.averageValue} (avg)`;
      }
      return `${current?.object?.current?.value ?? UNKNOWN}/${target?.value ?? UNKNOWN}`;
    }
    case 'Resource':
      return resourceCell(
        metric.resource?.name ?? '',
        metric.resource?.target ?? {},
        current?.resource?.current,
      );
    case 'ContainerResource':
      return resourceCell(
        metric.containerResource?.name ?? '',
        metric.containerResource?.target ?? {},
        current?.containerResource?.current,
      );
    default:
      return '<unknown type>';
  }
}

function targets(object: HorizontalPodAutoscaler): string {
  const metrics = object.spec?.metrics ?? [];
  if (metrics.length === 0) return NONE;
  const current = object.status?.currentMetrics ?? [];
  const cells = metrics.slice(0, SHOWN).map((metric, i) => metricCell(metric, current[i]));
  const text = cells.join(', ');
  return metrics.length > SHOWN ? `${text} + ${metrics.length - SHOWN} more...` : text;
}

export const hpaColumns: readonly Column<HorizontalPodAutoscaler>[] = [
  text(
    'Reference',
    ({ spec }) => `${spec?.scaleTargetRef?.kind ?? ''}/${spec?.scaleTargetRef?.name ?? ''}`,
    'V2HorizontalPodAutoscalerSpec.scaleTargetRef',
  ),
  text('Targets', targets, 'V2HorizontalPodAutoscalerSpec.metrics'),
  {
    ...text('MinPods', ({ spec }) => String(spec?.minReplicas ?? '<unset>')),
    describedBy: 'V2HorizontalPodAutoscalerSpec.minReplicas',
  },
  // Numbers that upstream calls strings.
  ...[
    integer(
      'MaxPods',
      ({ spec }: HorizontalPodAutoscaler) => spec?.maxReplicas ?? 0,
      'V2HorizontalPodAutoscalerSpec.maxReplicas',
    ),
    integer(
      'Replicas',
      ({ status }: HorizontalPodAutoscaler) => status?.currentReplicas ?? 0,
      'V2HorizontalPodAutoscalerStatus.currentReplicas',
    ),
  ].map((column) => ({ ...column, type: 'string' as const })),
];
