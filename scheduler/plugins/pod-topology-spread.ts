import type * as models from '@kubernetes/client-node';
import { fitsNodeAffinity } from '#api/node-selector.ts';
import { tolerates } from '#api/tolerations.ts';
import type { Plain, Pod } from '#api/types.ts';
import { type CycleContext, MAX_SCORE, type Plugin, SKIP } from '#scheduler/plugin.ts';
import { countSelected, type PodSelection, selectionOf } from '#scheduler/pod-selection.ts';
import type { NodeView } from '#scheduler/snapshot.ts';

type Constraint = Plain<models.V1TopologySpreadConstraint>;

/** A constraint, and how many matching pods stand in each domain of its topology key. */
type Counted = {
  constraint: Constraint;
  counts: Map<string, number>;
  /** Of the emptiest domain; none when there are fewer domains than the constraint wants. */
  least: number;
  /** The pod itself, where it matches its own constraint. */
  self: number;
};

type Wishes = { weighted: { constraint: Constraint; counted: Counted; weight: number }[] };

const NAME = 'PodTopologySpread';
const SCORE = `${NAME}/score`;
/** The score of a node that lacks a topology key: it is out of the comparison. */
const IGNORED = -1;

/** Keeps matching pods even over topology domains. Source: core/v1 TopologySpreadConstraint. */
export const podTopologySpread: Plugin = {
  name: NAME,
  preFilter(context) {
    const constraints = constraintsOf(context, 'DoNotSchedule');
    if (constraints.length === 0) return SKIP;
    context.state.set(NAME, countAll(context, constraints));
    return null;
  },
  filter({ state }, node) {
    for (const { constraint, counts, least, self } of state.get(NAME) as Counted[]) {
      const value = domainOf(node, constraint);
      if (value === undefined) {
        return {
          reason: "node(s) didn't match pod topology spread constraints (missing required label)",
          unresolvable: true,
          help: `label ${node.name} with ${constraint.topologyKey}`,
        };
      }
      if ((counts.get(value) ?? 0) + self - least > constraint.maxSkew) {
        return { reason: "node(s) didn't match pod topology spread constraints" };
      }
    }
    return null;
  },
  preScore(context, nodes) {
    const constraints = constraintsOf(context, 'ScheduleAnyway');
    if (constraints.length === 0) return SKIP;
    const weighted = countAll(context, constraints).map((counted) => {
      const { constraint } = counted;
      const domains = new Set(nodes.map((node) => domainOf(node, constraint)));
      // More domains mean fewer pods in each: the weight makes up for it, as upstream's does.
      return { constraint, counted, weight: Math.log(domains.size + 2) };
    });
    context.state.set(SCORE, { weighted } satisfies Wishes);
    return null;
  },
  score({ state }, node) {
    let pods = 0;
    for (const { constraint, counted, weight } of (state.get(SCORE) as Wishes).weighted) {
      const value = domainOf(node, constraint);
      if (value === undefined) return IGNORED;
      pods += (counted.counts.get(value) ?? 0) * weight + (constraint.maxSkew - 1);
    }
    return Math.round(pods);
  },
  normalize(scores) {
    const compared = scores.filter((score) => score !== IGNORED);
    const low = compared.reduce((least, score) => Math.min(least, score), Number.POSITIVE_INFINITY);
    const high = compared.reduce((most, score) => Math.max(most, score), 0);
    for (let i = 0; i < scores.length; i++) {
      const score = scores[i] ?? 0;
      if (score === IGNORED) scores[i] = 0;
      else if (high === 0) scores[i] = MAX_SCORE;
      else scores[i] = Math.floor((MAX_SCORE * (high + low - score)) / high);
    }
  },
};

const constraintsOf = (
  { pod: { pod } }: CycleContext,
  when: Constraint['whenUnsatisfiable'],
): Constraint[] =>
  (pod.spec.topologySpreadConstraints ?? []).filter((c) => c.whenUnsatisfiable === when);

const domainOf = (node: NodeView, { topologyKey }: Constraint): string | undefined =>
  node.node.metadata.labels?.[topologyKey];

function countAll(context: CycleContext, constraints: readonly Constraint[]): Counted[] {
  const { pod } = context.pod;
  const counted = constraints.map((constraint) => {
    const selection = livingOnly(selectionOf(constraint, pod, context.cluster));
    return { constraint, selection, counts: new Map<string, number>() };
  });
  for (const node of context.cluster.nodes()) {
    // A node without one of the keys is in no domain of the others either.
    if (constraints.some((constraint) => domainOf(node, constraint) === undefined)) continue;
    for (const { constraint, selection, counts } of counted) {
      if (!isCounted(constraint, pod, node)) continue;
      const value = domainOf(node, constraint) ?? '';
      counts.set(value, (counts.get(value) ?? 0) + countSelected(node, selection));
    }
  }
  return counted.map(({ constraint, selection, counts }) => ({
    constraint,
    counts,
    least: counts.size >= (constraint.minDomains ?? 1) ? leastOf(counts) : 0,
    self: selection.matches(context.pod) ? 1 : 0,
  }));
}

/** Pods on their way out leave room already. */
const livingOnly = ({ key, matches }: PodSelection): PodSelection => ({
  key: key === null ? null : `living ${key}`,
  matches: (pod) => !pod.pod.metadata.deletionTimestamp && matches(pod),
});

function leastOf(counts: ReadonlyMap<string, number>): number {
  let least = Number.POSITIVE_INFINITY;
  for (const count of counts.values()) least = Math.min(least, count);
  return least;
}

/** Does this node's domain count, by nodeAffinityPolicy and nodeTaintsPolicy? */
function isCounted(constraint: Constraint, pod: Pod, { node }: NodeView): boolean {
  const { nodeAffinityPolicy = 'Honor', nodeTaintsPolicy = 'Ignore' } = constraint;
  if (nodeAffinityPolicy === 'Honor' && !fitsNodeAffinity(pod.spec, node)) return false;
  if (nodeTaintsPolicy !== 'Honor') return true;
  return (node.spec?.taints ?? []).every(
    (taint) => taint.effect === 'PreferNoSchedule' || tolerates(pod.spec.tolerations, taint),
  );
}
