import type { Pod } from '#api/types.ts';
import { claimNameOf, classOf } from '#api/volume-match.ts';
import { type CycleContext, type Plugin, SKIP } from '#scheduler/plugin.ts';
import type { PodView, StorageView } from '#scheduler/snapshot.ts';

const NAME = 'NodeVolumeLimits';

/**
 * A node takes no more volumes of a CSI driver than the driver says it can.
 * Source: upstream's NodeVolumeLimits plugin, CSINode's allocatable.count.
 */
export const nodeVolumeLimits: Plugin = {
  name: NAME,
  preFilter(context) {
    const { storage } = context.cluster;
    const wanted = storage && driverVolumes(context.pod.pod, storage);
    if (!wanted || wanted.size === 0) return SKIP;
    context.state.set(NAME, wanted);
    return null;
  },
  filter({ cluster: { storage }, state }: CycleContext, { name, pods }) {
    const wanted = state.get(NAME) as ReadonlyMap<string, string> | undefined;
    if (!wanted || !storage) return null;
    const drivers = storage.csiNode(name)?.spec.drivers ?? [];
    const limits = new Map(drivers.map((one) => [one.name, one.allocatable?.count]));
    if (![...wanted.values()].some((driver) => limits.get(driver) !== undefined)) return null;
    const there = volumesOf(pods.values(), storage);
    for (const [volume, driver] of attachedTo(name, storage)) there.set(volume, driver);
    for (const driver of new Set(wanted.values())) {
      const limit = limits.get(driver);
      if (limit === undefined) continue;
      const all = new Set([...of(there, driver), ...of(wanted, driver)]);
      if (all.size <= limit || all.size === of(there, driver).length) continue;
      return {
        reason: 'node(s) exceed max volume count',
        help: `CSI driver ${driver} allows ${limit} volumes on node ${name}`,
      };
    }
    return null;
  },
};

const of = (volumes: ReadonlyMap<string, string>, driver: string): string[] =>
  [...volumes].filter(([, its]) => its === driver).map(([volume]) => volume);

function volumesOf(pods: Iterable<PodView>, storage: StorageView): Map<string, string> {
  const all = new Map<string, string>();
  for (const { pod } of pods)
    for (const [volume, driver] of driverVolumes(pod, storage)) all.set(volume, driver);
  return all;
}

/** What is attached counts until it is detached, which may be long after its last pod has gone. */
function attachedTo(node: string, storage: StorageView): Map<string, string> {
  const found = new Map<string, string>();
  for (const { spec } of storage.attachments(node)) {
    const { persistentVolumeName, inlineVolumeSpec } = spec.source;
    const volume = persistentVolumeName ? storage.volume(persistentVolumeName)?.spec : undefined;
    const csi = volume?.csi ?? inlineVolumeSpec?.csi;
    if (csi?.driver === spec.attacher) found.set(`${csi.driver}^${csi.volumeHandle}`, csi.driver);
  }
  return found;
}

/** Driver by volume: what is bound by its handle, what is yet to be made by its claim. */
function driverVolumes(pod: Pod, storage: StorageView): Map<string, string> {
  const found = new Map<string, string>();
  for (const volume of pod.spec.volumes ?? []) {
    const name = claimNameOf(pod, volume);
    const claim = name && storage.claim(pod.metadata.namespace ?? '', name);
    if (!claim) continue;
    const csi = storage.volume(claim.spec?.volumeName ?? '')?.spec?.csi;
    if (csi) found.set(`${csi.driver}^${csi.volumeHandle}`, csi.driver);
    else if (!claim.spec?.volumeName) {
      const provisioner = storage.storageClass(classOf(claim))?.provisioner;
      if (provisioner) found.set(`${pod.metadata.namespace}/${name}`, provisioner);
    }
  }
  return found;
}
