import type { Node } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';

const NOT_READY = 'node.kubernetes.io/not-ready';

/**
 * A new node takes no pods until the node controller has seen it ready.
 * Source: Kubernetes "Admission Control", TaintNodesByCondition.
 */
export const taintNodesByCondition: AdmissionRule = {
  name: 'TaintNodesByCondition',
  handles: ({ operation, kind, subresource }) =>
    operation === 'CREATE' && kind.plural === 'nodes' && kind.group === '' && subresource === '',
  mutate({ object }) {
    const node = object as Node;
    const taints = node.spec?.taints ?? [];
    if (taints.some((one) => one.key === NOT_READY && one.effect === 'NoSchedule')) return;
    node.spec = { ...node.spec, taints: [...taints, { key: NOT_READY, effect: 'NoSchedule' }] };
  },
};
