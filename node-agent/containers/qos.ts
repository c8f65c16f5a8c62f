import { amountsOf } from '#api/pod-resources.ts';
import type { Container, Pod } from '#api/types.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

const COUNTED = ['cpu', 'memory'] as const;

/**
 * Guaranteed: every container limits cpu and memory and requests as much. BestEffort: nobody asks
 * for anything. Burstable: the rest.
 * Source: the API documentation of PodStatus.qosClass.
 */
export function qosClass({ spec }: Pod): QosClass {
  const containers: Pick<Container, 'resources'>[] = spec.resources
    ? [{ resources: spec.resources }]
    : [...spec.containers, ...(spec.initContainers ?? [])];
  const all = containers.map(({ resources }) => ({
    requests: amountsOf({ ...resources?.limits, ...resources?.requests }),
    limits: amountsOf(resources?.limits),
  }));
  const asks = all.some(({ requests }) => COUNTED.some((name) => (requests.get(name) ?? 0) > 0));
  if (!asks) return 'BestEffort';
  const guaranteed = all.every(({ requests, limits }) =>
    COUNTED.every((name) => {
      const limit = limits.get(name) ?? 0;
      return limit > 0 && limit === requests.get(name);
    }),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}
