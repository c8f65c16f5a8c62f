import { cacheOf, onController, onSelf, runController } from '#client/controller.ts';
import {
  controllerRevisions,
  persistentVolumeClaims,
  pods,
  statefulSets,
} from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { candidatesOf, OWNER_INDEX, onOrphan, ownerIndex } from '#controllers/ownership.ts';
import {
  planStatefulSet,
  reportStatefulSet,
  type StatefulSetWorld,
} from '#controllers/statefulset-plan.ts';

/** Keeps the numbered pods of every StatefulSet, with their claims. */
export const statefulSetController: ControllerDefinition = {
  name: 'statefulset-controller',
  async run(setup) {
    const indexes = { [OWNER_INDEX]: ownerIndex };
    const cache = setup.informers.of(statefulSets);
    const podCache = setup.informers.of(pods, { indexes });
    const revisions = setup.informers.of(controllerRevisions, { indexes });
    const claims = setup.informers.of(persistentVolumeClaims);
    await runController<StatefulSetWorld>(
      {
        name: 'statefulset-controller',
        workers: 5,
        caches: [
          cacheOf(statefulSets, cache),
          cacheOf(pods, podCache),
          cacheOf(controllerRevisions, revisions),
          cacheOf(persistentVolumeClaims, claims),
        ],
        triggers(add) {
          onSelf(cache, add);
          onController(podCache, 'StatefulSet', add);
          onController(revisions, 'StatefulSet', add);
          onOrphan(podCache, cache, { selectorOf: (set) => set.spec?.selector, add });
          // A stale claim that went lets its member be made again.
          claims.onChange(({ type, object }) => {
            if (type !== 'deleted') return;
            const { namespace = '', name = '' } = object.metadata;
            for (const set of cache.list(namespace)) {
              const own = set.spec?.volumeClaimTemplates?.some((template) =>
                name.startsWith(`${template.metadata?.name}-${set.metadata.name}-`),
              );
              if (own) add(`${namespace}/${set.metadata.name}`);
            }
          });
        },
        observe(key) {
          const set = cache.get(key);
          if (!set) return undefined;
          const { namespace } = key;
          return {
            set,
            pods: candidatesOf(podCache, set),
            revisions: candidatesOf(revisions, set),
            revisionNamed: (name) => revisions.get({ namespace, name }),
            claimNamed: (name) => claims.get({ namespace, name }),
          };
        },
        plan: planStatefulSet,
        report: (world, _, now) => reportStatefulSet(world, now),
      },
      { ...setup, recorder: setup.recorderOf('statefulset-controller') },
    );
  },
};
