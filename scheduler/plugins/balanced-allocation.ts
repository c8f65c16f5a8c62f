import { MAX_SCORE, type Plugin } from '#scheduler/plugin.ts';

/** Likes nodes on which cpu and memory would be used in like shares, so that neither is stranded. */
export const balancedAllocation: Plugin = {
  name: 'NodeResourcesBalancedAllocation',
  score({ pod }, node) {
    const share = (resource: string): number => {
      const capacity = node.allocatable.get(resource) ?? 0;
      if (capacity === 0) return 1;
      const wanted = (node.requested.get(resource) ?? 0) + (pod.requests.get(resource) ?? 0);
      return Math.min(1, wanted / capacity);
    };
    // The standard deviation of two values is half of their difference.
    const deviation = Math.abs(share('cpu') - share('memory')) / 2;
    return Math.floor((1 - deviation) * MAX_SCORE);
  },
};
