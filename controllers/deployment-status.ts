import { isDeepStrictEqual } from 'node:util';
import { isStatusError } from '#api/status.ts';
import { formatTime, parseTime } from '#api/time.ts';
import type { Deployment, ReplicaSet } from '#api/types.ts';
import { isNamespaceTerminating, type Outcome } from '#client/actions.ts';
import { isComplete, NO_LIMIT, type Rollout } from '#controllers/deployment-plan.ts';
import { isSameTemplate, REVISION, revisionOf } from '#controllers/deployment-revisions.ts';
import {
  availableReplicas,
  rollingBounds,
  sum,
  wantedReplicas,
} from '#controllers/deployment-sizes.ts';

type Status = NonNullable<Deployment['status']>;
type Condition = NonNullable<Status['conditions']>[number];

/** A name that another's ReplicaSet holds, so that the hash must change. */
export type Collision = { existing: ReplicaSet | undefined };

/**
 * The Deployment with the status that is right after a stretch of its rollout, or undefined when
 * nothing changed. Reasons and messages are upstream's. Pure.
 */
export function nextStatus(
  deployment: Deployment,
  rollout: Rollout,
  { outcome, collision, now }: { outcome?: Outcome; collision?: Collision; now: number },
): Deployment | undefined {
  const creation = outcome?.failures.find(({ action }) => action.type === 'create');
  if (creation && isNamespaceTerminating(creation.error)) return undefined;
  const conditions = new Conditions(deployment.status?.conditions ?? [], now);
  notePause(conditions, deployment);
  const status: Status = { ...deployment.status };
  let annotations = deployment.metadata.annotations ?? {};
  if (creation) {
    if (isCollision(deployment, creation.error, collision)) {
      status.collisionCount = (status.collisionCount ?? 0) + 1;
    } else if (hasDeadline(deployment) && !isStatusError(creation.error, 'AlreadyExists')) {
      const why = (creation.error as Error).message;
      const message = `Failed to create new replica set "${rollout.newSet?.metadata.name}": ${why}`;
      conditions.set('Progressing', 'False', 'ReplicaSetCreateError', message);
    }
  } else {
    if (rollout.newSet) {
      noteNewSet(conditions, deployment, rollout);
      annotations = { ...annotations, [REVISION]: String(revisionOf(rollout.newSet)) };
    }
    count(status, deployment, rollout);
    noteAvailability(conditions, deployment, status);
    if (rollout.judgesProgress) noteProgress(conditions, { deployment, status, rollout, now });
  }
  status.conditions = conditions.list();
  const isSame =
    isDeepStrictEqual(comparable(status), comparable(deployment.status ?? {})) &&
    isDeepStrictEqual(annotations, deployment.metadata.annotations ?? {});
  if (isSame) return undefined;
  return { ...deployment, metadata: { ...deployment.metadata, annotations }, status };
}

/** The wire leaves zero counts and empty lists out. */
function comparable(status: Status): unknown {
  return Object.fromEntries(
    Object.entries(status).filter(
      ([, value]) => value !== 0 && value !== undefined && !(Array.isArray(value) && !value.length),
    ),
  );
}

function isCollision(deployment: Deployment, error: unknown, collision?: Collision): boolean {
  const existing = collision?.existing;
  if (!isStatusError(error, 'AlreadyExists') || !existing) return false;
  const isOurs = existing.metadata.ownerReferences?.some(
    (owner) => owner.controller && owner.uid === deployment.metadata.uid,
  );
  return !(isOurs && isSameTemplate(existing.spec?.template, deployment.spec?.template ?? {}));
}

const hasDeadline = (deployment: Deployment): boolean =>
  (deployment.spec?.progressDeadlineSeconds ?? NO_LIMIT) !== NO_LIMIT;

function notePause(conditions: Conditions, deployment: Deployment): void {
  if (!hasDeadline(deployment)) return;
  const reason = conditions.get('Progressing')?.reason;
  if (reason === 'ProgressDeadlineExceeded') return;
  const wasPaused = reason === 'DeploymentPaused';
  if (deployment.spec?.paused && !wasPaused) {
    conditions.set('Progressing', 'Unknown', 'DeploymentPaused', 'Deployment is paused');
  } else if (!deployment.spec?.paused && wasPaused) {
    conditions.set('Progressing', 'Unknown', 'DeploymentResumed', 'Deployment is resumed');
  }
}

function noteNewSet(conditions: Conditions, deployment: Deployment, rollout: Rollout): void {
  if (!hasDeadline(deployment)) return;
  const name = rollout.newSet?.metadata.name;
  if (rollout.creates) {
    const message = `Created new replica set "${name}"`;
    conditions.set('Progressing', 'True', 'NewReplicaSetCreated', message);
  } else if (!conditions.get('Progressing')) {
    const message = `Found new replica set "${name}"`;
    conditions.set('Progressing', 'True', 'FoundNewReplicaSet', message);
  }
}

function count(status: Status, deployment: Deployment, rollout: Rollout): void {
  const { newSet, old } = rollout;
  const all = newSet ? [...old, newSet] : old;
  const available = sum(all, availableReplicas);
  status.observedGeneration = deployment.metadata.generation ?? 0;
  status.replicas = sum(all, (set) => set.status?.replicas ?? 0);
  status.updatedReplicas = newSet?.status?.replicas ?? 0;
  status.readyReplicas = sum(all, (set) => set.status?.readyReplicas ?? 0);
  status.availableReplicas = available;
  status.unavailableReplicas = Math.max(0, sum(all, wantedReplicas) - available);
  status.terminatingReplicas = sum(all, (set) => set.status?.terminatingReplicas ?? 0);
}

function noteAvailability(conditions: Conditions, deployment: Deployment, status: Status): void {
  const least = wantedReplicas(deployment) - rollingBounds(deployment).unavailable;
  if ((status.availableReplicas ?? 0) >= least) {
    const message = 'Deployment has minimum availability.';
    conditions.set('Available', 'True', 'MinimumReplicasAvailable', message);
  } else {
    const message = 'Deployment does not have minimum availability.';
    conditions.set('Available', 'False', 'MinimumReplicasUnavailable', message);
  }
}

type Progress = { deployment: Deployment; status: Status; rollout: Rollout; now: number };

function noteProgress(conditions: Conditions, progress: Progress): void {
  const { deployment, status, rollout } = progress;
  if (!hasDeadline(deployment)) conditions.remove('Progressing');
  const current = conditions.get('Progressing');
  const wasComplete =
    status.replicas === status.updatedReplicas && current?.reason === 'NewReplicaSetAvailable';
  if (hasDeadline(deployment) && !wasComplete) {
    const who = rollout.newSet
      ? `ReplicaSet "${rollout.newSet.metadata.name}"`
      : `Deployment "${deployment.metadata.name}"`;
    if (isComplete(deployment, status)) {
      const message = `${who} has successfully progressed.`;
      conditions.set('Progressing', 'True', 'NewReplicaSetAvailable', message);
    } else if (isProgressing(deployment, status)) {
      conditions.renew('Progressing', 'True', 'ReplicaSetUpdated', `${who} is progressing.`);
    } else if (isTimedOut(progress, current)) {
      const message = `${who} has timed out progressing.`;
      conditions.set('Progressing', 'False', 'ProgressDeadlineExceeded', message);
    }
  }
  noteFailure(conditions, rollout);
}

/** Compared with the status as it was before. */
function isProgressing(deployment: Deployment, status: Status): boolean {
  const old = deployment.status ?? {};
  const outdated = (s: Status): number => (s.replicas ?? 0) - (s.updatedReplicas ?? 0);
  return (
    (status.updatedReplicas ?? 0) > (old.updatedReplicas ?? 0) ||
    outdated(status) < outdated(old) ||
    (status.readyReplicas ?? 0) > (old.readyReplicas ?? 0) ||
    (status.availableReplicas ?? 0) > (old.availableReplicas ?? 0)
  );
}

function isTimedOut({ deployment, now }: Progress, current: Condition | undefined): boolean {
  if (!current || current.reason === 'NewReplicaSetAvailable') return false;
  if (current.reason === 'ProgressDeadlineExceeded') return true;
  return deadlineOf(deployment, current) < now;
}

function deadlineOf(deployment: Deployment, condition: Condition): number {
  const seconds = deployment.spec?.progressDeadlineSeconds ?? NO_LIMIT;
  return parseTime(condition.lastUpdateTime ?? '') + seconds * 1000;
}

/** When to look again whether a rollout has missed its deadline, milliseconds from now. */
export function deadlineInMs(deployment: Deployment, now: number): number | undefined {
  const condition = deployment.status?.conditions?.find((one) => one.type === 'Progressing');
  if (!condition || !hasDeadline(deployment) || deployment.spec?.paused) return undefined;
  if (isComplete(deployment) || condition.reason === 'ProgressDeadlineExceeded') return undefined;
  if (condition.reason === 'NewReplicaSetAvailable') return undefined;
  return Math.max(0, deadlineOf(deployment, condition) - now) + 1000;
}

/** A set's failure to make pods is the Deployment's; the current set speaks first. */
function noteFailure(conditions: Conditions, { newSet, old }: Rollout): void {
  const failure = [...(newSet ? [newSet] : []), ...old]
    .flatMap((set) => set.status?.conditions ?? [])
    .find((condition) => condition.type === 'ReplicaFailure');
  if (!failure) {
    conditions.remove('ReplicaFailure');
    return;
  }
  const { reason = '', message = '' } = failure;
  conditions.set('ReplicaFailure', failure.status as 'True', reason, message);
}

/** Conditions by type; one with an unchanged status and reason stays as it was. */
class Conditions {
  #items: Condition[];
  readonly #time: string;

  constructor(items: readonly Condition[], now: number) {
    this.#items = [...items];
    this.#time = formatTime(now);
  }

  list(): Condition[] {
    return this.#items;
  }

  get(type: string): Condition | undefined {
    return this.#items.find((condition) => condition.type === type);
  }

  remove(type: string): void {
    this.#items = this.#items.filter((condition) => condition.type !== type);
  }

  set(type: string, status: 'True' | 'False' | 'Unknown', reason: string, message: string): void {
    const before = this.get(type);
    if (before?.status === status && before.reason === reason) return;
    this.renew(type, status, reason, message);
  }

  /** Also when status and reason are as before: the update time tells that something moves. */
  renew(type: string, status: 'True' | 'False' | 'Unknown', reason: string, message: string): void {
    const before = this.get(type);
    const kept = before?.status === status ? before.lastTransitionTime : undefined;
    const lastTransitionTime = kept ?? this.#time;
    this.remove(type);
    this.#items.push({
      type,
      status,
      reason,
      message,
      lastUpdateTime: this.#time,
      lastTransitionTime,
    });
  }
}
