import type { PersistentVolumeClaim, StorageClass } from '#api/types.ts';
import { newestDefault } from '#api/default-class.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import { persistentVolumeClaims, storageClasses } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { PROVISIONER } from '#controllers/local-provisioner-controller.ts';

const NAME = 'default-storage-class-controller';
const IS_DEFAULT = 'storageclass.kubernetes.io/is-default-class';
const OLD_CLASS = 'volume.beta.kubernetes.io/storage-class';

/**
 * What a cluster with our provisioner is born with: directories of the node on which the first pod
 * runs. A bare API server has no class, because it has nobody who would make the volumes.
 */
export const localClass: StorageClass = {
  metadata: { name: 'local', annotations: { [IS_DEFAULT]: 'true' } },
  provisioner: PROVISIONER,
  reclaimPolicy: 'Delete',
  volumeBindingMode: 'WaitForFirstConsumer',
};

export type ClassWorld = { claim: PersistentVolumeClaim; classes: readonly StorageClass[] };

/**
 * A claim that was made before there was a default class gets it later; one that says `''` wants
 * none. Pure. Source: Persistent Volumes, "Retroactive default StorageClass assignment".
 */
export function planClass({ claim, classes }: ClassWorld): Plan {
  const { metadata, spec } = claim;
  const isNamed = spec?.storageClassName !== undefined || metadata.annotations?.[OLD_CLASS];
  if (isNamed || spec?.volumeName || metadata.deletionTimestamp) return { actions: [] };
  const storageClassName = newestDefault(classes, IS_DEFAULT);
  if (storageClassName === undefined) return { actions: [] };
  const object = { ...claim, spec: { ...spec, storageClassName } };
  return { actions: [{ type: 'update', resource: persistentVolumeClaims, object }] };
}

/** Makes class `local`, and gives claims without a class the default one once there is one. */
export const defaultStorageClassController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const classes = setup.informers.of(storageClasses);
    const claims = setup.informers.of(persistentVolumeClaims);
    const context = { ...setup, recorder: setup.recorderOf(NAME) };
    const classless = (add: (key: string) => void): void => {
      for (const claim of claims.list()) {
        if (claim.spec?.storageClassName === undefined) add(keyText(claim));
      }
    };
    await Promise.all([
      runController<Plan>(
        {
          name: NAME,
          caches: [cacheOf(storageClasses, classes)],
          // Only at the start: what users do to the class afterwards stands.
          triggers: (add) => add(localClass.metadata.name ?? ''),
          observe: (key) => (classes.get(key) ? undefined : { actions: [makeLocal] }),
          plan: (plan) => plan,
        },
        context,
      ),
      runController<ClassWorld>(
        {
          name: `${NAME}-claims`,
          caches: [cacheOf(storageClasses, classes), cacheOf(persistentVolumeClaims, claims)],
          triggers(add) {
            onSelf(claims, add);
            classes.onChange(() => classless(add));
          },
          observe(key) {
            const claim = claims.get(key);
            return claim && { claim, classes: classes.list() };
          },
          plan: planClass,
        },
        context,
      ),
    ]);
  },
};

const makeLocal: Action = {
  type: 'create',
  resource: storageClasses,
  object: localClass,
  ifExists: 'ignore',
};
