import { canonicalBytes, canonicalMilli } from '#scheduler/amount-text.ts';
import { MAX_SCORE, type Plugin, type Refusal } from '#scheduler/plugin.ts';
import type { NodeView, PodView } from '#scheduler/snapshot.ts';

/** `pack` fills nodes up (fewest nodes in use), `spread` evens them out. */
export type FitStrategy = 'pack' | 'spread';

const SCORED = ['cpu', 'memory'] as const;

/** Requests must fit into what is left of allocatable; the score packs or spreads. */
export function nodeResourcesFit(strategy: FitStrategy): Plugin {
  return {
    name: 'NodeResourcesFit',
    filter: ({ pod }, node) => shortage(pod, node),
    score: ({ pod }, node) => {
      let sum = 0;
      for (const resource of SCORED) {
        const capacity = node.allocatable.get(resource) ?? 0;
        const wanted =
          (node.scoredRequested.get(resource) ?? 0) + (pod.scoredRequests.get(resource) ?? 0);
        if (capacity === 0 || wanted > capacity) continue;
        const used = Math.floor((wanted * MAX_SCORE) / capacity);
        sum += strategy === 'pack' ? used : MAX_SCORE - used;
      }
      return Math.floor(sum / SCORED.length);
    },
  };
}

/** The first resource that does not fit; null when all do. */
export function shortage(pod: PodView, node: NodeView): Refusal | null {
  const maxPods = node.allocatable.get('pods') ?? 0;
  if (node.pods.size + 1 > maxPods) {
    return {
      reason: 'Too many pods',
      help: `${node.name} takes ${maxPods} pods; add a node or delete pods`,
      ...(maxPods === 0 ? { unresolvable: true } : {}),
    };
  }
  for (const [resource, wanted] of pod.requests) {
    if (wanted === 0) continue;
    const capacity = node.allocatable.get(resource) ?? 0;
    const free = capacity - (node.requested.get(resource) ?? 0);
    if (wanted <= free) continue;
    const text = resource === 'cpu' ? canonicalMilli : canonicalBytes;
    return {
      reason: `Insufficient ${resource}`,
      // No victim could make room for what is larger than the whole node.
      ...(wanted > capacity ? { unresolvable: true } : {}),
      help:
        `the pod asks for ${text(wanted)} ${resource}; ${node.name} has ${text(Math.max(0, free))} ` +
        `of ${text(capacity)} free. Lower the request, add a node, or scale something down`,
    };
  }
  return null;
}
