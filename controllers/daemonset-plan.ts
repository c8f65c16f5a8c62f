import type { ControllerRevision, DaemonSet, Node, Pod } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { controllerRevisions, daemonSets, pods as podResource } from '#client/resources.ts';
import { daemonPod, judgeNode, targetNode, type Verdict } from '#controllers/daemonset-pods.ts';
import { resolveCount } from '#controllers/deployment-sizes.ts';
import { claim } from '#controllers/ownership.ts';
import { createOwned, deleteOwned } from '#controllers/pod-actions.ts';
import { availableInMs, isReady, isTerminal, nextAvailableMs } from '#controllers/pods.ts';
import {
  type History,
  historyOf,
  REVISION_LABEL,
  revisionLabelOf,
  trimHistory,
} from '#controllers/revisions.ts';
import { isSameStatus } from '#controllers/same-status.ts';

/** Most pods created or deleted by one plan. Source: upstream's BurstReplicas. */
const MAX_BURST = 250;
/** A node whose daemon keeps failing gets the next one after so long, doubling to the maximum. */
const FAILED_BACKOFF_MS = 1000;
const MAX_FAILED_BACKOFF_MS = 900_000;

export type DaemonSetWorld = {
  set: DaemonSet;
  nodes: readonly Node[];
  /** Pods that it manages, and orphans in its namespace. */
  pods: readonly Pod[];
  /** Revisions that it manages, and orphans. */
  revisions: readonly ControllerRevision[];
  revisionNamed: (name: string) => ControllerRevision | undefined;
  /** How often a node's daemon has failed lately, and the last time, milliseconds. */
  failuresOn: (node: string) => { count: number; lastMs: number };
};

/** A node and the daemons on it that are not over. */
type Place = { node: Node; verdict: Verdict; pods: readonly Pod[] };

export type DaemonSetState = {
  adoptions: Action[];
  owned: readonly Pod[];
  places: readonly Place[];
  history: History;
  hash: string;
};

/** Who belongs to the set, which nodes want it, and which revision is current. Pure. */
export function settle(world: DaemonSetWorld): DaemonSetState {
  const { set } = world;
  const selector = set.spec?.selector ?? {};
  const revisions = claim(set, selector, world.revisions, controllerRevisions);
  const claims = claim(set, selector, world.pods, podResource);
  const history = historyOf({
    owner: set,
    revisions: revisions.owned,
    named: world.revisionNamed,
    hashLabel: REVISION_LABEL,
    collisionCount: set.status?.collisionCount ?? 0,
  });
  const byNode = Map.groupBy(
    claims.owned.filter((pod) => !(isTerminal(pod) && isGoing(pod))),
    targetNode,
  );
  const places = world.nodes.map((node) => ({
    node,
    verdict: judgeNode(set, node),
    pods: (byNode.get(node.metadata.name ?? '') ?? []).toSorted(olderFirst),
  }));
  return {
    adoptions: [...revisions.actions, ...claims.actions],
    owned: claims.owned,
    places,
    history,
    hash: history.update.metadata.labels?.[REVISION_LABEL] ?? '',
  };
}

const isGoing = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;

/** Bound ones first, then by age. */
function olderFirst(a: Pod, b: Pod): number {
  const born = (pod: Pod): number => Date.parse(pod.metadata.creationTimestamp ?? '') || 0;
  const name = (pod: Pod): string => pod.metadata.name ?? '';
  return (
    Number(Boolean(b.spec.nodeName)) - Number(Boolean(a.spec.nodeName)) ||
    born(a) - born(b) ||
    (name(a) < name(b) ? -1 : 1)
  );
}

/** Brings a daemon to each node that wants one, and rolls out its template. Pure. */
export function planDaemonSet(world: DaemonSetWorld, now: number): Plan {
  const { set } = world;
  const state = settle(world);
  if (state.adoptions.length > 0) return { actions: state.adoptions };
  if (set.metadata.deletionTimestamp) return { actions: [] };
  if (state.history.actions.length > 0) return { actions: state.history.actions };
  const waits = [nextAvailableMs(state.owned, set.spec?.minReadySeconds ?? 0, now)];
  const managed = manage(world, state, { now, waits });
  const rolls = set.spec?.updateStrategy?.type !== 'OnDelete';
  const actions =
    managed.length > 0 || !rolls ? managed : asActions(set, state.hash, roll(world, state, now));
  const known = waits.filter((ms) => ms !== undefined);
  const requeue = known.length > 0 ? { requeueAfterMs: Math.min(...known) } : {};
  return { actions: actions.length > 0 ? actions : trim(set, state), ...requeue };
}

function trim(set: DaemonSet, { owned, history, hash }: DaemonSetState): Action[] {
  const used = new Set([hash, ...owned.map(revisionLabelOf)]);
  const inUse = (revision: ControllerRevision): boolean =>
    used.has(revision.metadata.labels?.[REVISION_LABEL] ?? '');
  return trimHistory(set, history.sorted, inUse);
}

type Wishes = { create: string[]; delete: Pod[] };

function asActions(set: DaemonSet, hash: string, wishes: Wishes): Action[] {
  const victims = wishes.delete.slice(0, MAX_BURST);
  const making = wishes.create.slice(0, MAX_BURST);
  const actions: Action[] = [];
  if (victims.length > 0) {
    actions.push({ type: 'together', actions: victims.map((pod) => deleteOwned(pod, set)) });
  }
  if (making.length > 0) {
    const made = making.map((node) => createOwned(daemonPod(set, node, hash), set));
    actions.push({ type: 'slowStart', actions: made });
  }
  return actions;
}

type Timing = { now: number; waits: (number | undefined)[] };

/** One daemon on each node that wants it, none elsewhere. */
function manage(world: DaemonSetWorld, state: DaemonSetState, timing: Timing): Action[] {
  const { set } = world;
  const wishes: Wishes = { create: [], delete: [] };
  const said: Action[] = [];
  for (const place of state.places) {
    const { verdict, pods, node } = place;
    if (verdict.shouldRun && pods.length === 0) wishes.create.push(node.metadata.name ?? '');
    else if (verdict.mayStay) tidy(world, state, { place, wishes, said, timing });
    else wishes.delete.push(...pods.filter((pod) => !isGoing(pod)));
  }
  const there = new Set(state.places.map(({ node }) => node.metadata.name));
  for (const pod of state.owned) {
    // Nobody will ever bind these: their node is gone.
    if (!pod.spec.nodeName && !isGoing(pod) && !there.has(targetNode(pod))) {
      wishes.delete.push(pod);
    }
  }
  return [...said, ...asActions(set, state.hash, wishes)];
}

type Tidying = { place: Place; wishes: Wishes; said: Action[]; timing: Timing };

function tidy(world: DaemonSetWorld, state: DaemonSetState, tidying: Tidying): void {
  const { place, wishes, said, timing } = tidying;
  const { set } = world;
  const running: Pod[] = [];
  for (const pod of place.pods) {
    if (isGoing(pod)) continue;
    if (!isTerminal(pod)) {
      running.push(pod);
      continue;
    }
    const name = place.node.metadata.name ?? '';
    const failed = pod.status?.phase === 'Failed';
    const waitMs = failed ? backoffLeft(world.failuresOn(name), timing.now) : 0;
    if (waitMs > 0) {
      timing.waits.push(waitMs);
      continue;
    }
    const { namespace } = pod.metadata;
    const what = `${failed ? 'failed' : 'succeeded'} daemon pod ${namespace}/${pod.metadata.name}`;
    const message = `Found ${what} on node ${name}, will try to ${failed ? 'kill' : 'delete'} it`;
    const note = failed
      ? ({ type: 'Warning', reason: 'FailedDaemonPod', message } as const)
      : ({ type: 'Normal', reason: 'SucceededDaemonPod', message } as const);
    said.push({ type: 'event', about: set, note });
    wishes.delete.push(pod);
  }
  if (running.length < 2) return;
  if (boundsOf(set, 1).surge === 0) wishes.delete.push(...running.slice(1));
  else wishes.delete.push(...surplusOfSurge(set, running, { hash: state.hash, now: timing.now }));
}

function backoffLeft({ count, lastMs }: { count: number; lastMs: number }, now: number): number {
  if (count === 0) return 0;
  const wait = Math.min(MAX_FAILED_BACKOFF_MS, FAILED_BACKOFF_MS * 2 ** (count - 1));
  return Math.max(0, lastMs + wait - now);
}

/** During a surge one old and one new daemon may be on a node, until the new one can take over. */
function surplusOfSurge(
  set: DaemonSet,
  running: readonly Pod[],
  { hash, now }: { hash: string; now: number },
): Pod[] {
  const isNew = (pod: Pod): boolean => revisionLabelOf(pod) === hash;
  const newPod = running.find(isNew);
  const oldPod = running.find((pod) => !isNew(pod));
  const surplus = running.filter((pod) => pod !== newPod && pod !== oldPod);
  if (newPod && oldPod && (!isReady(oldPod) || isAvailable(set, newPod, now))) {
    surplus.push(oldPod);
  }
  return surplus;
}

const isAvailable = (set: DaemonSet, pod: Pod, now: number): boolean =>
  availableInMs(pod, set.spec?.minReadySeconds ?? 0, now) === 0;

/** How many nodes may have two daemons, or none, during an update. */
function boundsOf(set: DaemonSet, wanted: number): { surge: number; unavailable: number } {
  const { updateStrategy } = set.spec ?? {};
  if (updateStrategy?.type === 'OnDelete') return { surge: 0, unavailable: 0 };
  const { maxSurge, maxUnavailable } = updateStrategy?.rollingUpdate ?? {};
  const surge = resolveCount(maxSurge as string | number | undefined, wanted, 'up');
  const unavailable = resolveCount(
    (maxUnavailable ?? (surge > 0 ? 0 : 1)) as string | number,
    wanted,
    'up',
  );
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

/** Replaces daemons of old templates, as fast as the bounds allow. Source: upstream's update.go. */
function roll(world: DaemonSetWorld, state: DaemonSetState, now: number): Wishes {
  const { set } = world;
  const wanted = state.places.filter(({ verdict }) => verdict.shouldRun).length;
  const { surge, unavailable } = boundsOf(set, wanted);
  const places = state.places.filter(({ pods }) => pods.length > 0);
  const options = { set, hash: state.hash, now };
  if (surge > 0) return rollWithSurge(places, surge, options);
  return rollInPlace(places, unavailable, options);
}

type RollOptions = { set: DaemonSet; hash: string; now: number };

type Pair = { oldPod: Pod | undefined; newPod: Pod | undefined };

/** Undefined when there are several of a sort, which `manage` settles. */
function pairOf({ pods }: Place, hash: string): Pair | undefined {
  const live = pods.filter((pod) => !isGoing(pod));
  const [newPod, ...moreNew] = live.filter((pod) => revisionLabelOf(pod) === hash);
  const [oldPod, ...moreOld] = live.filter((pod) => revisionLabelOf(pod) !== hash);
  return moreNew.length + moreOld.length > 0 ? undefined : { oldPod, newPod };
}

function rollInPlace(places: readonly Place[], most: number, options: RollOptions): Wishes {
  const { set, hash, now } = options;
  let down = 0;
  const broken: Pod[] = [];
  const candidates: Pod[] = [];
  for (const place of places) {
    const pair = pairOf(place, hash);
    if (!pair || Boolean(pair.oldPod) === Boolean(pair.newPod)) down += 1;
    else if (pair.newPod) down += isAvailable(set, pair.newPod, now) ? 0 : 1;
    else if (pair.oldPod && isAvailable(set, pair.oldPod, now)) candidates.push(pair.oldPod);
    else if (pair.oldPod) {
      down += 1;
      broken.push(pair.oldPod);
    }
  }
  const room = Math.max(0, most - down);
  return { create: [], delete: [...broken, ...candidates.slice(0, room)] };
}

function rollWithSurge(places: readonly Place[], most: number, options: RollOptions): Wishes {
  const { set, hash, now } = options;
  let surging = 0;
  const wishes: Wishes = { create: [], delete: [] };
  const candidates: string[] = [];
  for (const place of places) {
    const pair = pairOf(place, hash);
    const name = place.node.metadata.name ?? '';
    if (!pair) surging += 1;
    else if (!pair.oldPod || !place.verdict.shouldRun) continue;
    else if (pair.newPod) {
      if (isAvailable(set, pair.newPod, now)) wishes.delete.push(pair.oldPod);
      else surging += 1;
    } else if (isAvailable(set, pair.oldPod, now)) candidates.push(name);
    else wishes.create.push(name);
  }
  wishes.create.push(...candidates.slice(0, Math.max(0, most - surging)));
  return wishes;
}

type Status = NonNullable<DaemonSet['status']>;

/** The status as it should be; nothing when it is so already. Pure. */
export function reportDaemonSet(world: DaemonSetWorld, now: number): readonly Action[] {
  const { set } = world;
  const { places, hash, history } = settle(world);
  const wanted = places.filter(({ verdict }) => verdict.shouldRun);
  const firsts = wanted.flatMap(({ pods }) => pods.slice(0, 1));
  const count = (test: (pod: Pod) => boolean): number => firsts.filter(test).length;
  const available = count((pod) => isReady(pod) && isAvailable(set, pod, now));
  const status: Status = {
    ...set.status,
    currentNumberScheduled: firsts.length,
    numberMisscheduled: places.filter((one) => !one.verdict.shouldRun && one.pods.length > 0)
      .length,
    desiredNumberScheduled: wanted.length,
    numberReady: count(isReady),
    observedGeneration: set.metadata.generation ?? 0,
    updatedNumberScheduled: count((pod) => revisionLabelOf(pod) === hash),
    numberAvailable: available,
    numberUnavailable: wanted.length - available,
    collisionCount: history.collisionCount,
  };
  if (isSameStatus(status, set.status)) return [];
  return [{ type: 'updateStatus', resource: daemonSets, object: { ...set, status } }];
}
