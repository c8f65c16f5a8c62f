import type { Plugin } from '#scheduler/plugin.ts';

/** Pods with scheduling gates wait until the last gate is removed. Source: KEP-3521. */
export const schedulingGates: Plugin = {
  name: 'SchedulingGates',
  preEnqueue(pod) {
    const gates = pod.spec.schedulingGates ?? [];
    if (gates.length === 0) return null;
    const names = gates.map((gate) => gate.name).join(', ');
    return {
      reason: `waiting for scheduling gates: [${names}]`,
      unresolvable: true,
      help: `remove the gates from spec.schedulingGates of the pod: ${names}`,
    };
  },
};
