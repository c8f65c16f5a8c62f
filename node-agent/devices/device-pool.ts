import { amountsOf } from '#api/pod-resources.ts';
import type { Pod } from '#api/types.ts';
import { podContainers } from '#node-agent/pods/pod-observation.ts';

/** Devices of one resource by id: whether they can be used. */
export type Devices = ReadonlyMap<string, boolean>;

/** What one container holds of one resource. */
export type Holding = { uid: string; container: string; resource: string; ids: readonly string[] };

/** More is asked for than there is. */
export type Shortage = { resource: string; requested: number; available: number };

/**
 * Which devices a new pod gets beside what others hold, or what is short. An init container's
 * devices go on to the main containers after it: they never run at a time. Pure.
 */
export function assignDevices(
  pod: Pod,
  offered: ReadonlyMap<string, Devices>,
  held: readonly Holding[],
): Holding[] | Shortage {
  const uid = pod.metadata.uid ?? '';
  const mine: Holding[] = [];
  const passedOn = new Map<string, Set<string>>();
  for (const { kind, spec } of podContainers(pod)) {
    for (const [resource, requested] of amountsOf(spec.resources?.limits)) {
      const devices = offered.get(resource);
      if (!devices || requested === 0) continue;
      const free = passedOn.get(resource) ?? new Set();
      passedOn.set(resource, free);
      const taken = new Set(
        [...held, ...mine].flatMap((h) => (h.resource === resource ? h.ids : [])),
      );
      const unused = [...devices]
        .filter(([id, healthy]) => healthy && !taken.has(id))
        .map(([id]) => id);
      const usable = [...free, ...unused];
      if (usable.length < requested) return { resource, requested, available: usable.length };
      const ids = usable.slice(0, requested);
      mine.push({ uid, container: spec.name, resource, ids });
      for (const id of ids) {
        if (kind === 'init') free.add(id);
        else free.delete(id);
      }
    }
  }
  return mine;
}
