import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/types.ts';
import { classOf, SELECTED_NODE } from '#api/volume-match.ts';
import { cacheOf, keyText, onSelf, runController } from '#client/controller.ts';
import type { Informer } from '#client/informer.ts';
import {
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
} from '#client/resources.ts';
import { CLAIM_INDEX, claimIndex } from '#controllers/claim-users.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';
import {
  type ClaimWorld,
  planClaim,
  planVolume,
  type VolumeWorld,
} from '#controllers/volume-binding.ts';

const NAME = 'persistentvolume-binder-controller';

/** Brings claims and volumes together. */
export const persistentVolumeBinderController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const claims = setup.informers.of(persistentVolumeClaims);
    const volumes = setup.informers.of(persistentVolumes);
    const caches = { claims, volumes };
    await Promise.all([runClaims(setup, caches), runVolumes(setup, caches)]);
  },
};

type Caches = {
  claims: Informer<PersistentVolumeClaim>;
  volumes: Informer<PersistentVolume>;
};

const gated = ({ claims, volumes }: Caches) => [
  cacheOf(persistentVolumeClaims, claims),
  cacheOf(persistentVolumes, volumes),
];

async function runClaims(setup: ControllerSetup, caches: Caches): Promise<void> {
  const { claims, volumes } = caches;
  const classes = setup.informers.of(storageClasses);
  const nodeCache = setup.informers.of(nodes);
  const podCache = setup.informers.of(pods, { indexes: { [CLAIM_INDEX]: claimIndex } });
  const nodeOf = (claim: PersistentVolumeClaim): Node | undefined => {
    const users: Pod[] = podCache.byIndex(CLAIM_INDEX, keyText(claim));
    const consumer = users.find((pod) => pod.spec.nodeName)?.spec.nodeName;
    const name = claim.metadata.annotations?.[SELECTED_NODE] ?? consumer;
    return name ? nodeCache.get({ name }) : undefined;
  };
  await runController<ClaimWorld>(
    {
      name: NAME,
      caches: [
        ...gated(caches),
        cacheOf(storageClasses, classes),
        cacheOf(nodes, nodeCache),
        cacheOf(pods, podCache),
      ],
      triggers(add) {
        onSelf(claims, add);
        volumes.onChange(({ object }) => {
          const { claimRef } = object.spec ?? {};
          if (claimRef) add(`${claimRef.namespace}/${claimRef.name}`);
          else addWaiting(claims, add);
        });
        classes.onChange(() => addWaiting(claims, add));
        // Claims whose class waits for a consumer go on when one is placed.
        podCache.onChange(({ object }) => {
          if (object.spec.nodeName) for (const key of claimIndex(object)) add(key);
        });
      },
      observe(key) {
        const claim = claims.get(key);
        if (!claim) return undefined;
        const storageClass = classes.get({ name: classOf(claim) });
        return { claim, volumes: volumes.list(), storageClass, node: nodeOf(claim) };
      },
      plan: planClaim,
    },
    { ...setup, recorder: setup.recorderOf('persistentvolume-controller') },
  );
}

function addWaiting(claims: Informer<PersistentVolumeClaim>, add: (key: string) => void): void {
  for (const claim of claims.list()) if (claim.status?.phase !== 'Bound') add(keyText(claim));
}

async function runVolumes(setup: ControllerSetup, caches: Caches): Promise<void> {
  const { claims, volumes } = caches;
  await runController<VolumeWorld>(
    {
      name: `${NAME}-volumes`,
      caches: gated(caches),
      triggers(add) {
        onSelf(volumes, add);
        claims.onChange((change) => {
          const { volumeName } = change.object.spec ?? {};
          if (volumeName) add(volumeName);
          if (change.type !== 'deleted') return;
          for (const volume of volumes.list()) {
            if (volume.spec?.claimRef?.uid === change.object.metadata.uid) add(keyText(volume));
          }
        });
      },
      observe(key) {
        const volume = volumes.get(key);
        const { namespace, name = '' } = volume?.spec?.claimRef ?? {};
        return volume ? { volume, claim: claims.get({ namespace, name }) } : undefined;
      },
      plan: planVolume,
    },
    { ...setup, recorder: setup.recorderOf('persistentvolume-controller') },
  );
}
