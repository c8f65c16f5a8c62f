import { isDeepStrictEqual } from 'node:util';
import { attachmentName, LOCAL_DRIVER, uniqueVolumeName } from '#api/csi-names.ts';
import type {
  CSIDriver,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  VolumeAttachment,
} from '#api/types.ts';
import { claimNameOf } from '#api/volume-match.ts';
import type { Action } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { nodes, volumeAttachments } from '#client/resources.ts';
import { isTerminal } from '#controllers/pods.ts';

/**
 * Which volumes are attached to a node: what its pods use, and what has not been let go of yet.
 * Source: upstream's attach/detach controller; the attaching itself is the external-attacher's.
 */

/** A volume that a node which is not ready still mounts is taken away after this time. */
export const MAX_UNMOUNT_WAIT_MS = 6 * 60_000;
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';
/** Attachments that are named like ours; others belong to whoever made them. */
const OURS = /^csi-[0-9a-f]{64}$/;

export type AttachWorld = {
  name: string;
  /** Undefined when the node is gone. */
  node: Node | undefined;
  /** Bound to the node. */
  pods: readonly Pod[];
  claim: (namespace: string, name: string) => PersistentVolumeClaim | undefined;
  volume: (name: string) => PersistentVolume | undefined;
  driver: (name: string) => CSIDriver | undefined;
  /** Of this node. */
  attachments: readonly VolumeAttachment[];
  /** Of a volume, on any node. */
  attachmentsOf: (volume: string) => readonly VolumeAttachment[];
  /** Since when an attachment has been of no use, by name. */
  idleSinceMs: (attachment: string) => number | undefined;
};

/** A volume that some pod of the node uses. */
export type Wanted = { volume: PersistentVolume; pods: Pod[] };

/** By attachment name. Pure. */
export function wantedOn(world: AttachWorld): Map<string, Wanted> {
  const wanted = new Map<string, Wanted>();
  for (const pod of world.pods) {
    if (isTerminal(pod)) continue;
    for (const one of pod.spec.volumes ?? []) {
      const claimName = claimNameOf(pod, one);
      const claim = claimName && world.claim(pod.metadata.namespace ?? '', claimName);
      if (!claim || claim.status?.phase !== 'Bound') continue;
      const volume = world.volume(claim.spec?.volumeName ?? '');
      const csi = volume?.spec?.csi;
      if (!volume || !csi || volume.spec?.claimRef?.uid !== claim.metadata.uid) continue;
      if (!needsAttachment(csi.driver, world)) continue;
      const name = attachmentName(csi.volumeHandle, csi.driver, world.name);
      const known = wanted.get(name) ?? { volume, pods: [] };
      known.pods.push(pod);
      wanted.set(name, known);
    }
  }
  return wanted;
}

const needsAttachment = (driver: string, world: AttachWorld): boolean =>
  driver !== LOCAL_DRIVER && world.driver(driver)?.spec.attachRequired !== false;

const uniqueOf = ({ spec }: PersistentVolume): string =>
  uniqueVolumeName(spec?.csi?.driver ?? '', spec?.csi?.volumeHandle ?? '');

/** Attaches, tells the node, detaches; in this order, so that nothing is taken from under a pod. Pure. */
export function planAttachments(world: AttachWorld, now: number): Plan {
  const wanted = wantedOn(world);
  const there = new Map(world.attachments.map((one) => [one.metadata.name ?? '', one]));
  const actions: Action[] = [];
  for (const [name, one] of wanted) {
    const attachment = there.get(name);
    if (!attachment) actions.push(...attach(world, name, one));
    else actions.push(...tell(world, attachment, one));
  }
  const idle = world.attachments.filter(
    ({ metadata }) =>
      OURS.test(metadata.name ?? '') &&
      !wanted.has(metadata.name ?? '') &&
      !metadata.deletionTimestamp,
  );
  const loose = idle.filter((attachment) => mayDetach(world, attachment, now));
  const reported = reportAttached(world, wanted, there);
  const deletions = loose.map(
    ({ metadata: { name = '', uid = '' } }): Action => ({
      type: 'delete',
      resource: volumeAttachments,
      key: { name },
      uid,
    }),
  );
  const waits = idle.length > loose.length;
  return {
    actions: [...actions, ...reported, ...deletions],
    ...(waits ? { requeueAfterMs: MAX_UNMOUNT_WAIT_MS } : {}),
  };
}

function attach(world: AttachWorld, name: string, { volume, pods }: Wanted): Action[] {
  const elsewhere = otherUser(world, volume);
  if (elsewhere !== undefined) {
    const message =
      `Multi-Attach error for volume "${volume.metadata.name}" ` +
      `Volume is already exclusively attached to node ${elsewhere} and can't be attached to another`;
    return pods.map((pod) => say(pod, 'Warning', 'FailedAttachVolume', message));
  }
  const object: VolumeAttachment = {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'VolumeAttachment',
    metadata: { name },
    spec: {
      attacher: volume.spec?.csi?.driver ?? '',
      nodeName: world.name,
      source: { persistentVolumeName: volume.metadata.name ?? '' },
    },
  };
  return [{ type: 'create', resource: volumeAttachments, object, ifExists: 'ignore' }];
}

/** The other node that has a volume which only one may have. */
function otherUser(world: AttachWorld, volume: PersistentVolume): string | undefined {
  const modes = volume.spec?.accessModes ?? [];
  if (modes.includes('ReadWriteMany') || modes.includes('ReadOnlyMany')) return undefined;
  return world
    .attachmentsOf(volume.metadata.name ?? '')
    .find(({ spec }) => spec.nodeName !== world.name)?.spec.nodeName;
}

const say = (about: Pod, type: 'Normal' | 'Warning', reason: string, message: string): Action => ({
  type: 'event',
  about,
  note: { type, reason, message },
});

/** What the attacher has come to, when the node does not know it yet. */
function tell(
  world: AttachWorld,
  attachment: VolumeAttachment,
  { volume, pods }: Wanted,
): Action[] {
  const name = volume.metadata.name ?? '';
  const { attached, attachError } = attachment.status ?? {};
  if (attached && !isListed(world.node, uniqueOf(volume))) {
    const message = `AttachVolume.Attach succeeded for volume "${name}" `;
    return pods.map((pod) => say(pod, 'Normal', 'SuccessfulAttachVolume', message));
  }
  if (attached || !attachError?.message) return [];
  const message = `AttachVolume.Attach failed for volume "${name}" : ${attachError.message}`;
  return pods.map((pod) => say(pod, 'Warning', 'FailedAttachVolume', message));
}

const isListed = (node: Node | undefined, unique: string): boolean =>
  node?.status?.volumesAttached?.some(({ name }) => name === unique) ?? false;

/** The node lists what it may mount; what is to be detached is off the list before it goes. */
function reportAttached(
  world: AttachWorld,
  wanted: ReadonlyMap<string, Wanted>,
  there: ReadonlyMap<string, VolumeAttachment>,
): Action[] {
  const { node } = world;
  if (!node) return [];
  const kept = new Set([...wanted.keys()]);
  for (const name of there.keys()) if (!wanted.has(name) && isInUse(world, name)) kept.add(name);
  const names = [...kept].flatMap((name) => {
    const attachment = there.get(name);
    if (!attachment?.status?.attached || attachment.metadata.deletionTimestamp) return [];
    const volume = world.volume(attachment.spec.source.persistentVolumeName ?? '');
    return volume ? [uniqueOf(volume)] : [];
  });
  // Volumes of other kinds are not ours to judge.
  const others = (node.status?.volumesAttached ?? []).filter(
    ({ name }) => !name.startsWith('kubernetes.io/csi/'),
  );
  const volumesAttached = [...others, ...names.sort().map((name) => ({ name, devicePath: '' }))];
  if (isDeepStrictEqual(volumesAttached, node.status?.volumesAttached ?? [])) return [];
  // With the version that was seen: a node that has begun to use a volume since is looked at again.
  const object: Node = { ...node, status: { ...node.status, volumesAttached } };
  return [{ type: 'updateStatus', resource: nodes, object }];
}

function isInUse(world: AttachWorld, attachment: string): boolean {
  const inUse = world.node?.status?.volumesInUse ?? [];
  const source = world.attachments.find(({ metadata }) => metadata.name === attachment)?.spec
    .source;
  const volume = world.volume(source?.persistentVolumeName ?? '');
  return volume !== undefined && inUse.includes(uniqueOf(volume));
}

function mayDetach(world: AttachWorld, { metadata }: VolumeAttachment, now: number): boolean {
  const name = metadata.name ?? '';
  const { node } = world;
  if (!node || !isInUse(world, name)) return true;
  if (node.spec?.taints?.some(({ key }) => key === OUT_OF_SERVICE)) return true;
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True';
  const since = world.idleSinceMs(name) ?? now;
  return !ready && now - since >= MAX_UNMOUNT_WAIT_MS;
}
