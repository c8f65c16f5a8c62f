import { defineKind } from '#api/kind.ts';
import { type NodeMetrics, nodeMetricsSchema } from '#api/metrics/resource-usage.ts';

/** Measured on request and never stored. Source: metrics.k8s.io/v1beta1 NodeMetrics. */
export const nodeMetrics = defineKind<NodeMetrics>({
  group: 'metrics.k8s.io',
  version: 'v1beta1',
  kind: 'NodeMetrics',
  plural: 'nodes',
  singular: '',
  scope: 'Cluster',
  schema: nodeMetricsSchema,
  verbs: ['get', 'list'],
  generation: 'none',
  columns: [
    { name: 'CPU', type: 'string', value: (object) => object.usage.cpu },
    { name: 'Memory', type: 'string', value: (object) => object.usage.memory },
    { name: 'Window', type: 'string', value: (object) => object.window },
  ],
  ageColumn: false,
});
