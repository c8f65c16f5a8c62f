import type { Pod } from '#api/types.ts';
import { firstRefusal } from '#scheduler/cycle.ts';
import type { CycleContext, Refusal, WeightedPlugin } from '#scheduler/plugin.ts';
import {
  type ClusterView,
  copyNode,
  type NodeView,
  type PodView,
  put,
  withdraw,
} from '#scheduler/snapshot.ts';

/** Whom to delete on which node, so that the pod fits there. */
export type PreemptionPlan = { node: string; victims: PodView[] };

export type PreemptionResult =
  | { type: 'plan'; plan: PreemptionPlan }
  /** Nobody can be removed, or it would not help; `message` says so per reason. */
  | { type: 'none'; message: string };

/**
 * Finds the node where deleting pods of lower priority makes room at the least cost. Pure.
 * The choice among nodes follows upstream: lowest highest victim priority, then lowest sum, then
 * fewest victims, then the one whose most important victim started last.
 */
export function planPreemption(
  pod: PodView,
  cluster: ClusterView,
  plugins: readonly WeightedPlugin[],
  refusals: ReadonlyMap<string, Refusal>,
): PreemptionResult {
  const none = (why: string): PreemptionResult => ({
    type: 'none',
    message: noPreemption(cluster, why),
  });
  if (pod.pod.spec.preemptionPolicy === 'Never') {
    return { type: 'none', message: 'preemption: not eligible due to preemptionPolicy=Never.' };
  }
  const plans: PreemptionPlan[] = [];
  for (const node of cluster.nodes()) {
    if (refusals.get(node.name)?.unresolvable) continue;
    const victims = victimsOn(pod, node, cluster, plugins);
    if (victims && victims.length > 0) plans.push({ node: node.name, victims });
  }
  if (plans.length === 0) {
    const resolvable = [...refusals.values()].some((refusal) => !refusal.unresolvable);
    return none(
      resolvable
        ? 'No preemption victims found for incoming pod'
        : 'Preemption is not helpful for scheduling',
    );
  }
  const [best] = plans.sort(comparePlans);
  return best ? { type: 'plan', plan: best } : none('No preemption victims found for incoming pod');
}

const noPreemption = (cluster: ClusterView, why: string): string => {
  const count = cluster.nodes().length;
  return `preemption: 0/${count} nodes are available: ${count} ${why}.`;
};

/** The fewest, least important pods whose removal lets `pod` fit; null when none would. */
function victimsOn(
  pod: PodView,
  node: NodeView,
  cluster: ClusterView,
  plugins: readonly WeightedPlugin[],
): PodView[] | null {
  const lower = [...node.pods.values()].filter((other) => other.priority < pod.priority);
  if (lower.length === 0) return null;
  const trial = copyNode(node);
  const fits = (): boolean => {
    const context = contextWith(pod, cluster, trial);
    for (const { plugin } of plugins) if (plugin.preFilter?.(context)) return false;
    return firstRefusal(context, trial, plugins) === null;
  };
  for (const other of lower) withdraw(trial, other);
  if (!fits()) return null;
  // Give back the most important first; whoever does not fit any more is a victim.
  const victims: PodView[] = [];
  for (const other of lower.sort(byImportance)) {
    put(trial, other);
    if (fits()) continue;
    withdraw(trial, other);
    victims.push(other);
  }
  return victims;
}

/** The cluster as it is, save that one node looks like `trial`. */
function contextWith(pod: PodView, cluster: ClusterView, trial: NodeView): CycleContext {
  const nodes = cluster.nodes().map((node) => (node.name === trial.name ? trial : node));
  return {
    pod,
    state: new Map(),
    cluster: {
      nodes: () => nodes,
      node: (name) => (name === trial.name ? trial : cluster.node(name)),
      nominatedTo: (name) => cluster.nominatedTo(name),
      namespaceLabels: (namespace) => cluster.namespaceLabels(namespace),
    },
  };
}

const startOf = (pod: Pod): string => pod.status?.startTime ?? pod.metadata.creationTimestamp ?? '';

/** More important first: higher priority, then longer running. */
const byImportance = (a: PodView, b: PodView): number =>
  b.priority - a.priority || (startOf(a.pod) < startOf(b.pod) ? -1 : 1);

function comparePlans(a: PreemptionPlan, b: PreemptionPlan): number {
  const top = (plan: PreemptionPlan) => Math.max(...plan.victims.map((v) => v.priority));
  const sum = (plan: PreemptionPlan) => plan.victims.reduce((s, v) => s + v.priority + 2 ** 31, 0);
  const newest = (plan: PreemptionPlan) =>
    plan.victims
      .filter((v) => v.priority === top(plan))
      .map((v) => startOf(v.pod))
      .sort()[0] ?? '';
  return (
    top(a) - top(b) ||
    sum(a) - sum(b) ||
    a.victims.length - b.victims.length ||
    (newest(a) > newest(b) ? -1 : 1)
  );
}
