import { matchesLabels } from '#api/labels.ts';
import { matchesNodeSelectorTerm } from '#api/node-selector.ts';
import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import type {
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  StorageClass,
  Volume as PodVolume,
} from '#api/types.ts';

/** Which volume a claim may get: scheduler and binder must agree on it. Pure. */

export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
/** The provisioner of classes whose volumes are made by hand. */
export const NO_PROVISIONER = 'kubernetes.io/no-provisioner';
/** On what the binder did by itself, and may undo. */
export const BOUND_BY_CONTROLLER = 'pv.kubernetes.io/bound-by-controller';
const OLD_CLASS = 'volume.beta.kubernetes.io/storage-class';

type Claim = PersistentVolumeClaim;
type Volume = PersistentVolume;

export type MatchWorld = {
  claim: Claim;
  volumes: readonly Volume[];
  storageClass: StorageClass | undefined;
  /** Where a pod that uses the claim runs, or is to run; undefined when there is none yet. */
  node: Node | undefined;
};

export const classOf = ({ metadata, spec }: Claim | Volume): string =>
  metadata.annotations?.[OLD_CLASS] ?? spec?.storageClassName ?? '';

export const waitsForConsumer = (storageClass: StorageClass | undefined): boolean =>
  storageClass?.volumeBindingMode === 'WaitForFirstConsumer';

/** Whether the volume is reserved for, or bound to, this very claim. */
export function isFor(volume: Volume, { metadata }: Claim): boolean {
  const { namespace, name, uid } = volume.spec?.claimRef ?? {};
  if (namespace !== metadata.namespace || name !== metadata.name) return false;
  return !uid || uid === metadata.uid;
}

/** The reserved volume, or else the smallest that satisfies the claim. */
export function findVolume(world: MatchWorld): Volume | undefined {
  const { claim, volumes, storageClass, node } = world;
  const fitting = volumes.filter((volume) => satisfies(claim, volume));
  const reserved = fitting.find((volume) => volume.spec?.claimRef && isFor(volume, claim));
  if (reserved) return reserved;
  const delayed = waitsForConsumer(storageClass);
  if (delayed && !node) return undefined;
  const size = (volume: Volume) => parseQuantity(volume.spec?.capacity?.['storage'] ?? '0');
  return fitting
    .filter((volume) => isFree(volume) && isPicked(claim, volume))
    .filter((volume) => !delayed || !node || isReachable(volume, node))
    .sort((a, b) => compareQuantity(size(a), size(b)) || byName(a, b))[0];
}

const byName = (a: Volume, b: Volume): number =>
  (a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1;

/** Why a volume that the claim names cannot be its; '' when it can. Upstream's words. */
export const mismatchOf = (claim: Claim, volume: Volume): string =>
  classOf(claim) === classOf(volume) ? unfitness(claim, volume) : 'storageClassName does not match';

const satisfies = (claim: Claim, volume: Volume): boolean =>
  !volume.metadata.deletionTimestamp && unfitness(claim, volume) === '';

function unfitness({ spec }: Claim, volume: Volume): string {
  const { accessModes = [], volumeMode = 'Filesystem', capacity } = volume.spec ?? {};
  const asked = parseQuantity(spec?.resources?.requests?.['storage'] ?? '0');
  if (compareQuantity(parseQuantity(capacity?.['storage'] ?? '0'), asked) < 0)
    return 'requested PV is too small';
  if ((spec?.volumeMode ?? 'Filesystem') !== volumeMode) return 'incompatible volumeMode';
  if (!(spec?.accessModes ?? []).every((mode) => accessModes.includes(mode)))
    return 'incompatible accessMode';
  const attributes = spec?.volumeAttributesClassName ?? '';
  return attributes === (volume.spec?.volumeAttributesClassName ?? '')
    ? ''
    : 'volumeAttributesClassName does not match';
}

const isFree = ({ spec, status }: Volume): boolean =>
  !spec?.claimRef && (status?.phase ?? 'Available') === 'Available';

function isPicked(claim: Claim, volume: Volume): boolean {
  if (classOf(claim) !== classOf(volume)) return false;
  const { selector } = claim.spec ?? {};
  return !selector || matchesLabels(selector, volume.metadata.labels ?? {});
}

/** The volume as it says that it belongs to the claim: the first write of a binding. */
export function reservedFor({ metadata }: Claim, volume: Volume): Volume {
  const { namespace = '', name = '', uid = '', resourceVersion = '' } = metadata;
  const kind = 'PersistentVolumeClaim';
  const claimRef = { kind, apiVersion: 'v1', namespace, name, uid, resourceVersion };
  // A volume that its author reserved is not ours to give to others later.
  const byUs = volume.spec?.claimRef ? {} : { [BOUND_BY_CONTROLLER]: 'yes' };
  const annotations = { ...volume.metadata.annotations, ...byUs };
  return {
    ...volume,
    metadata: { ...volume.metadata, annotations },
    spec: { ...volume.spec, claimRef },
  };
}

/** May pods on the node use the volume? */
export function isReachable({ spec }: Volume, node: Node): boolean {
  const required = spec?.nodeAffinity?.required;
  return (
    !required || required.nodeSelectorTerms.some((term) => matchesNodeSelectorTerm(term, node))
  );
}

/** The claim behind a pod's volume; '' when there is none. */
export function claimNameOf(pod: Pod, volume: PodVolume): string {
  if (volume.persistentVolumeClaim) return volume.persistentVolumeClaim.claimName;
  return volume.ephemeral ? `${pod.metadata.name}-${volume.name}` : '';
}
