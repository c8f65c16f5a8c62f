import type { KubeObject } from '#api/types.ts';
import type { Schema } from '#api/schema.ts';

/** What a container or node uses now. cpu in nanocores (`12345678n`), memory in Ki. */
export type Usage = { cpu: string; memory: string };

/** metrics.k8s.io/v1beta1 NodeMetrics. `window` is a Go duration: `10s`. */
export type NodeMetrics = KubeObject & { timestamp: string; window: string; usage: Usage };

/** metrics.k8s.io/v1beta1 PodMetrics. */
export type PodMetrics = KubeObject & {
  timestamp: string;
  window: string;
  containers: { name: string; usage: Usage }[];
};

const text = (description: string): Schema => ({ type: 'string', description });

const usage: Schema = {
  type: 'object',
  description: 'What is used, by resource name.',
  additionalProperties: { ref: 'io.k8s.apimachinery.pkg.api.resource.Quantity' },
};

const common: Readonly<Record<string, Schema>> = {
  apiVersion: text('Version of this form of the object.'),
  kind: text('Kind of the object.'),
  metadata: { ref: 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' },
  timestamp: { type: 'string', format: 'date-time', description: 'End of the measured interval.' },
  window: text('Length of the measured interval.'),
};

export const nodeMetricsSchema: Schema = {
  type: 'object',
  description: 'What a node uses.',
  properties: { ...common, usage },
};

export const podMetricsSchema: Schema = {
  type: 'object',
  description: 'What the containers of a pod use.',
  properties: {
    ...common,
    containers: {
      type: 'array',
      items: {
        type: 'object',
        properties: { name: text('Name of the container.'), usage },
        required: ['name', 'usage'],
      },
    },
  },
};
