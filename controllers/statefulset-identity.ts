import type {
  ControllerRevision,
  KubeObject,
  OwnerReference,
  PersistentVolumeClaim,
  Pod,
  StatefulSet,
  Volume,
} from '#api/types.ts';
import { controllerOf, controllerReference } from '#controllers/ownership.ts';
import { podFromTemplate } from '#controllers/pods.ts';
import { REVISION_LABEL, templateOf } from '#controllers/revisions.ts';

/** Who a StatefulSet's pod is: its number, name, network identity and claims. Pure. */

const POD_NAME = 'statefulset.kubernetes.io/pod-name';
const POD_INDEX = 'apps.kubernetes.io/pod-index';

/** The number at the end of a member's name; -1 when the name is not of this set. */
export function ordinalOf(set: StatefulSet, pod: Pod): number {
  const prefix = `${set.metadata.name}-`;
  const name = pod.metadata.name ?? '';
  const digits = name.startsWith(prefix) ? name.slice(prefix.length) : '';
  return /^\d+$/.test(digits) ? Number(digits) : -1;
}

export const startOrdinal = (set: StatefulSet): number => set.spec?.ordinals?.start ?? 0;
export const wantedPods = (set: StatefulSet): number => set.spec?.replicas ?? 1;

export function isInRange(set: StatefulSet, ordinal: number): boolean {
  const start = startOrdinal(set);
  return ordinal >= start && ordinal < start + wantedPods(set);
}

/** The member with this number, made of a revision's template. */
export function memberOf(set: StatefulSet, ordinal: number, revision: ControllerRevision): Pod {
  const template = templateOf(revision) ?? set.spec?.template ?? {};
  const { generateName: _, ...metadata } = podFromTemplate(template, set).metadata;
  const made: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...metadata,
      name: `${set.metadata.name}-${ordinal}`,
      labels: { ...metadata.labels, [REVISION_LABEL]: revision.metadata.name ?? '' },
    },
    spec: template.spec ?? { containers: [] },
  };
  return withIdentity(set, made, ordinal);
}

/** The pod with what makes it this member; the same object when nothing is missing. */
export function withIdentity(set: StatefulSet, pod: Pod, ordinal: number): Pod {
  if (hasIdentity(set, pod, ordinal) && hasStorage(set, pod, ordinal)) return pod;
  const name = `${set.metadata.name}-${ordinal}`;
  const subdomain = set.spec?.serviceName;
  const isNew = pod.metadata.uid === undefined;
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      labels: { ...pod.metadata.labels, [POD_NAME]: name, [POD_INDEX]: String(ordinal) },
    },
    spec: {
      ...pod.spec,
      // Immutable after creation.
      ...(isNew ? { hostname: name, ...(subdomain ? { subdomain } : {}) } : {}),
      ...(hasStorage(set, pod, ordinal) ? {} : { volumes: volumesOf(set, pod, ordinal) }),
    },
  };
}

function hasIdentity(set: StatefulSet, pod: Pod, ordinal: number): boolean {
  const name = `${set.metadata.name}-${ordinal}`;
  const { labels } = pod.metadata;
  if (pod.metadata.uid === undefined && pod.spec.hostname !== name) return false;
  return labels?.[POD_NAME] === name && labels[POD_INDEX] === String(ordinal);
}

function hasStorage(set: StatefulSet, pod: Pod, ordinal: number): boolean {
  return claimTemplates(set).every((template) => {
    const volume = pod.spec.volumes?.find((one) => one.name === template.metadata?.name);
    return volume?.persistentVolumeClaim?.claimName === claimName(set, template, ordinal);
  });
}

function volumesOf(set: StatefulSet, pod: Pod, ordinal: number): Volume[] {
  const claimed = claimTemplates(set).map(
    (template): Volume => ({
      name: template.metadata?.name ?? '',
      persistentVolumeClaim: { claimName: claimName(set, template, ordinal) },
    }),
  );
  const names = new Set(claimed.map((volume) => volume.name));
  return [...claimed, ...(pod.spec.volumes ?? []).filter((volume) => !names.has(volume.name))];
}

type ClaimTemplate = NonNullable<NonNullable<StatefulSet['spec']>['volumeClaimTemplates']>[number];

const claimTemplates = (set: StatefulSet): readonly ClaimTemplate[] =>
  set.spec?.volumeClaimTemplates ?? [];

const claimName = (set: StatefulSet, template: ClaimTemplate, ordinal: number): string =>
  `${template.metadata?.name}-${set.metadata.name}-${ordinal}`;

export const claimNames = (set: StatefulSet, ordinal: number): string[] =>
  claimTemplates(set).map((template) => claimName(set, template, ordinal));

/** The claims that the member with this number mounts, as they are made. */
export function claimsOf(set: StatefulSet, ordinal: number): PersistentVolumeClaim[] {
  return claimTemplates(set).map((template) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: claimName(set, template, ordinal),
      namespace: set.metadata.namespace ?? '',
      labels: { ...template.metadata?.labels, ...set.spec?.selector.matchLabels },
      ...(template.metadata?.annotations ? { annotations: template.metadata.annotations } : {}),
      ...ownersOrNone(claimOwners(set, undefined, { ordinal, existing: [] })),
    },
    spec: template.spec ?? {},
  }));
}

const ownersOrNone = (ownerReferences: OwnerReference[]): { ownerReferences?: OwnerReference[] } =>
  ownerReferences.length > 0 ? { ownerReferences } : {};

type Ownership = { ordinal: number; existing: readonly OwnerReference[] };

/**
 * Who owns a member's claim under the set's retention policy: nobody (it stays), the set (it goes
 * with the set), or a member that is surplus (it goes with the pod).
 * Source: StatefulSet "PersistentVolumeClaim retention".
 */
export function claimOwners(
  set: StatefulSet,
  pod: Pod | undefined,
  { ordinal, existing }: Ownership,
): OwnerReference[] {
  const { whenDeleted, whenScaled } = set.spec?.persistentVolumeClaimRetentionPolicy ?? {};
  const name = `${set.metadata.name}-${ordinal}`;
  const isOurs = ({ kind, uid, name: owner }: OwnerReference): boolean =>
    uid === set.metadata.uid || (kind === 'Pod' && owner === name);
  const others = existing.filter((reference) => !isOurs(reference));
  // Someone else manages it, and so decides.
  if (others.some((reference) => reference.controller)) return [...existing];
  const surplus = !isInRange(set, ordinal);
  if (surplus && whenScaled === 'Delete' && pod) {
    return [...others, controllerReference({ ...pod, apiVersion: 'v1', kind: 'Pod' })];
  }
  if (whenDeleted === 'Delete' && !(surplus && whenScaled === 'Delete')) {
    return [...others, controllerReference(set)];
  }
  return others;
}

/** The claim belongs to a former pod of that name, and is about to go with it. */
export function isStaleClaim(claim: KubeObject, pod: Pod | undefined, name: string): boolean {
  const owner = controllerOf(claim);
  return owner?.kind === 'Pod' && owner.name === name && owner.uid !== pod?.metadata.uid;
}
