import { matchesLabels } from '#api/labels.ts';
import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, StorageClass } from '#api/types.ts';
import {
  claimNameOf,
  classOf,
  findVolume,
  isReachable,
  NO_PROVISIONER,
  SELECTED_NODE,
  waitsForConsumer,
} from '#api/volume-match.ts';
import { type CycleContext, type Plugin, type Refusal, SKIP } from '#scheduler/plugin.ts';
import type { StorageView } from '#scheduler/snapshot.ts';

const NAME = 'VolumeBinding';

/** What the pod's claims ask of a node. */
type Demand = {
  bound: PersistentVolume[];
  waiting: { claim: PersistentVolumeClaim; storageClass: StorageClass | undefined }[];
};

/**
 * A pod goes where its bound volumes can be reached, and where its unbound claims can be met; it
 * waits for claims that have to be bound before. Source: upstream's VolumeBinding plugin.
 */
export const volumeBinding: Plugin = {
  name: NAME,
  preFilter(context) {
    const { storage } = context.cluster;
    const { pod } = context.pod;
    if (!storage || !pod.spec.volumes?.some((volume) => claimNameOf(pod, volume))) return SKIP;
    const demand: Demand = { bound: [], waiting: [] };
    const refusal = addDemands(context, storage, demand);
    if (!refusal) context.state.set(NAME, demand);
    return refusal;
  },
  filter({ cluster: { storage }, state }, { node }) {
    const demand = state.get(NAME) as Demand | undefined;
    if (!demand || !storage) return null;
    if (demand.bound.some((volume) => !isReachable(volume, node))) {
      return {
        reason: "node(s) didn't match PersistentVolume's node affinity",
        unresolvable: true,
        help: 'the data is on another node: make room there',
      };
    }
    const plan = meet(demand, node, storage);
    return 'reason' in plan ? plan : null;
  },
};

/** What has to happen to a pod's claims before the pod is bound to a node. */
export type VolumePlan = {
  /** Volumes that exist, one for each of these claims. */
  reserve: { claim: PersistentVolumeClaim; volume: PersistentVolume }[];
  /** Claims whose provisioner is told the node; it may have been told before. */
  provision: PersistentVolumeClaim[];
};

/**
 * How the pod's unbound claims are met on the node; undefined when all are bound. Pure, and to be
 * asked in the turn in which the node was chosen.
 */
export function planVolumes(context: CycleContext, node: Node): VolumePlan | undefined {
  const { storage } = context.cluster;
  const demand: Demand = { bound: [], waiting: [] };
  if (!storage || addDemands(context, storage, demand) || demand.waiting.length === 0) {
    return undefined;
  }
  const plan = meet(demand, node, storage);
  return 'reason' in plan ? undefined : plan;
}

/** Volumes that exist come before new ones; no two claims of a pod get the same. */
function meet({ waiting }: Demand, node: Node, storage: StorageView): VolumePlan | Refusal {
  const plan: VolumePlan = { reserve: [], provision: [] };
  let volumes = waiting.length === 0 ? [] : storage.volumes();
  for (const { claim, storageClass } of waiting) {
    const selected = claim.metadata.annotations?.[SELECTED_NODE];
    if (selected === node.metadata.name) {
      plan.provision.push(claim);
      continue;
    }
    const volume = selected ? undefined : findVolume({ claim, storageClass, node, volumes });
    if (volume) {
      plan.reserve.push({ claim, volume });
      volumes = volumes.filter((one) => one !== volume);
      continue;
    }
    const mayProvision =
      !selected &&
      storageClass !== undefined &&
      storageClass.provisioner !== NO_PROVISIONER &&
      isAllowed(storageClass, node);
    if (!mayProvision) {
      return {
        reason: "node(s) didn't find available persistent volumes to bind",
        unresolvable: true,
        help: 'create a PersistentVolume that the node can reach',
      };
    }
    if (!hasRoom(claim, storageClass, node, storage)) {
      return {
        reason: 'node(s) did not have enough free storage',
        unresolvable: true,
        help: `free or add storage of class ${storageClass.metadata.name}`,
      };
    }
    plan.provision.push(claim);
  }
  return plan;
}

/** A class may be for a part of the cluster only. */
function isAllowed({ allowedTopologies }: StorageClass, { metadata }: Node): boolean {
  if (!allowedTopologies || allowedTopologies.length === 0) return true;
  return allowedTopologies.some((term) =>
    (term.matchLabelExpressions ?? []).every(({ key, values }) =>
      values.includes(metadata.labels?.[key] ?? ''),
    ),
  );
}

/**
 * Whether a driver that tells how much it has left has enough for the claim where the node is.
 * Source: KEP-1472, CSIDriver.spec.storageCapacity.
 */
function hasRoom(
  { spec }: PersistentVolumeClaim,
  { metadata, provisioner }: StorageClass,
  node: Node,
  storage: StorageView,
): boolean {
  if (!storage.csiDriver(provisioner)?.spec.storageCapacity) return true;
  const size = parseQuantity(spec?.resources?.requests?.['storage'] ?? '0');
  return storage.capacities().some(({ storageClassName, capacity, ...one }) => {
    const largest = one.maximumVolumeSize ?? capacity;
    return (
      storageClassName === metadata.name &&
      largest !== undefined &&
      compareQuantity(parseQuantity(largest), size) >= 0 &&
      one.nodeTopology !== undefined &&
      matchesLabels(one.nodeTopology, node.metadata.labels ?? {})
    );
  });
}

function addDemands(
  { pod: { pod } }: CycleContext,
  storage: StorageView,
  demand: Demand,
): Refusal | null {
  for (const volume of pod.spec.volumes ?? []) {
    const name = claimNameOf(pod, volume);
    if (!name) continue;
    const claim = storage.claim(pod.metadata.namespace ?? '', name);
    if (!claim) {
      const reason = volume.ephemeral
        ? `waiting for ephemeral volume controller to create the persistentvolumeclaim "${name}"`
        : `persistentvolumeclaim "${name}" not found`;
      return { reason, unresolvable: true };
    }
    if (claim.metadata.deletionTimestamp) {
      return { reason: `persistentvolumeclaim "${name}" is being deleted`, unresolvable: true };
    }
    const bound = claim.spec?.volumeName ? storage.volume(claim.spec.volumeName) : undefined;
    const storageClass = storage.storageClass(classOf(claim));
    if (bound && claim.status?.phase === 'Bound') demand.bound.push(bound);
    else if (waitsForConsumer(storageClass) && !claim.spec?.volumeName) {
      demand.waiting.push({ claim, storageClass });
    } else {
      const reason = 'pod has unbound immediate PersistentVolumeClaims';
      return { reason, unresolvable: true };
    }
  }
  return null;
}
