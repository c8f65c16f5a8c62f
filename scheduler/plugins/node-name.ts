import type { Plugin } from '#scheduler/plugin.ts';

/** A pod that names its node goes nowhere else. */
export const nodeName: Plugin = {
  name: 'NodeName',
  filter({ pod }, { name }) {
    const wanted = pod.pod.spec.nodeName;
    if (!wanted || wanted === name) return null;
    return { reason: "node(s) didn't match the requested node name", unresolvable: true };
  },
};
