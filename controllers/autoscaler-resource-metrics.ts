import { errorText } from '#base/log.ts';
import { parseQuantity, quantityMilli } from '#api/quantity.ts';
import { parseTime } from '#api/time.ts';
import type { KubeObject } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import type { AutoscalerWorld } from '#controllers/autoscaler-plan.ts';
import type { PodUse, Uses } from '#controllers/autoscaler-replicas.ts';

/** What pods use, as metrics.k8s.io says. */

type PodMetrics = KubeObject & {
  timestamp?: string;
  window?: string;
  containers?: { name: string; usage?: Record<string, string> }[];
};

const podMetrics: Resource<PodMetrics> = {
  group: 'metrics.k8s.io',
  version: 'v1beta1',
  resource: 'pods',
  kind: 'PodMetrics',
  namespaced: true,
};

/** Metrics that the pods' resource use answers. */
export const isOfResources = ({ type }: { type: string }): boolean =>
  type === 'Resource' || type === 'ContainerResource';

/** Reads the metrics once; the answer serves every metric of the autoscaler. */
export async function readUses(
  api: Api,
  at: { namespace: string; selector: string; signal: AbortSignal },
): Promise<AutoscalerWorld['usesOf']> {
  const { namespace, selector: labelSelector, signal } = at;
  const prefix = (resource: string): string => `unable to get metrics for resource ${resource}: `;
  try {
    const { items } = await api.list(podMetrics, { namespace, labelSelector, signal });
    if (items.length > 0) return (resource, container) => usesIn(items, resource, container);
    return (resource) => ({
      error: `${prefix(resource)}no metrics returned from resource metrics API`,
    });
  } catch (error) {
    signal.throwIfAborted();
    const why = `unable to fetch metrics from resource metrics API: ${errorText(error)}`;
    return (resource) => ({ error: `${prefix(resource)}${why}` });
  }
}

/** A pod of which one container is not measured is not measured. */
function usesIn(items: readonly PodMetrics[], resource: string, container?: string): Uses {
  const uses = new Map<string, PodUse>();
  for (const { metadata, containers = [], timestamp = '', window = '' } of items) {
    const counted = container ? containers.filter((c) => c.name === container) : containers;
    const amounts = counted.map((c) => c.usage?.[resource]);
    const known = amounts.filter((amount) => amount !== undefined);
    if (known.length === 0 || known.length < amounts.length) continue;
    const milli = known.reduce((sum, text) => sum + quantityMilli(parseQuantity(text)), 0);
    const timestampMs = parseTime(timestamp) || 0;
    uses.set(metadata.name ?? '', { milli, timestampMs, windowMs: durationMs(window) });
  }
  return uses;
}

/** Go's duration text: `15s`, `1m30s`, `30.2s`. */
function durationMs(text: string): number {
  const unit = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;
  let sum = 0;
  for (const [, number, name] of text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)) {
    sum += Number(number) * unit[name as keyof typeof unit];
  }
  return sum;
}
