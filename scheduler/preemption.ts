import { matchesLabels } from '#api/labels.ts';
import type { Random } from '#base/random.ts';
import { randomInt } from '#base/random.ts';
import type { Pod } from '#api/types.ts';
import { firstRefusal, prepareFilters } from '#scheduler/cycle.ts';
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
export type PreemptionPlan = {
  node: string;
  victims: PodView[];
  /** How many of the victims a disruption budget would rather keep. */
  violations: number;
};

export type PreemptionResult =
  | { type: 'plan'; plan: PreemptionPlan }
  /** Nobody can be removed, or it would not help; `message` says so per reason. */
  | { type: 'none'; message: string };

export type PreemptionProblem = {
  pod: PodView;
  cluster: ClusterView;
  plugins: readonly WeightedPlugin[];
  /** Why no node took the pod. */
  refusals: ReadonlyMap<string, Refusal>;
  random: Random;
};

/**
 * As many candidates are compared, beginning at a node that chance names: on a large cluster a good
 * one is worth more than the best. Source: upstream's minCandidateNodesAbsolute and -Percentage.
 */
const MIN_CANDIDATES = 100;
const MIN_CANDIDATES_PERCENT = 10;

/**
 * Finds the node where deleting pods of lower priority makes room at the least cost. Pure.
 * The choice among nodes follows upstream: fewest budgets violated, then lowest highest victim
 * priority, then lowest sum, then fewest victims, then the one whose most important victims started
 * last.
 */
export function planPreemption(problem: PreemptionProblem): PreemptionResult {
  const { cluster, refusals, random } = problem;
  const obstacle = whyNotEligible(problem);
  if (obstacle) return { type: 'none', message: `preemption: not eligible due to ${obstacle}.` };
  const nodes = cluster.nodes().filter(({ name }) => !refusals.get(name)?.unresolvable);
  const byPercentage = Math.floor((cluster.nodes().length * MIN_CANDIDATES_PERCENT) / 100);
  const enough = Math.max(MIN_CANDIDATES, byPercentage);
  const first = randomInt(random, nodes.length);
  const plans: PreemptionPlan[] = [];
  for (let i = 0; i < nodes.length && plans.length < enough; i++) {
    const node = nodes[(first + i) % nodes.length];
    const plan = node && planOn(problem, node);
    if (plan) plans.push(plan);
  }
  const [best] = plans.sort(comparePlans);
  if (best) return { type: 'plan', plan: best };
  const why =
    nodes.length === 0
      ? 'Preemption is not helpful for scheduling'
      : 'No preemption victims found for incoming pod';
  const count = cluster.nodes().length;
  const message = `preemption: 0/${count} nodes are available: ${count} ${why}.`;
  return { type: 'none', message };
}

/** What keeps the pod from having others removed; null when nothing does. */
function whyNotEligible({ pod, cluster, refusals }: PreemptionProblem): string | null {
  if (pod.pod.spec.preemptionPolicy === 'Never') return 'preemptionPolicy=Never';
  const nominated = cluster.node(pod.pod.status?.nominatedNodeName ?? '');
  if (!nominated || refusals.get(nominated.name)?.unresolvable) return null;
  // Its victims are on their way out: more of them would be too many.
  for (const other of nominated.pods.values()) {
    if (other.priority < pod.priority && other.pod.metadata.deletionTimestamp) {
      return 'a terminating pod on the nominated node';
    }
  }
  return null;
}

/** The fewest, least important pods whose removal lets `pod` fit on the node; null if none would. */
function planOn(problem: PreemptionProblem, node: NodeView): PreemptionPlan | null {
  const { pod, cluster, plugins } = problem;
  const lower = [...node.pods.values()].filter((other) => other.priority < pod.priority);
  if (lower.length === 0) return null;
  const trial = copyNode(node);
  const view = viewWith(cluster, trial);
  const fits = (): boolean => {
    const context: CycleContext = { pod, state: new Map(), cluster: view };
    const { filters } = prepareFilters(context, plugins);
    return filters !== undefined && firstRefusal(context, trial, filters) === null;
  };
  for (const other of lower) withdraw(trial, other);
  if (!fits()) return null;
  const { guarded, free } = byBudgets(lower.sort(byImportance), cluster);
  // Give back the most important first; whoever does not fit any more is a victim.
  const giveBack = (others: readonly PodView[]): PodView[] =>
    others.filter((other) => {
      put(trial, other);
      if (fits()) return false;
      withdraw(trial, other);
      return true;
    });
  const violated = giveBack(guarded);
  const victims = [...violated, ...giveBack(free)].sort(byImportance);
  return victims.length === 0 ? null : { node: node.name, victims, violations: violated.length };
}

/** The cluster as it is, save that one node looks like `trial`. */
function viewWith(cluster: ClusterView, trial: NodeView): ClusterView {
  const withTrial = (nodes: readonly NodeView[]): readonly NodeView[] =>
    nodes.map((node) => (node.name === trial.name ? trial : node));
  let nodes: readonly NodeView[] | undefined;
  let nodesWithAffinity: readonly NodeView[] | undefined;
  return {
    nodes: () => (nodes ??= withTrial(cluster.nodes())),
    nodesWithAffinity: () => (nodesWithAffinity ??= withTrial(cluster.nodesWithAffinity())),
    node: (name) => (name === trial.name ? trial : cluster.node(name)),
    nominatedTo: (name) => cluster.nominatedTo(name),
    namespaceLabels: (namespace) => cluster.namespaceLabels(namespace),
    storage: cluster.storage,
    budgets: (namespace) => cluster.budgets(namespace),
  };
}

/** Parts pods, the most important first, into those whose removal would violate a budget, and others. */
function byBudgets(
  others: readonly PodView[],
  cluster: ClusterView,
): { guarded: PodView[]; free: PodView[] } {
  const left = new Map<string, number>();
  const isGuarded = ({ pod: { metadata } }: PodView): boolean => {
    if (Object.keys(metadata.labels ?? {}).length === 0) return false;
    let violates = false;
    for (const { metadata: budget, spec, status } of cluster.budgets(metadata.namespace ?? '')) {
      if (!matchesLabels(spec?.selector, metadata.labels)) continue;
      // Its end is counted already.
      if (status?.disruptedPods?.[metadata.name ?? '']) continue;
      const key = `${budget.namespace}/${budget.name}`;
      const allowed = (left.get(key) ?? status?.disruptionsAllowed ?? 0) - 1;
      left.set(key, allowed);
      if (allowed < 0) violates = true;
    }
    return violates;
  };
  const parted = Map.groupBy(others, (other) => (isGuarded(other) ? 'guarded' : 'free'));
  return { guarded: parted.get('guarded') ?? [], free: parted.get('free') ?? [] };
}

const startOf = (pod: Pod): string => pod.status?.startTime ?? pod.metadata.creationTimestamp ?? '';

/** More important first: higher priority, then longer running. */
const byImportance = (a: PodView, b: PodView): number =>
  b.priority - a.priority || (startOf(a.pod) < startOf(b.pod) ? -1 : 1);

/** Makes priorities positive, so that fewer victims are less in the sum, too. */
const PRIORITY_OFFSET = 2 ** 31;

function comparePlans(a: PreemptionPlan, b: PreemptionPlan): number {
  const top = ({ victims }: PreemptionPlan) => victims[0]?.priority ?? 0;
  const sum = ({ victims }: PreemptionPlan) =>
    victims.reduce((total, { priority }) => total + priority + PRIORITY_OFFSET, 0);
  // The first of the most important victims is the one that started first.
  const oldest = ({ victims: [first] }: PreemptionPlan) => (first ? startOf(first.pod) : '');
  return (
    a.violations - b.violations ||
    top(a) - top(b) ||
    sum(a) - sum(b) ||
    a.victims.length - b.victims.length ||
    (oldest(a) > oldest(b) ? -1 : 1)
  );
}
