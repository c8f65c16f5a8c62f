import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import { LOCAL_DRIVER, LOCAL_TYPE } from '#api/csi-names.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { persistentVolumeClaims, persistentVolumes } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

const NAME = 'persistentvolume-expander-controller';
const RESIZER = 'volume.kubernetes.io/storage-resizer';

export type ExpandWorld = {
  claim: PersistentVolumeClaim;
  volume: PersistentVolume | undefined;
};

const isLess = (a: string | undefined, b: string | undefined): boolean =>
  compareQuantity(parseQuantity(a ?? '0'), parseQuantity(b ?? '0')) < 0;

/**
 * A claim that asks for more than it has: directories of the local provisioner grow at once, volumes
 * of drivers are handed to their external-resizer. Pure.
 */
export function planExpansion({ claim, volume }: ExpandWorld): Plan {
  const wanted = claim.spec?.resources?.requests?.['storage'];
  const has = claim.status?.capacity?.['storage'];
  const isBound = claim.status?.phase === 'Bound';
  if (!isBound || volume?.spec?.claimRef?.uid !== claim.metadata.uid) return { actions: [] };
  if (!volume || has === undefined || !isLess(has, wanted)) return { actions: [] };
  const driver = volume.spec?.csi?.driver;
  if (driver === LOCAL_DRIVER) return { actions: growDirectory(claim, volume, wanted ?? '0') };
  if (!driver) {
    const why = "Ignoring the PVC: didn't find a plugin capable of expanding the volume";
    return {
      actions: [say(claim, `${why}; waiting for an external controller to process this PVC.`)],
    };
  }
  const { annotations = {} } = claim.metadata;
  const note = say(
    claim,
    `CSI volume of driver ${driver}: waiting for an external controller to expand this PVC`,
  );
  if (annotations[RESIZER] === driver) return { actions: [note] };
  const metadata = { ...claim.metadata, annotations: { ...annotations, [RESIZER]: driver } };
  const object = { ...claim, metadata };
  return { actions: [{ type: 'update', resource: persistentVolumeClaims, object }, note] };
}

const say = (about: PersistentVolumeClaim, message: string): Action => ({
  type: 'event',
  about,
  note: { type: 'Normal', reason: 'ExternalExpanding', message },
});

/** The size of a directory is a number that the node counts against; nothing has to be moved. */
function growDirectory(
  claim: PersistentVolumeClaim,
  volume: PersistentVolume,
  storage: string,
): Action[] {
  if (isLess(volume.spec?.capacity?.['storage'], storage)) {
    const object = { ...volume, spec: { ...volume.spec, capacity: { storage } } };
    return [{ type: 'update', resource: persistentVolumes, object }];
  }
  // A file system is enlarged by the node, which then says so.
  if (volume.spec?.csi?.volumeAttributes?.[LOCAL_TYPE] === 'image') return awaitNode(claim);
  const capacity = { ...claim.status?.capacity, storage };
  const object = { ...claim, status: { ...claim.status, capacity } };
  const note = {
    type: 'Normal',
    reason: 'FileSystemResizeSuccessful',
    message: `the volume may hold ${storage} now`,
  } as const;
  return [
    { type: 'updateStatus', resource: persistentVolumeClaims, object },
    { type: 'event', about: claim, note },
  ];
}

const NODE_PENDING = 'FileSystemResizePending';

function awaitNode(claim: PersistentVolumeClaim): Action[] {
  const { conditions = [] } = claim.status ?? {};
  if (conditions.some(({ type }) => type === NODE_PENDING)) return [];
  const message =
    'Waiting for user to (re-)start a pod to finish file system resize of volume on node.';
  const pending = { type: NODE_PENDING, status: 'True', message };
  const status = { ...claim.status, conditions: [...conditions, pending] };
  return [{ type: 'updateStatus', resource: persistentVolumeClaims, object: { ...claim, status } }];
}

/** Sees to claims that ask for more than they have. */
export const volumeExpandController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const claims = setup.informers.of(persistentVolumeClaims);
    const volumes = setup.informers.of(persistentVolumes);
    await runController<ExpandWorld>(
      {
        name: NAME,
        caches: [cacheOf(persistentVolumeClaims, claims), cacheOf(persistentVolumes, volumes)],
        triggers(add) {
          onSelf(claims, add);
          volumes.onChange(({ object }) => {
            const { namespace, name } = object.spec?.claimRef ?? {};
            if (name) add(`${namespace}/${name}`);
          });
        },
        observe(key) {
          const claim = claims.get(key);
          if (!claim) return undefined;
          return { claim, volume: volumes.get({ name: claim.spec?.volumeName ?? '' }) };
        },
        plan: planExpansion,
      },
      { ...setup, recorder: setup.recorderOf('volume_expand') },
    );
  },
};
