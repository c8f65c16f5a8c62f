import { defineKind } from '#api/kind.ts';
import { type PodMetrics, podMetricsSchema } from '#api/metrics/resource-usage.ts';

/** Measured on request and never stored. Source: metrics.k8s.io/v1beta1 PodMetrics. */
export const podMetrics = defineKind<PodMetrics>({
  group: 'metrics.k8s.io',
  version: 'v1beta1',
  kind: 'PodMetrics',
  plural: 'pods',
  singular: '',
  scope: 'Namespaced',
  schema: podMetricsSchema,
  verbs: ['get', 'list'],
  generation: 'none',
  columns: [
    { name: 'Containers', type: 'integer', value: (object) => object.containers.length },
    { name: 'Window', type: 'string', value: (object) => object.window },
  ],
  ageColumn: false,
});
