import type * as models from '@kubernetes/client-node';
import { matchesLabels } from '#api/labels.ts';
import { matchesNodeSelectorTerm } from '#api/node-selector.ts';
import { tolerates } from '#api/tolerations.ts';
import type { Plain, Pod } from '#api/types.ts';
import { type CycleContext, type Plugin, scaleToMax } from '#scheduler/plugin.ts';
import type { NodeView } from '#scheduler/snapshot.ts';

type Constraint = Plain<models.V1TopologySpreadConstraint>;
type Counted = { constraint: Constraint; counts: Map<string, number>; self: number };

const NAME = 'PodTopologySpread';

/** Keeps matching pods even over topology domains. Source: core/v1 TopologySpreadConstraint. */
export const podTopologySpread: Plugin = {
  name: NAME,
  preFilter(context) {
    context.state.set(NAME, countAll(context, 'DoNotSchedule'));
    return null;
  },
  filter({ state }, node) {
    for (const { constraint, counts, self } of state.get(NAME) as Counted[]) {
      const value = node.node.metadata.labels?.[constraint.topologyKey];
      if (value === undefined) {
        return {
          reason: "node(s) didn't match pod topology spread constraints (missing required label)",
          unresolvable: true,
          help: `label ${node.name} with ${constraint.topologyKey}`,
        };
      }
      const enough = counts.size >= (constraint.minDomains ?? 1);
      const least = enough ? Math.min(...counts.values()) : 0;
      if ((counts.get(value) ?? 0) + self - least > constraint.maxSkew) {
        return { reason: "node(s) didn't match pod topology spread constraints" };
      }
    }
    return null;
  },
  preScore(context) {
    context.state.set(`${NAME}/score`, countAll(context, 'ScheduleAnyway'));
  },
  score({ state }, node) {
    let pods = 0;
    for (const { constraint, counts } of state.get(`${NAME}/score`) as Counted[]) {
      const value = node.node.metadata.labels?.[constraint.topologyKey];
      if (value !== undefined) pods += (counts.get(value) ?? 0) + constraint.maxSkew - 1;
    }
    return pods;
  },
  normalize: (scores) => scaleToMax(scores, true),
};

function countAll(context: CycleContext, when: Constraint['whenUnsatisfiable']): Counted[] {
  const { pod } = context.pod;
  const { namespace } = pod.metadata;
  const constraints = (pod.spec.topologySpreadConstraints ?? []).filter(
    (c) => c.whenUnsatisfiable === when,
  );
  return constraints.map((constraint) => {
    const counts = new Map<string, number>();
    const selected = selectorFor(constraint, pod);
    for (const node of context.cluster.nodes()) {
      const value = node.node.metadata.labels?.[constraint.topologyKey];
      if (value === undefined || !isCounted(constraint, pod, node)) continue;
      let count = counts.get(value) ?? 0;
      for (const other of node.pods.values()) {
        if (other.pod.metadata.namespace !== namespace || other.pod.metadata.deletionTimestamp)
          continue;
        if (selected(other.pod)) count++;
      }
      counts.set(value, count);
    }
    return { constraint, counts, self: selected(pod) ? 1 : 0 };
  });
}

function selectorFor(constraint: Constraint, owner: Pod): (pod: Pod) => boolean {
  const keys = constraint.matchLabelKeys ?? [];
  return (pod) => {
    const labels = pod.metadata.labels ?? {};
    const same = keys.every(
      (key) =>
        owner.metadata.labels?.[key] === undefined || owner.metadata.labels[key] === labels[key],
    );
    return (
      same &&
      constraint.labelSelector !== undefined &&
      matchesLabels(constraint.labelSelector, labels)
    );
  };
}

/** Does this node's domain count, by nodeAffinityPolicy and nodeTaintsPolicy? */
function isCounted(constraint: Constraint, pod: Pod, { node }: NodeView): boolean {
  if ((constraint.nodeAffinityPolicy ?? 'Honor') === 'Honor') {
    const labels = node.metadata.labels ?? {};
    const selector = Object.entries(pod.spec.nodeSelector ?? {});
    if (!selector.every(([key, value]) => labels[key] === value)) return false;
    const terms =
      pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
        ?.nodeSelectorTerms;
    if (terms && !terms.some((term) => matchesNodeSelectorTerm(term, node))) return false;
  }
  if (constraint.nodeTaintsPolicy !== 'Honor') return true;
  return (node.spec?.taints ?? []).every(
    (taint) => taint.effect === 'PreferNoSchedule' || tolerates(pod.spec.tolerations, taint),
  );
}
