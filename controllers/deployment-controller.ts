import type { Deployment, Pod, ReplicaSet } from '#api/types.ts';
import type { Action, Outcome } from '#client/actions.ts';
import { cacheOf, onController, onSelf, type Plan, runController } from '#client/controller.ts';
import { deployments, pods, replicaSets } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { nextRollout } from '#controllers/deployment-plan.ts';
import { deadlineInMs, nextStatus } from '#controllers/deployment-status.ts';
import {
  candidatesOf,
  claim,
  controllerOf,
  OWNER_INDEX,
  onOrphan,
  ownerIndex,
} from '#controllers/ownership.ts';

type Observed = {
  deployment: Deployment;
  /** Those it manages, and orphans in its namespace. */
  candidates: readonly ReplicaSet[];
  podsOf(sets: readonly ReplicaSet[]): Pod[];
  /** Whoever holds a name, to tell a hash collision. */
  setNamed(name: string): ReplicaSet | undefined;
};

/** Moves a Deployment one stretch further. Pure. */
export function planDeployment(observed: Observed, now: number): Plan {
  const { deployment } = observed;
  const { claims, rollout } = judge(observed);
  if (claims.actions.length > 0) return { actions: claims.actions };
  const requeueAfterMs = nextStatus(deployment, rollout, { now })
    ? undefined
    : deadlineInMs(deployment, now);
  return { actions: rollout.actions, ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }) };
}

/** Writes down how it stands. Pure. */
export function reportDeployment(
  observed: Observed,
  outcome: Outcome,
  now: number,
): readonly Action[] {
  const { claims, rollout } = judge(observed);
  if (claims.actions.length > 0) return [];
  const existing = observed.setNamed(rollout.newSet?.metadata.name ?? '');
  const options = { outcome, collision: { existing }, now };
  const object = nextStatus(observed.deployment, rollout, options);
  return object ? [{ type: 'updateStatus', resource: deployments, object }] : [];
}

function judge(observed: Observed) {
  const { deployment, candidates } = observed;
  const claims = claim(deployment, deployment.spec?.selector ?? {}, candidates, replicaSets);
  const isRecreate = deployment.spec?.strategy?.type === 'Recreate';
  const running = isRecreate ? observed.podsOf(claims.owned) : [];
  return { claims, rollout: nextRollout({ deployment, sets: claims.owned, pods: running }) };
}

/** Rolls out Deployments by their ReplicaSets. */
export const deploymentController: ControllerDefinition = {
  name: 'deployment-controller',
  async run(setup) {
    const indexes = { [OWNER_INDEX]: ownerIndex };
    const cache = setup.informers.of(deployments);
    const sets = setup.informers.of(replicaSets, { indexes });
    const podCache = setup.informers.of(pods, { indexes });
    const podsOf = (owned: readonly ReplicaSet[]): Pod[] =>
      owned.flatMap((set) => podCache.byIndex(OWNER_INDEX, set.metadata.uid ?? ''));
    await runController<Observed>(
      {
        name: 'deployment-controller',
        workers: 5,
        caches: [cacheOf(deployments, cache), cacheOf(replicaSets, sets), cacheOf(pods, podCache)],
        triggers(add) {
          onSelf(cache, add);
          onController(sets, 'Deployment', add);
          onOrphan(sets, cache, { selectorOf: (owner) => owner.spec?.selector, add });
          // Recreate waits for the last old pod.
          podCache.onChange(({ type, object }) => {
            const owner = controllerOf(object);
            if (type !== 'deleted' || owner?.kind !== 'ReplicaSet') return;
            const namespace = object.metadata.namespace ?? '';
            const set = sets.get({ namespace, name: owner.name });
            const deployment = set && controllerOf(set);
            if (deployment) add(`${namespace}/${deployment.name}`);
          });
        },
        observe(key) {
          const deployment = cache.get(key);
          if (!deployment) return undefined;
          return {
            deployment,
            candidates: candidatesOf(sets, deployment),
            podsOf,
            setNamed: (name) => sets.get({ namespace: key.namespace, name }),
          };
        },
        plan: planDeployment,
        report: reportDeployment,
      },
      { ...setup, recorder: setup.recorderOf('deployment-controller') },
    );
  },
};
