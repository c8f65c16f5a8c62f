import type { Pod } from '#api/types.ts';
import { claimNameOf } from '#api/volume-match.ts';
import { type Plugin, SKIP } from '#scheduler/plugin.ts';
import { isTerminal, type NodeView } from '#scheduler/snapshot.ts';

const NAME = 'VolumeRestrictions';
const ONE_POD = 'ReadWriteOncePod';

type Exclusive = {
  /** Claims that one pod alone may use. */
  names: ReadonlySet<string>;
  namespace: string;
  /** Users by node. */
  users: ReadonlyMap<string, number>;
};

/** A claim for one pod is used by one pod. Source: KEP-2485, upstream's VolumeRestrictions plugin. */
export const volumeRestrictions: Plugin = {
  name: NAME,
  preFilter({ pod: { pod }, cluster, state }) {
    const { storage } = cluster;
    const { namespace = '' } = pod.metadata;
    const names = new Set(
      claimsOf(pod).filter((name) =>
        storage?.claim(namespace, name)?.spec?.accessModes?.includes(ONE_POD),
      ),
    );
    if (names.size === 0) return SKIP;
    const users = new Map(
      cluster.nodes().map((node) => [node.name, usersOn(node, { names, namespace })]),
    );
    state.set(NAME, { names, namespace, users } satisfies Exclusive);
    return null;
  },
  filter({ state }, node) {
    const exclusive = state.get(NAME) as Exclusive | undefined;
    if (!exclusive) return null;
    // The node may be shown as it would be without some pods (preemption); the others are as they are.
    const elsewhere = [...exclusive.users].some(([name, count]) => name !== node.name && count > 0);
    if (!elsewhere && usersOn(node, exclusive) === 0) return null;
    return {
      reason:
        'node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode',
      help: 'delete the pod that uses the claim',
      ...(elsewhere ? { unresolvable: true } : {}),
    };
  },
};

const claimsOf = (pod: Pod): string[] =>
  (pod.spec.volumes ?? []).map((volume) => claimNameOf(pod, volume)).filter((name) => name !== '');

function usersOn(
  { pods }: NodeView,
  { names, namespace }: Pick<Exclusive, 'names' | 'namespace'>,
): number {
  let count = 0;
  for (const { pod } of pods.values()) {
    if (isTerminal(pod) || pod.metadata.namespace !== namespace) continue;
    if (claimsOf(pod).some((name) => names.has(name))) count++;
  }
  return count;
}
