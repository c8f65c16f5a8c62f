import { isDeepStrictEqual } from 'node:util';
import type { ReplicaSet, ReplicationController } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, onController, onSelf, runController } from '#client/controller.ts';
import { pods, replicationControllers } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { candidatesOf, OWNER_INDEX, onOrphan, ownerIndex } from '#controllers/ownership.ts';
import { isActive } from '#controllers/pods.ts';
import {
  planReplicaSet,
  type ReplicaSetWorld,
  reportReplicaSet,
} from '#controllers/replicaset-controller.ts';

/** A ReplicationController is an older ReplicaSet: it is planned as one. */
function asReplicaSet(object: ReplicationController): ReplicaSet {
  const { selector, replicas, minReadySeconds, template } = object.spec ?? {};
  return {
    apiVersion: 'v1',
    kind: 'ReplicationController',
    metadata: object.metadata,
    spec: {
      selector: { matchLabels: selector ?? {} },
      ...(replicas === undefined ? {} : { replicas }),
      ...(minReadySeconds === undefined ? {} : { minReadySeconds }),
      ...(template ? { template } : {}),
    },
    ...(object.status ? { status: object.status } : {}),
  };
}

/** A status that was meant for a ReplicaSet, for the object it is about. */
function forOwner(action: Action, owner: ReplicationController): readonly Action[] {
  if (action.type !== 'updateStatus') return [action];
  const { terminatingReplicas: _, ...status } = (action.object as ReplicaSet).status ?? {
    replicas: 0,
  };
  if (isDeepStrictEqual(status, owner.status)) return [];
  return [{ ...action, resource: replicationControllers, object: { ...owner, status } }];
}

type Observed = { owner: ReplicationController; world: ReplicaSetWorld };

/** Keeps the pods of every ReplicationController. */
export const replicationController: ControllerDefinition = {
  name: 'replicationcontroller-controller',
  async run(setup) {
    const cache = setup.informers.of(replicationControllers);
    const podCache = setup.informers.of(pods, { indexes: { [OWNER_INDEX]: ownerIndex } });
    await runController<Observed>(
      {
        name: 'replicationcontroller-controller',
        workers: 5,
        caches: [cacheOf(replicationControllers, cache), cacheOf(pods, podCache)],
        triggers(add) {
          onSelf(cache, add);
          onController(podCache, 'ReplicationController', add);
          const selectorOf = (one: ReplicationController) => ({
            matchLabels: one.spec?.selector ?? {},
          });
          onOrphan(podCache, cache, { selectorOf, add });
        },
        observe(key) {
          const owner = cache.get(key);
          if (!owner) return undefined;
          const candidates = candidatesOf(podCache, owner);
          const siblings = podCache.byIndex(OWNER_INDEX, owner.metadata.uid ?? '').filter(isActive);
          return { owner, world: { replicaSet: asReplicaSet(owner), candidates, siblings } };
        },
        plan: ({ world }, now) => planReplicaSet(world, now),
        report: ({ owner, world }, outcome, now) =>
          reportReplicaSet(world, outcome, now).flatMap((action) => forOwner(action, owner)),
      },
      { ...setup, recorder: setup.recorderOf('replication-controller') },
    );
  },
};
