import { matchesNodeSelectorTerm } from '#api/node-selector.ts';
import { type Plugin, scaleToMax, SKIP } from '#scheduler/plugin.ts';
import type { PodView } from '#scheduler/snapshot.ts';

const preferredTerms = ({ pod }: PodView) =>
  pod.spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];

/** nodeSelector and required node affinity bind; preferred node affinity adds its weights. */
export const nodeAffinity: Plugin = {
  name: 'NodeAffinity',
  preFilter({ pod }) {
    const { nodeSelector, affinity } = pod.pod.spec;
    const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
    return nodeSelector || required ? null : SKIP;
  },
  filter({ pod }, { node }) {
    const { nodeSelector, affinity } = pod.pod.spec;
    const labels = node.metadata.labels ?? {};
    const missing = Object.entries(nodeSelector ?? {}).find(
      ([key, value]) => labels[key] !== value,
    );
    const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
    const fits =
      !missing &&
      (!required || required.nodeSelectorTerms.some((term) => matchesNodeSelectorTerm(term, node)));
    if (fits) return null;
    return {
      reason: "node(s) didn't match Pod's node affinity/selector",
      unresolvable: true,
      help: missing
        ? `no node has label ${missing[0]}=${missing[1]} and all else: kubectl label node NAME ${missing[0]}=${missing[1]}`
        : "label a node so that it matches the pod's required node affinity",
    };
  },
  preScore: ({ pod }) => (preferredTerms(pod).length === 0 ? SKIP : null),
  score({ pod }, { node }) {
    return preferredTerms(pod)
      .filter((term) => matchesNodeSelectorTerm(term.preference, node))
      .reduce((sum, term) => sum + term.weight, 0);
  },
  normalize: (scores) => scaleToMax(scores),
};
