import { isDeepStrictEqual } from 'node:util';
import type {
  ControllerRevision,
  KubeObject,
  PersistentVolumeClaim,
  Pod,
  StatefulSet,
} from '#api/types.ts';
import type { Action, Announce } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import {
  controllerRevisions,
  persistentVolumeClaims,
  pods as podResource,
  statefulSets,
} from '#client/resources.ts';
import { resolveCount } from '#controllers/deployment-sizes.ts';
import { claim } from '#controllers/ownership.ts';
import { availableInMs, isReady, nextAvailableMs } from '#controllers/pods.ts';
import { type History, historyOf, revisionLabelOf, trimHistory } from '#controllers/revisions.ts';
import { isSameStatus } from '#controllers/same-status.ts';
import {
  claimNames,
  claimOwners,
  claimsOf,
  isInRange,
  isStaleClaim,
  memberOf,
  ordinalOf,
  startOrdinal,
  wantedPods,
  withIdentity,
} from '#controllers/statefulset-identity.ts';

/** How a revision of a StatefulSet says its hash. */
const HASH_LABEL = 'controller.kubernetes.io/hash';

export type StatefulSetWorld = {
  set: StatefulSet;
  /** Pods that it manages, and orphans in its namespace. */
  pods: readonly Pod[];
  /** Revisions that it manages, and orphans. */
  revisions: readonly ControllerRevision[];
  revisionNamed: (name: string) => ControllerRevision | undefined;
  claimNamed: (name: string) => PersistentVolumeClaim | undefined;
};

/** Everything a plan and a status need, settled once. */
export type StatefulSetState = {
  adoptions: Action[];
  members: readonly Pod[];
  history: History;
  current: ControllerRevision;
};

/** Who belongs to the set and which revisions are current and next. Pure. */
export function settle(world: StatefulSetWorld): StatefulSetState {
  const { set } = world;
  const selector = set.spec?.selector ?? {};
  const revisions = claim(set, selector, world.revisions, controllerRevisions);
  const named = world.pods.filter((pod) => ordinalOf(set, pod) >= 0);
  const members = claim(set, selector, named, podResource);
  const history = historyOf({
    owner: set,
    revisions: revisions.owned,
    named: world.revisionNamed,
    hashLabel: HASH_LABEL,
    collisionCount: set.status?.collisionCount ?? 0,
  });
  const before = set.status?.currentRevision;
  const current = revisions.owned.find((one) => one.metadata.name === before) ?? history.update;
  const adoptions = [...revisions.actions, ...members.actions];
  return { adoptions, members: members.owned, history, current };
}

/** One step towards the wanted members. Pure. */
export function planStatefulSet(world: StatefulSetWorld, now: number): Plan {
  const { set } = world;
  const state = settle(world);
  if (state.adoptions.length > 0) return { actions: state.adoptions };
  const wait = nextAvailableMs(state.members, set.spec?.minReadySeconds ?? 0, now);
  const requeue = wait === undefined ? {} : { requeueAfterMs: wait };
  if (set.metadata.deletionTimestamp) return { actions: [], ...requeue };
  if (state.history.actions.length > 0) return { actions: state.history.actions };
  const step = new Step(world, state, now).take();
  if (step.length > 0) return { actions: step, ...requeue };
  return { actions: trim(set, state), ...requeue };
}

function trim(set: StatefulSet, { members, history, current }: StatefulSetState): Action[] {
  const used = new Set([
    history.update.metadata.name,
    current.metadata.name,
    set.status?.currentRevision,
    ...members.map(revisionLabelOf),
  ]);
  return trimHistory(set, history.sorted, (revision) => used.has(revision.metadata.name ?? ''));
}

const isCreated = (pod: Pod): boolean => (pod.status?.phase ?? '') !== '';
const isGoing = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;
const isEnded = (pod: Pod): boolean =>
  pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded';
export const isUp = (pod: Pod): boolean => pod.status?.phase === 'Running' && isReady(pod);

type Slot = { ordinal: number; pod: Pod | undefined };

/** Walks the members in order and stops where the next must wait. */
class Step {
  readonly #world: StatefulSetWorld;
  readonly #set: StatefulSet;
  readonly #state: StatefulSetState;
  readonly #now: number;
  readonly #slots: readonly Slot[];
  /** Surplus members, the highest number first. */
  readonly #surplus: readonly Pod[];
  readonly #isOrdered: boolean;

  constructor(world: StatefulSetWorld, state: StatefulSetState, now: number) {
    this.#world = world;
    this.#set = world.set;
    this.#state = state;
    this.#now = now;
    const byOrdinal = new Map(state.members.map((pod) => [ordinalOf(world.set, pod), pod]));
    const start = startOrdinal(world.set);
    this.#slots = Array.from({ length: wantedPods(world.set) }, (_, index) => ({
      ordinal: start + index,
      pod: byOrdinal.get(start + index),
    }));
    this.#surplus = [...byOrdinal]
      .filter(([ordinal]) => !isInRange(world.set, ordinal))
      .sort(([a], [b]) => b - a)
      .map(([, pod]) => pod);
    this.#isOrdered = world.set.spec?.podManagementPolicy !== 'Parallel';
  }

  take(): Action[] {
    const filled = this.#fill();
    if (filled.stop) return filled.actions;
    const retained = this.#surplus.flatMap((pod) => this.#retain(pod, ordinalOf(this.#set, pod)));
    const shrunk = this.#shrink();
    const actions = [...filled.actions, ...retained, ...shrunk.actions];
    if (shrunk.stop || actions.length > 0) return actions;
    return this.#update();
  }

  /** Every number has a running member; in order, each waits for the one before. */
  #fill(): { actions: Action[]; stop: boolean } {
    const actions: Action[] = [];
    const missing: Slot[] = [];
    for (const slot of this.#slots) {
      const { pod } = slot;
      if (pod && isEnded(pod)) {
        if (!isGoing(pod)) actions.push(...this.#recreate(pod));
        if (this.#isOrdered) return { actions, stop: true };
        continue;
      }
      if (!pod) {
        const name = `${this.#set.metadata.name}-${slot.ordinal}`;
        const isStale = claimNames(this.#set, slot.ordinal)
          .map((claimName) => this.#world.claimNamed(claimName))
          .some((found) => found && isStaleClaim(found, undefined, name));
        if (!isStale) missing.push(slot);
        if (this.#isOrdered) return { actions: [...actions, ...this.#create(missing)], stop: true };
        continue;
      }
      const fixed = this.#keep(pod, slot.ordinal);
      actions.push(...fixed);
      if (this.#isOrdered && (isGoing(pod) || !this.#isAvailable(pod))) {
        return { actions, stop: true };
      }
    }
    return { actions: [...actions, ...this.#create(missing)], stop: false };
  }

  #isAvailable(pod: Pod): boolean {
    return isUp(pod) && availableInMs(pod, this.#set.spec?.minReadySeconds ?? 0, this.#now) === 0;
  }

  #recreate(pod: Pod): Action[] {
    const { namespace, name } = this.#set.metadata;
    const failed = pod.status?.phase === 'Failed';
    const how = failed ? 'failed' : 'terminated';
    const message = `StatefulSet ${namespace}/${name} is recreating ${how} Pod ${pod.metadata.name}`;
    const note = failed
      ? ({ type: 'Warning', reason: 'RecreatingFailedPod', message } as const)
      : ({ type: 'Normal', reason: 'RecreatingTerminatedPod', message } as const);
    return [{ type: 'event', about: this.#set, note }, this.#delete(pod)];
  }

  #create(slots: readonly Slot[]): Action[] {
    if (slots.length === 0) return [];
    const claims = slots.flatMap(({ ordinal }) => this.#missingClaims(ordinal));
    const actions = slots.map(({ ordinal }): Action => {
      const object = memberOf(this.#set, ordinal, this.#revisionFor(ordinal));
      const announce = this.#tell('create', `Pod ${object.metadata.name}`);
      return { type: 'create', resource: podResource, object, announce };
    });
    const making: Action[] = claims.length > 0 ? [{ type: 'together', actions: claims }] : [];
    return [...making, { type: 'slowStart', actions }];
  }

  #missingClaims(ordinal: number): Action[] {
    return claimsOf(this.#set, ordinal)
      .filter((one) => !this.#world.claimNamed(one.metadata.name ?? ''))
      .map((object) => {
        const { name } = object.metadata;
        const pod = `${this.#set.metadata.name}-${ordinal}`;
        const set = `StatefulSet ${this.#set.metadata.name}`;
        const success = `create Claim ${name} Pod ${pod} in ${set} success`;
        const failure = `create Claim ${name} for Pod ${pod} in ${set} failed error: {error}`;
        return {
          type: 'create',
          resource: persistentVolumeClaims,
          object,
          ifExists: 'ignore',
          announce: {
            about: this.#set,
            success: { type: 'Normal', reason: 'SuccessfulCreate', message: success },
            failure: { type: 'Warning', reason: 'FailedCreate', message: failure },
          },
        };
      });
  }

  /** Members below the partition stay at the old revision. */
  #revisionFor(ordinal: number): ControllerRevision {
    const { updateStrategy, ordinals } = this.#set.spec ?? {};
    const { current, history } = this.#state;
    if (updateStrategy?.type === 'OnDelete') return history.update;
    const partition = updateStrategy?.rollingUpdate?.partition;
    const kept = partition ?? this.#set.status?.currentReplicas ?? 0;
    return ordinal < (ordinals?.start ?? 0) + kept ? current : history.update;
  }

  /** A member that is there keeps its identity, its claims and their owners. */
  #keep(pod: Pod, ordinal: number): Action[] {
    if (isGoing(pod)) return [];
    const waits = pod.status?.phase === 'Pending' && !pod.spec.nodeName;
    const claims = waits ? this.#missingClaims(ordinal) : [];
    const object = withIdentity(this.#set, pod, ordinal);
    const announce = this.#tell('update', `Pod ${pod.metadata.name}`);
    const update: Action[] =
      object === pod ? [] : [{ type: 'update', resource: podResource, object, announce }];
    return [...claims, ...this.#retain(pod, ordinal), ...update];
  }

  #retain(pod: Pod, ordinal: number): Action[] {
    return claimNames(this.#set, ordinal).flatMap((name): Action[] => {
      const found = this.#world.claimNamed(name);
      if (!found || isStaleClaim(found, pod, pod.metadata.name ?? '')) return [];
      const existing = found.metadata.ownerReferences ?? [];
      const ownerReferences = claimOwners(this.#set, pod, { ordinal, existing });
      if (isDeepStrictEqual(existing, ownerReferences)) return [];
      const object = { ...found, metadata: { ...found.metadata, ownerReferences } };
      return [{ type: 'update', resource: persistentVolumeClaims, object }];
    });
  }

  /** Surplus members go, the highest number first, and in order one after the other. */
  #shrink(): { actions: Action[]; stop: boolean } {
    const actions: Action[] = [];
    for (const pod of this.#surplus) {
      if (isGoing(pod)) {
        if (this.#isOrdered) return { actions, stop: true };
        continue;
      }
      if (this.#isOrdered) {
        // A broken member may go out of turn only if nothing before it is broken.
        const waits = !this.#isAvailable(pod) && pod !== this.#firstUnhealthy();
        return { actions: waits ? [] : [this.#delete(pod)], stop: true };
      }
      actions.push(this.#delete(pod));
    }
    return { actions, stop: actions.length > 0 };
  }

  #firstUnhealthy(): Pod | undefined {
    const all = [...this.#slots.map((slot) => slot.pod), ...this.#surplus.toReversed()];
    return all.find((pod) => pod && (!isUp(pod) || isGoing(pod)));
  }

  /** Rolls members to the next revision, the highest number first. */
  #update(): Action[] {
    const { updateStrategy } = this.#set.spec ?? {};
    if (updateStrategy?.type === 'OnDelete') return [];
    const { partition = 0, maxUnavailable } = updateStrategy?.rollingUpdate ?? {};
    if (maxUnavailable !== undefined) {
      return this.#updateSeveral(partition, maxUnavailable as number | string);
    }
    for (let index = this.#slots.length - 1; index >= partition; index--) {
      const pod = this.#slots[index]?.pod;
      if (!pod) return [];
      if (this.#isOld(pod) && !isGoing(pod)) return [this.#delete(pod)];
      if (isGoing(pod) || !this.#isAvailable(pod)) return [];
    }
    return [];
  }

  #isOld(pod: Pod): boolean {
    return revisionLabelOf(pod) !== this.#state.history.update.metadata.name;
  }

  #updateSeveral(partition: number, maxUnavailable: number | string): Action[] {
    const most = Math.max(1, resolveCount(maxUnavailable, this.#slots.length, 'up'));
    const isDown = (pod: Pod | undefined): boolean =>
      !pod || isGoing(pod) || !this.#isAvailable(pod);
    const room = most - this.#slots.filter(({ pod }) => isDown(pod)).length;
    const victims = this.#slots
      .slice(partition)
      .toReversed()
      .flatMap(({ pod }) => (pod && this.#isOld(pod) && !isGoing(pod) ? [pod] : []))
      .slice(0, Math.max(0, room));
    if (victims.length === 0) return [];
    return [{ type: 'together', actions: victims.map((pod) => this.#delete(pod)) }];
  }

  #delete(pod: Pod): Action {
    const { name = '', namespace, uid = '' } = pod.metadata;
    const announce = this.#tell('delete', `Pod ${name}`);
    return { type: 'delete', resource: podResource, key: { namespace, name }, uid, announce };
  }

  #tell(verb: 'create' | 'update' | 'delete', what: string): Announce {
    const reason = `${verb.charAt(0).toUpperCase()}${verb.slice(1)}`;
    const text = `${verb} ${what} in StatefulSet ${this.#set.metadata.name}`;
    return {
      about: this.#set,
      success: {
        type: 'Normal',
        reason: `Successful${reason}`,
        message: `${text} successful`,
      },
      failure: {
        type: 'Warning',
        reason: `Failed${reason}`,
        message: `${text} failed error: {error}`,
      },
    };
  }
}

type Status = NonNullable<StatefulSet['status']>;

/** The status as it should be; nothing when it is so already. Pure. */
export function reportStatefulSet(world: StatefulSetWorld, now: number): readonly Action[] {
  const { set } = world;
  const state = settle(world);
  const { members, history, current } = state;
  const update = history.update.metadata.name ?? '';
  const minReady = set.spec?.minReadySeconds ?? 0;
  const count = (test: (pod: Pod) => boolean): number => members.filter(test).length;
  const at = (revision: string | undefined) => (pod: Pod) =>
    isCreated(pod) && !isGoing(pod) && revisionLabelOf(pod) === revision;
  const { conditions } = set.status ?? {};
  const status: Status = {
    observedGeneration: set.metadata.generation ?? 0,
    replicas: count(isCreated),
    readyReplicas: count(isUp),
    currentReplicas: count(at(current.metadata.name)),
    updatedReplicas: count(at(update)),
    availableReplicas: count((pod) => isUp(pod) && availableInMs(pod, minReady, now) === 0),
    currentRevision: current.metadata.name ?? '',
    updateRevision: update,
    collisionCount: history.collisionCount,
    ...(conditions ? { conditions } : {}),
  };
  completeRollout(set, status);
  if (isSameStatus(status, set.status)) return [];
  const object: KubeObject = { ...set, status };
  return [{ type: 'updateStatus', resource: statefulSets, object }];
}

/** When all members are at the next revision, it is the current one. */
function completeRollout(set: StatefulSet, status: Status): void {
  const wanted = wantedPods(set);
  const { updatedReplicas, readyReplicas, replicas } = status;
  if (set.spec?.updateStrategy?.type === 'OnDelete') return;
  if (updatedReplicas !== wanted || readyReplicas !== wanted || replicas !== wanted) return;
  status.currentReplicas = updatedReplicas;
  status.currentRevision = status.updateRevision ?? '';
}
