import { type Plugin, SKIP } from '#scheduler/plugin.ts';

/** A pod that names its node goes nowhere else. */
export const nodeName: Plugin = {
  name: 'NodeName',
  preFilter: ({ pod }) => (pod.pod.spec.nodeName ? null : SKIP),
  filter({ pod }, { name }) {
    if (pod.pod.spec.nodeName === name) return null;
    return { reason: "node(s) didn't match the requested node name", unresolvable: true };
  },
};
