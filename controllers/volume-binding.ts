import type { Node, PersistentVolume, PersistentVolumeClaim } from '#api/types.ts';
import {
  BOUND_BY_CONTROLLER,
  classOf,
  findVolume,
  isFor,
  type MatchWorld,
  mismatchOf,
  NO_PROVISIONER,
  reservedFor,
  SELECTED_NODE,
  waitsForConsumer,
} from '#api/volume-match.ts';
import type { Action } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { persistentVolumeClaims, persistentVolumes } from '#client/resources.ts';

/** How claims and volumes find each other. Pure. Source: "Persistent Volumes", binding. */

const BIND_COMPLETED = 'pv.kubernetes.io/bind-completed';
const PROVISIONERS = [
  'volume.kubernetes.io/storage-provisioner',
  'volume.beta.kubernetes.io/storage-provisioner',
];
/** Set by whoever made a volume for a claim. */
const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';
const WAITING_REPEAT_MS = 60_000;

type Claim = PersistentVolumeClaim;
type Volume = PersistentVolume;

export type ClaimWorld = MatchWorld;

/** One step of a claim towards its volume; each write leads to the next. Pure. */
export function planClaim(world: ClaimWorld): Plan {
  const { claim, volumes } = world;
  if (claim.metadata.annotations?.[BIND_COMPLETED]) return { actions: keepBound(claim, volumes) };
  const wanted = claim.spec?.volumeName;
  if (wanted) {
    const volume = volumes.find((one) => one.metadata.name === wanted);
    if (!volume) return { actions: setPhase(claim, 'Pending') };
    const mismatch = volume.spec?.claimRef ? '' : mismatchOf(claim, volume);
    if (mismatch) {
      const why = `Cannot bind to requested volume "${wanted}": ${mismatch}`;
      return {
        actions: [...setPhase(claim, 'Pending'), say(claim, 'Warning', 'VolumeMismatch', why)],
        requeueAfterMs: WAITING_REPEAT_MS,
      };
    }
    if (!volume.spec?.claimRef || isFor(volume, claim)) return { actions: bind(claim, volume) };
    const message = `volume "${wanted}" already bound to a different claim.`;
    return { actions: [say(claim, 'Warning', 'FailedBinding', message)] };
  }
  if (claim.metadata.deletionTimestamp) return { actions: [] };
  const volume = findVolume(world);
  return volume ? { actions: bind(claim, volume) } : awaitVolume(world);
}

function keepBound(claim: Claim, volumes: readonly Volume[]): Action[] {
  const name = claim.spec?.volumeName;
  if (!name) {
    const why = 'Bound claim has lost reference to PersistentVolume. Data on the volume is lost!';
    return lose(claim, 'ClaimLost', why);
  }
  const volume = volumes.find((one) => one.metadata.name === name);
  if (!volume) {
    const why = 'Bound claim has lost its PersistentVolume. Data on the volume is lost!';
    return lose(claim, 'ClaimLost', why);
  }
  if (!volume.spec?.claimRef || isFor(volume, claim)) return bind(claim, volume);
  const why = 'Two claims are bound to the same volume, this one is bound incorrectly';
  return lose(claim, 'ClaimMisbound', why);
}

function lose(claim: Claim, reason: string, message: string): Action[] {
  const actions = setPhase(claim, 'Lost');
  return actions.length > 0 ? [...actions, say(claim, 'Warning', reason, message)] : [];
}

function say(
  about: Claim | Volume,
  type: 'Normal' | 'Warning',
  reason: string,
  message: string,
): Action {
  return { type: 'event', about, note: { type, reason, message } };
}

function setPhase(claim: Claim, phase: string): Action[] {
  if (claim.status?.phase === phase) return [];
  const object = { ...claim, status: { ...claim.status, phase } };
  return [{ type: 'updateStatus', resource: persistentVolumeClaims, object }];
}

/** First the volume points to the claim, then the claim to the volume, then the claim says so. */
function bind(claim: Claim, volume: Volume): Action[] {
  const { claimRef } = volume.spec ?? {};
  if (claimRef?.uid !== claim.metadata.uid) {
    return [{ type: 'update', resource: persistentVolumes, object: reservedFor(claim, volume) }];
  }
  const { name = '' } = volume.metadata;
  const { annotations } = claim.metadata;
  if (claim.spec?.volumeName !== name || !annotations?.[BIND_COMPLETED]) {
    const byUs = claim.spec?.volumeName ? {} : { [BOUND_BY_CONTROLLER]: 'yes' };
    const metadata = {
      ...claim.metadata,
      annotations: { ...annotations, [BIND_COMPLETED]: 'yes', ...byUs },
    };
    const object = { ...claim, metadata, spec: { ...claim.spec, volumeName: name } };
    return [{ type: 'update', resource: persistentVolumeClaims, object }];
  }
  const { accessModes = [], capacity = {} } = volume.spec ?? {};
  const { status } = claim;
  if (status?.phase === 'Bound' && status.accessModes && status.capacity) return [];
  const object = { ...claim, status: { ...status, phase: 'Bound', accessModes, capacity } };
  return [{ type: 'updateStatus', resource: persistentVolumeClaims, object }];
}

/** Nothing fits: a consumer is waited for, or a provisioner is told. */
function awaitVolume({ claim, storageClass, node }: ClaimWorld): Plan {
  const pending = setPhase(claim, 'Pending');
  const requeueAfterMs = WAITING_REPEAT_MS;
  if (waitsForConsumer(storageClass) && !node) {
    const message = 'waiting for first consumer to be created before binding';
    const note = say(claim, 'Normal', 'WaitForFirstConsumer', message);
    return { actions: [...pending, note], requeueAfterMs };
  }
  const { provisioner = NO_PROVISIONER } = storageClass ?? {};
  if (!classOf(claim)) {
    const message = 'no persistent volumes available for this claim and no storage class is set';
    const note = say(claim, 'Normal', 'FailedBinding', message);
    return { actions: [...pending, note], requeueAfterMs };
  }
  if (!storageClass) {
    const message = `storageclass.storage.k8s.io "${classOf(claim)}" not found`;
    const note = say(claim, 'Warning', 'ProvisioningFailed', message);
    return { actions: [...pending, note], requeueAfterMs };
  }
  if (provisioner === NO_PROVISIONER) {
    const message = 'no volume plugin matched name: kubernetes.io/no-provisioner';
    const note = say(claim, 'Warning', 'ProvisioningFailed', message);
    return { actions: [...pending, note], requeueAfterMs };
  }
  return { actions: [...pending, ...askProvisioner(claim, provisioner, node)], requeueAfterMs };
}

function askProvisioner(claim: Claim, provisioner: string, node: Node | undefined): Action[] {
  const wanted: Record<string, string> = {};
  for (const name of PROVISIONERS) wanted[name] = provisioner;
  if (node?.metadata.name) wanted[SELECTED_NODE] = node.metadata.name;
  const { annotations = {} } = claim.metadata;
  const isAsked = Object.entries(wanted).every(([name, value]) => annotations[name] === value);
  const message = `Waiting for a volume to be created either by the external provisioner '${provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`;
  if (isAsked) return [say(claim, 'Normal', 'ExternalProvisioning', message)];
  const metadata = { ...claim.metadata, annotations: { ...annotations, ...wanted } };
  return [{ type: 'update', resource: persistentVolumeClaims, object: { ...claim, metadata } }];
}

export type VolumeWorld = { volume: Volume; claim: Claim | undefined };

/** The phase of a volume, and its release when the claim is gone. Pure. */
export function planVolume({ volume, claim }: VolumeWorld): Plan {
  const { claimRef } = volume.spec ?? {};
  if (!claimRef?.uid) return { actions: setVolumePhase(volume, 'Available') };
  const holder = claim?.metadata.uid === claimRef.uid ? claim : undefined;
  if (!holder) {
    if (volume.status?.phase === 'Failed') return { actions: [] };
    if (volume.status?.phase === 'Released') return { actions: reclaim(volume) };
    return { actions: setVolumePhase(volume, 'Released') };
  }
  const { volumeName } = holder.spec ?? {};
  if (volumeName === volume.metadata.name) return { actions: setVolumePhase(volume, 'Bound') };
  if (!volumeName || !volume.metadata.annotations?.[BOUND_BY_CONTROLLER]) return { actions: [] };
  // The claim found another volume in the meantime.
  const { [BOUND_BY_CONTROLLER]: _, ...annotations } = volume.metadata.annotations;
  const { claimRef: __, ...spec } = volume.spec ?? {};
  const object = { ...volume, metadata: { ...volume.metadata, annotations }, spec };
  return { actions: [{ type: 'update', resource: persistentVolumes, object }] };
}

/** Policies that nobody can follow are said to have failed; provisioners delete their own volumes. */
function reclaim(volume: Volume): Action[] {
  const { name } = volume.metadata;
  const policy = volume.spec?.persistentVolumeReclaimPolicy ?? 'Retain';
  const isProvisioned = volume.metadata.annotations?.[PROVISIONED_BY] !== undefined;
  if (policy === 'Retain' || (policy === 'Delete' && isProvisioned)) return [];
  const [reason, what, help] =
    policy === 'Recycle'
      ? [
          'VolumeFailedRecycle',
          'recycler',
          'use dynamic provisioning, or Retain and empty it by hand',
        ]
      : ['VolumeFailedDelete', 'deletable', 'delete it by hand, or let a provisioner make volumes'];
  const message = `error getting ${what} volume plugin for volume "${name}": no volume plugin matched; ${help}`;
  const object = { ...volume, status: { ...volume.status, phase: 'Failed', message } };
  return [
    { type: 'updateStatus', resource: persistentVolumes, object },
    say(volume, 'Warning', reason, message),
  ];
}

function setVolumePhase(volume: Volume, phase: string): Action[] {
  if (volume.status?.phase === phase) return [];
  const object = { ...volume, status: { ...volume.status, phase } };
  return [{ type: 'updateStatus', resource: persistentVolumes, object }];
}
