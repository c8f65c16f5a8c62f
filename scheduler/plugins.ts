import type { WeightedPlugin } from '#scheduler/plugin.ts';
import { balancedAllocation } from '#scheduler/plugins/balanced-allocation.ts';
import { imageLocality } from '#scheduler/plugins/image-locality.ts';
import { interPodAffinity } from '#scheduler/plugins/inter-pod-affinity.ts';
import { nodeAffinity } from '#scheduler/plugins/node-affinity.ts';
import { nodeName } from '#scheduler/plugins/node-name.ts';
import { nodePorts } from '#scheduler/plugins/node-ports.ts';
import { type FitStrategy, nodeResourcesFit } from '#scheduler/plugins/node-resources-fit.ts';
import { nodeUnschedulable } from '#scheduler/plugins/node-unschedulable.ts';
import { nodeVolumeLimits } from '#scheduler/plugins/node-volume-limits.ts';
import { podTopologySpread } from '#scheduler/plugins/pod-topology-spread.ts';
import { schedulingGates } from '#scheduler/plugins/scheduling-gates.ts';
import { taintToleration } from '#scheduler/plugins/taint-toleration.ts';
import { volumeBinding } from '#scheduler/plugins/volume-binding.ts';
import { volumeRestrictions } from '#scheduler/plugins/volume-restrictions.ts';

/**
 * THE LIST of scheduler plugins, in the order in which they filter (cheapest and most decisive
 * first), with the weight of their scores. `pack` counts fit most, so that nodes are filled before
 * the next one is used; `spread` weighs as upstream does.
 */
export function pluginsFor(strategy: FitStrategy): readonly WeightedPlugin[] {
  const packing = strategy === 'pack';
  return [
    { plugin: schedulingGates, weight: 0 },
    { plugin: nodeUnschedulable, weight: 0 },
    { plugin: nodeName, weight: 0 },
    { plugin: taintToleration, weight: 3 },
    { plugin: nodeAffinity, weight: 2 },
    { plugin: nodePorts, weight: 0 },
    { plugin: volumeRestrictions, weight: 0 },
    { plugin: nodeVolumeLimits, weight: 0 },
    { plugin: volumeBinding, weight: 0 },
    { plugin: nodeResourcesFit(strategy), weight: packing ? 3 : 1 },
    { plugin: podTopologySpread, weight: 2 },
    { plugin: interPodAffinity, weight: 2 },
    { plugin: balancedAllocation, weight: packing ? 0 : 1 },
    { plugin: imageLocality, weight: 1 },
  ];
}
