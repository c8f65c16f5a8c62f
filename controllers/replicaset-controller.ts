import { isDeepStrictEqual } from 'node:util';
import { errorText } from '#base/log.ts';
import { matchesLabels } from '#api/labels.ts';
import { formatTime } from '#api/time.ts';
import type { Pod, ReplicaSet } from '#api/types.ts';
import { type Action, isNamespaceTerminating, type Outcome } from '#client/actions.ts';
import { cacheOf, onController, onSelf, type Plan, runController } from '#client/controller.ts';
import { pods, replicaSets } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import {
  candidatesOf,
  claim,
  controllerOf,
  OWNER_INDEX,
  onOrphan,
  ownerIndex,
} from '#controllers/ownership.ts';
import { createOwned, deleteOwned } from '#controllers/pod-actions.ts';
import { rankForDeletion } from '#controllers/pod-ranking.ts';
import {
  availableInMs,
  isActive,
  isReady,
  isTerminating,
  nextAvailableMs,
  podFromTemplate,
} from '#controllers/pods.ts';

/** Most pods created or deleted by one plan. Source: upstream's BurstReplicas. */
const MAX_BURST = 500;

export type ReplicaSetWorld = {
  replicaSet: ReplicaSet;
  /** Pods it manages, and orphans in its namespace. */
  candidates: readonly Pod[];
  /** Active pods of all replica sets with the same owner, its own included. */
  siblings: readonly Pod[];
};

type Status = NonNullable<ReplicaSet['status']>;
type Condition = NonNullable<Status['conditions']>[number];

/** Keeps the wanted number of pods. Pure. */
export function planReplicaSet(world: ReplicaSetWorld, now: number): Plan {
  const { replicaSet } = world;
  const claims = claim(replicaSet, replicaSet.spec?.selector ?? {}, world.candidates, pods);
  // Who belongs to us decides how many are missing, so that is settled first.
  if (claims.actions.length > 0) return { actions: claims.actions };
  const requeueAfterMs = nextAvailableMs(claims.owned, replicaSet.spec?.minReadySeconds ?? 0, now);
  const requeue = requeueAfterMs === undefined ? {} : { requeueAfterMs };
  if (replicaSet.metadata.deletionTimestamp) return { actions: [], ...requeue };
  const active = claims.owned.filter(isActive);
  const missing = wantedReplicas(replicaSet) - active.length;
  if (missing > 0) {
    const count = Math.min(missing, MAX_BURST);
    const actions = Array.from({ length: count }, () => createPod(replicaSet));
    return { actions: [{ type: 'slowStart', actions }], ...requeue };
  }
  if (missing < 0) {
    const victims = rankForDeletion(active, world.siblings, now).slice(
      0,
      Math.min(-missing, MAX_BURST),
    );
    const actions = victims.map((pod) => deleteOwned(pod, replicaSet));
    return { actions: [{ type: 'together', actions }], ...requeue };
  }
  return { actions: [], ...requeue };
}

const wantedReplicas = (replicaSet: ReplicaSet): number => replicaSet.spec?.replicas ?? 1;

function createPod(replicaSet: ReplicaSet): Action {
  return createOwned(podFromTemplate(replicaSet.spec?.template ?? {}, replicaSet), replicaSet);
}

/** The status after a plan was tried; nothing when it is as it was. Pure. */
export function reportReplicaSet(
  world: ReplicaSetWorld,
  outcome: Outcome,
  now: number,
): readonly Action[] {
  const { replicaSet } = world;
  const selector = replicaSet.spec?.selector ?? {};
  const { owned } = claim(replicaSet, selector, world.candidates, pods);
  const active = owned.filter(isActive);
  const templateLabels = replicaSet.spec?.template?.metadata?.labels ?? {};
  const minReadySeconds = replicaSet.spec?.minReadySeconds ?? 0;
  const count = (test: (pod: Pod) => boolean): number => active.filter(test).length;
  const old: Partial<Status> = replicaSet.status ?? {};
  const { conditions: _, ...rest } = old;
  const conditions = conditionsAfter(old.conditions ?? [], outcome, now);
  const status: Status = {
    ...rest,
    replicas: active.length,
    fullyLabeledReplicas: count((pod) =>
      matchesLabels({ matchLabels: templateLabels }, pod.metadata.labels ?? {}),
    ),
    readyReplicas: count(isReady),
    availableReplicas: count((pod) => availableInMs(pod, minReadySeconds, now) === 0),
    terminatingReplicas: owned.filter(isTerminating).length,
    observedGeneration: replicaSet.metadata.generation ?? 0,
    ...(conditions.length > 0 ? { conditions } : {}),
  };
  if (isDeepStrictEqual(withoutZeros(status), withoutZeros(old))) return [];
  return [{ type: 'updateStatus', resource: replicaSets, object: { ...replicaSet, status } }];
}

/** The wire leaves out zero counts (except replicas), so they must not count as a change. */
function withoutZeros(status: Partial<Status>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(status).filter(([, value]) => value !== 0));
}

function conditionsAfter(old: readonly Condition[], outcome: Outcome, now: number): Condition[] {
  const others = old.filter((condition) => condition.type !== 'ReplicaFailure');
  const failure = outcome.failures.find(
    ({ action, error }) =>
      (action.type === 'create' || action.type === 'delete') && !isNamespaceTerminating(error),
  );
  if (!failure) return others;
  const before = old.find((condition) => condition.type === 'ReplicaFailure');
  const reason = failure.action.type === 'create' ? 'FailedCreate' : 'FailedDelete';
  if (before?.status === 'True' && before.reason === reason) return [...others, before];
  const lastTransitionTime = formatTime(now);
  const message = errorText(failure.error);
  return [
    ...others,
    { type: 'ReplicaFailure', status: 'True', reason, message, lastTransitionTime },
  ];
}

/** Keeps the pods of every ReplicaSet. */
export const replicaSetController: ControllerDefinition = {
  name: 'replicaset-controller',
  async run(setup) {
    const indexes = { [OWNER_INDEX]: ownerIndex };
    const sets = setup.informers.of(replicaSets, { indexes });
    const podCache = setup.informers.of(pods, { indexes });
    const siblingsOf = (replicaSet: ReplicaSet): Pod[] => {
      const owner = controllerOf(replicaSet);
      const family = owner ? sets.byIndex(OWNER_INDEX, owner.uid) : [replicaSet];
      return family
        .flatMap((set) => podCache.byIndex(OWNER_INDEX, set.metadata.uid ?? ''))
        .filter(isActive);
    };
    await runController<ReplicaSetWorld>(
      {
        name: 'replicaset-controller',
        workers: 5,
        caches: [cacheOf(replicaSets, sets), cacheOf(pods, podCache)],
        triggers(add) {
          onSelf(sets, add);
          onController(podCache, 'ReplicaSet', add);
          onOrphan(podCache, sets, { selectorOf: (set) => set.spec?.selector, add });
        },
        observe(key) {
          const replicaSet = sets.get(key);
          if (!replicaSet) return undefined;
          return {
            replicaSet,
            candidates: candidatesOf(podCache, replicaSet),
            siblings: siblingsOf(replicaSet),
          };
        },
        plan: planReplicaSet,
        report: reportReplicaSet,
      },
      { ...setup, recorder: setup.recorderOf('replicaset-controller') },
    );
  },
};
