import { tolerates } from '#api/tolerations.ts';
import type { Plugin } from '#scheduler/plugin.ts';

const TAINT = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' } as const;

/** Cordoned nodes take no pods, save those that tolerate it. */
export const nodeUnschedulable: Plugin = {
  name: 'NodeUnschedulable',
  filter({ pod }, { node, name }) {
    if (!node.spec?.unschedulable || tolerates(pod.pod.spec.tolerations, TAINT)) return null;
    return {
      reason: 'node(s) were unschedulable',
      unresolvable: true,
      help: `kubectl uncordon ${name}`,
    };
  },
};
