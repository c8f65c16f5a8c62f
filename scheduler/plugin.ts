import type { Pod } from '#api/types.ts';
import type { ClusterView, NodeView, PodView } from '#scheduler/snapshot.ts';

/**
 * Why a node cannot take a pod. `reason` is counted over nodes and shown to the user in upstream's
 * words; `help` says what would change the answer.
 */
export type Refusal = {
  reason: string;
  /** Removing pods from the node could not help: preemption need not look at it. */
  unresolvable?: boolean;
  help?: string;
};

/** What the cycle knows about one pod while it looks for a node. */
export type CycleContext = {
  pod: PodView;
  cluster: ClusterView;
  /** What a plugin computed in preFilter, by plugin name; lives for one cycle. */
  state: Map<string, unknown>;
};

/** What preFilter and preScore say when the plugin has nothing to decide for this pod. */
export const SKIP = 'skip';

/** Highest score a plugin gives. Source: Kubernetes scheduling framework. */
export const MAX_SCORE = 100;

/**
 * One scheduler plugin: any of the points below. Functions are synchronous and pure over the
 * context: the view cannot change during a cycle.
 */
export type Plugin = {
  name: string;
  /** May the pod be queued at all? */
  preEnqueue?(pod: Pod): Refusal | null;
  /**
   * Once per cycle: compute what filter needs. A refusal ends the cycle for all nodes; after SKIP,
   * filter is not asked.
   */
  preFilter?(context: CycleContext): Refusal | typeof SKIP | null;
  filter?(context: CycleContext, node: NodeView): Refusal | null;
  /** Once per cycle over the nodes that passed. After SKIP, score is not asked. */
  preScore?(context: CycleContext, nodes: readonly NodeView[]): typeof SKIP | null;
  /** Higher is better, 0 to MAX_SCORE once normalized. */
  score?(context: CycleContext, node: NodeView): number;
  /** Brings raw scores into 0..MAX_SCORE; mutates. Default: they are already there. */
  normalize?(scores: number[], context: CycleContext): void;
};

/** A plugin and how much its score counts. */
export type WeightedPlugin = { plugin: Plugin; weight: number };

/** Scales so that the largest raw score becomes MAX_SCORE; `reverse` makes less better. */
export function scaleToMax(scores: number[], reverse = false): void {
  const top = scores.reduce((max, score) => Math.max(max, score), 0);
  for (let i = 0; i < scores.length; i++) {
    const scaled = top === 0 ? 0 : Math.floor(((scores[i] ?? 0) * MAX_SCORE) / top);
    scores[i] = reverse ? MAX_SCORE - scaled : scaled;
  }
}
