import type { KubeObject, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Resource } from '#client/api.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import { persistentVolumeClaims, persistentVolumes, pods } from '#client/resources.ts';
import { CLAIM_INDEX, claimIndex } from '#controllers/claim-users.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';

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
