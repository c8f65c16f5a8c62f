import type {
  KubeObject,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  VolumeAttributesClass,
} from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Resource } from '#client/api.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import {
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  volumeAttributesClasses,
} from '#client/resources.ts';
import { CLAIM_INDEX, claimIndex } from '#controllers/claim-users.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';
const CLASS_FINALIZER = 'kubernetes.io/vac-protection';
/** Index of claims and volumes by the classes that they have, get or want. */
const CLASS_INDEX = 'volumeAttributesClass';

/** A finalizer that is there as long as someone needs the object. Pure. */
export function planProtection(
  object: KubeObject,
  resource: Resource,
  { finalizer, isUsed }: { finalizer: string; isUsed: boolean },
): Plan {
  const { deletionTimestamp, finalizers = [] } = object.metadata;
  const has = finalizers.includes(finalizer);
  const write = (next: string[]): Action => ({
    type: 'update',
    resource,
    object: { ...object, metadata: { ...object.metadata, finalizers: next } },
  });
  if (!deletionTimestamp) return { actions: has ? [] : [write([...finalizers, finalizer])] };
  if (!has || isUsed) return { actions: [] };
  return { actions: [write(finalizers.filter((one) => one !== finalizer))] };
}

/** Keeps claims that pods use from being deleted under them. */
export const claimProtectionController: ControllerDefinition = {
  name: 'persistentvolumeclaim-protection-controller',
  async run(setup) {
    const claims = setup.informers.of(persistentVolumeClaims);
    const podCache = setup.informers.of(pods, { indexes: { [CLAIM_INDEX]: claimIndex } });
    // A pod without a node will not be started with a claim that is going away.
    const isUser = (pod: Pod): boolean => Boolean(pod.spec.nodeName);
    await runController<{ claim: PersistentVolumeClaim; isUsed: boolean }>(
      {
        name: 'persistentvolumeclaim-protection-controller',
        caches: [cacheOf(persistentVolumeClaims, claims), cacheOf(pods, podCache)],
        triggers(add) {
          onSelf(claims, add);
          podCache.onChange(({ type, object }) => {
            if (type === 'deleted') for (const key of claimIndex(object)) add(key);
          });
        },
        observe(key) {
          const claim = claims.get(key);
          if (!claim) return undefined;
          return { claim, isUsed: podCache.byIndex(CLAIM_INDEX, keyText(claim)).some(isUser) };
        },
        plan: ({ claim, isUsed }) =>
          planProtection(claim, persistentVolumeClaims, { finalizer: CLAIM_FINALIZER, isUsed }),
      },
      { ...setup, recorder: setup.recorderOf('persistentvolumeclaim-protection-controller') },
    );
  },
};

/** Keeps volumes that are bound from being deleted under their claims. */
export const volumeProtectionController: ControllerDefinition = {
  name: 'persistentvolume-protection-controller',
  async run(setup) {
    const volumes = setup.informers.of(persistentVolumes);
    await runController<PersistentVolume>(
      {
        name: 'persistentvolume-protection-controller',
        caches: [cacheOf(persistentVolumes, volumes)],
        triggers: (add) => onSelf(volumes, add),
        observe: (key) => volumes.get(key),
        plan: (volume) =>
          planProtection(volume, persistentVolumes, {
            finalizer: VOLUME_FINALIZER,
            isUsed: volume.status?.phase === 'Bound',
          }),
      },
      { ...setup, recorder: setup.recorderOf('persistentvolume-protection-controller') },
    );
  },
};

const given = (...names: (string | undefined)[]): string[] =>
  [...new Set(names.filter((name) => name !== undefined && name !== ''))] as string[];

/** The classes that a claim's volume has, is on its way to, or shall have. */
export const classesOfClaim = ({ spec, status }: PersistentVolumeClaim): string[] =>
  given(
    spec?.volumeAttributesClassName,
    status?.currentVolumeAttributesClassName,
    status?.modifyVolumeStatus?.targetVolumeAttributesClassName,
  );

const classesOfVolume = ({ spec }: PersistentVolume): string[] =>
  given(spec?.volumeAttributesClassName);

/** Keeps attribute classes that volumes have or claims want. */
export const attributesClassProtectionController: ControllerDefinition = {
  name: 'volumeattributesclass-protection-controller',
  async run(setup) {
    const { informers } = setup;
    const classes = informers.of(volumeAttributesClasses);
    const claims = informers.of(persistentVolumeClaims, {
      indexes: { [CLASS_INDEX]: classesOfClaim },
    });
    const volumes = informers.of(persistentVolumes, {
      indexes: { [CLASS_INDEX]: classesOfVolume },
    });
    await runController<{ object: VolumeAttributesClass; isUsed: boolean }>(
      {
        name: 'volumeattributesclass-protection-controller',
        caches: [
          cacheOf(volumeAttributesClasses, classes),
          cacheOf(persistentVolumeClaims, claims),
          cacheOf(persistentVolumes, volumes),
        ],
        triggers(add) {
          const letGo = (names: readonly string[]): void => {
            for (const name of names) add(name);
          };
          onSelf(classes, add);
          claims.onChange((change) => {
            if (change.type === 'deleted') letGo(classesOfClaim(change.object));
            else if (change.type === 'updated') letGo(classesOfClaim(change.old));
          });
          volumes.onChange((change) => {
            if (change.type === 'deleted') letGo(classesOfVolume(change.object));
            else if (change.type === 'updated') letGo(classesOfVolume(change.old));
          });
        },
        observe(key) {
          const object = classes.get(key);
          if (!object) return undefined;
          const users = [claims, volumes].map(
            (cache) => cache.byIndex(CLASS_INDEX, key.name).length,
          );
          return { object, isUsed: users.some((count) => count > 0) };
        },
        plan: ({ object, isUsed }) =>
          planProtection(object, volumeAttributesClasses, { finalizer: CLASS_FINALIZER, isUsed }),
      },
      { ...setup, recorder: setup.recorderOf('volumeattributesclass-protection-controller') },
    );
  },
};
