import { tolerates } from '#api/tolerations.ts';
import { type Plugin, scaleToMax, SKIP } from '#scheduler/plugin.ts';
import type { NodeView } from '#scheduler/snapshot.ts';

const softTaints = ({ node }: NodeView) =>
  (node.spec?.taints ?? []).filter(({ effect }) => effect === 'PreferNoSchedule');

/** Taints repel pods that do not tolerate them; PreferNoSchedule only makes a node less liked. */
export const taintToleration: Plugin = {
  name: 'TaintToleration',
  filter({ pod }, { node, name }) {
    const taint = (node.spec?.taints ?? []).find(
      (t) => t.effect !== 'PreferNoSchedule' && !tolerates(pod.pod.spec.tolerations, t),
    );
    if (!taint) return null;
    const shown = taint.value ? `${taint.key}: ${taint.value}` : taint.key;
    return {
      reason: `node(s) had untolerated taint(s) {${shown}}`,
      unresolvable: true,
      help:
        `add a toleration for ${taint.key} to the pod, or remove the taint: ` +
        `kubectl taint node ${name} ${taint.key}:${taint.effect}-`,
    };
  },
  preScore: (_, nodes) => (nodes.some((node) => softTaints(node).length > 0) ? null : SKIP),
  score: ({ pod }, node) =>
    softTaints(node).filter((taint) => !tolerates(pod.pod.spec.tolerations, taint)).length,
  normalize: (scores) => scaleToMax(scores, true),
};
