import { isDeepStrictEqual } from 'node:util';
import type { Deployment, Pod, ReplicaSet } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { replicaSets } from '#client/resources.ts';
import {
  annotationsFor,
  newReplicaSet,
  nextRevision,
  revisionOf,
  sizeAnnotations,
  splitSets,
} from '#controllers/deployment-revisions.ts';
import {
  DESIRED_REPLICAS,
  isRollingUpdate,
  isScaledUp,
  newReplicaSetSize,
  type Resize,
  scaleAll,
  shrinkOld,
  sum,
  wantedReplicas,
} from '#controllers/deployment-sizes.ts';
import { isTerminal } from '#controllers/pods.ts';

/** progressDeadlineSeconds and revisionHistoryLimit of this size mean "none". */
export const NO_LIMIT = 2_147_483_647;

export type DeploymentWorld = {
  deployment: Deployment;
  /** Those it manages. */
  sets: readonly ReplicaSet[];
  /** The pods of those sets; needed for Recreate only. */
  pods: readonly Pod[];
};

/** The next stretch of a rollout, and the sets as they will be after it. */
export type Rollout = {
  actions: Action[];
  newSet: ReplicaSet | undefined;
  old: ReplicaSet[];
  /** Whether `newSet` is made by these actions. */
  creates: boolean;
  /** False while paused or merely scaled: then progress is not judged. */
  judgesProgress: boolean;
};

/** What a Deployment does next. Pure. Source: Deployments, "Updating", "Scaling", "Strategy". */
export function nextRollout({ deployment, sets, pods }: DeploymentWorld): Rollout {
  const { newSet, old } = splitSets(deployment, sets);
  const rollout: Rollout = { actions: [], newSet, old, creates: false, judgesProgress: true };
  if (deployment.metadata.deletionTimestamp) return { ...rollout, judgesProgress: false };
  if (newSet && updateAnnotations(rollout, deployment)) return rollout;
  if (deployment.spec?.paused || isScalingEvent(deployment, sets)) {
    rollout.judgesProgress = false;
    resize(rollout, deployment, scaleAll(deployment, old, newSet));
    if (deployment.spec?.paused && rollout.actions.length === 0) cleanUp(rollout, deployment);
    return rollout;
  }
  if (isRollingUpdate(deployment)) roll(rollout, deployment);
  else recreate(rollout, deployment, pods);
  if (rollout.actions.length === 0 && isComplete(deployment)) cleanUp(rollout, deployment);
  return rollout;
}

/** A set that still carries another number than the Deployment's has not been scaled to it. */
function isScalingEvent(deployment: Deployment, sets: readonly ReplicaSet[]): boolean {
  const wanted = String(wantedReplicas(deployment));
  return sets.some((set) => {
    const known = set.metadata.annotations?.[DESIRED_REPLICAS];
    return isScaledUp(set) && known !== undefined && known !== wanted;
  });
}

/** Brings revision, copied annotations and minReadySeconds of the current set up to date. */
function updateAnnotations(rollout: Rollout, deployment: Deployment): boolean {
  const { newSet, old } = rollout;
  if (!newSet) return false;
  const before = newSet.metadata.annotations ?? {};
  const annotations = annotationsFor(deployment, before, nextRevision(old));
  const minReadySeconds = deployment.spec?.minReadySeconds ?? 0;
  const isRight =
    isDeepStrictEqual(annotations, before) &&
    (newSet.spec?.minReadySeconds ?? 0) === minReadySeconds;
  if (isRight) return false;
  const object: ReplicaSet = {
    ...newSet,
    metadata: { ...newSet.metadata, annotations },
    ...(newSet.spec ? { spec: { ...newSet.spec, minReadySeconds } } : {}),
  };
  rollout.newSet = object;
  rollout.actions.push({ type: 'update', resource: replicaSets, object });
  return true;
}

function roll(rollout: Rollout, deployment: Deployment): void {
  const { newSet, old } = rollout;
  if (!newSet) {
    create(rollout, deployment);
    return;
  }
  const wanted = wantedReplicas(deployment);
  const current = wantedReplicas(newSet);
  const size = current > wanted ? wanted : newReplicaSetSize(deployment, [...old, newSet], current);
  resize(rollout, deployment, [{ replicaSet: newSet, replicas: size }]);
  if (rollout.actions.length > 0 || sum(old, wantedReplicas) === 0) return;
  resize(rollout, deployment, shrinkOld(deployment, old.filter(isScaledUp), newSet));
}

/** Everything old goes before anything new comes. */
function recreate(rollout: Rollout, deployment: Deployment, pods: readonly Pod[]): void {
  const { newSet, old } = rollout;
  const up = old.filter(isScaledUp);
  if (up.length > 0) {
    resize(
      rollout,
      deployment,
      up.map((replicaSet) => ({ replicaSet, replicas: 0 })),
    );
    return;
  }
  const uid = newSet?.metadata.uid;
  const isOldRunning =
    sum(old, (set) => set.status?.replicas ?? 0) > 0 ||
    pods.some(
      (pod) =>
        !isTerminal(pod) &&
        !pod.metadata.ownerReferences?.some((owner) => owner.controller && owner.uid === uid),
    );
  if (isOldRunning) return;
  if (!newSet) create(rollout, deployment);
  else {
    const replicas = wantedReplicas(deployment);
    resize(rollout, deployment, [{ replicaSet: newSet, replicas }]);
  }
}

function create(rollout: Rollout, deployment: Deployment): void {
  const object = newReplicaSet(deployment, rollout.old);
  const replicas = wantedReplicas(object);
  const { name } = object.metadata;
  rollout.newSet = object;
  rollout.creates = true;
  const success = scalingNote(`Scaled up replica set ${name} from 0 to ${replicas}`);
  const message = `Failed to create new replica set "${name}": {error}`;
  rollout.actions.push({
    type: 'create',
    resource: replicaSets,
    object,
    announce: {
      about: deployment,
      ...(replicas > 0 ? { success } : {}),
      failure: { type: 'Warning', reason: 'ReplicaSetCreateError', message },
    },
  });
}

/** Updates those sets whose size or size annotations differ. */
function resize(rollout: Rollout, deployment: Deployment, resizes: readonly Resize[]): void {
  const annotations = sizeAnnotations(deployment);
  for (const { replicaSet, replicas } of resizes) {
    const from = wantedReplicas(replicaSet);
    const before = replicaSet.metadata.annotations ?? {};
    const after = { ...before, ...annotations };
    if (from === replicas && isDeepStrictEqual(before, after)) continue;
    const object: ReplicaSet = {
      ...replicaSet,
      metadata: { ...replicaSet.metadata, annotations: after },
      ...(replicaSet.spec ? { spec: { ...replicaSet.spec, replicas } } : {}),
    };
    const direction = replicas > from ? 'up' : 'down';
    const { name } = replicaSet.metadata;
    const note = scalingNote(`Scaled ${direction} replica set ${name} from ${from} to ${replicas}`);
    rollout.actions.push({
      type: 'update',
      resource: replicaSets,
      object,
      ...(from === replicas ? {} : { announce: { about: deployment, success: note } }),
    });
    if (rollout.newSet === replicaSet) rollout.newSet = object;
    rollout.old = rollout.old.map((set) => (set === replicaSet ? object : set));
  }
}

const scalingNote = (message: string) =>
  ({ type: 'Normal', reason: 'ScalingReplicaSet', message }) as const;

/** Removes the oldest revisions beyond revisionHistoryLimit, if nothing of them is left. */
function cleanUp(rollout: Rollout, deployment: Deployment): void {
  const limit = deployment.spec?.revisionHistoryLimit ?? 10;
  if (limit === NO_LIMIT) return;
  const kept = rollout.old.filter((set) => !set.metadata.deletionTimestamp);
  const surplus = kept.length - limit;
  if (surplus <= 0) return;
  const oldestFirst = kept.toSorted((a, b) => Number(revisionOf(a) - revisionOf(b)));
  for (const set of oldestFirst.slice(0, surplus)) {
    const isUsed =
      (set.status?.replicas ?? 0) > 0 ||
      isScaledUp(set) ||
      (set.metadata.generation ?? 0) > (set.status?.observedGeneration ?? 0);
    if (isUsed) continue;
    const { namespace, name = '', uid = '' } = set.metadata;
    rollout.actions.push({ type: 'delete', resource: replicaSets, key: { namespace, name }, uid });
  }
}

/** Every pod is of the current template, and available. */
export function isComplete(
  deployment: Deployment,
  status: Deployment['status'] = deployment.status,
): boolean {
  const wanted = wantedReplicas(deployment);
  return (
    (status?.updatedReplicas ?? 0) === wanted &&
    (status?.replicas ?? 0) === wanted &&
    (status?.availableReplicas ?? 0) === wanted &&
    (status?.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}
