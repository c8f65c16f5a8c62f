import { isDeepStrictEqual } from 'node:util';
import { formatTime, parseTime } from '#api/time.ts';
import type { Node, Pod, Taint } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Plan } from '#client/controller.ts';
import { nodes, pods as podResource } from '#client/resources.ts';
import { isReady, isTerminal, podCondition } from '#controllers/pods.ts';

export const NOT_READY = 'node.kubernetes.io/not-ready';
export const UNREACHABLE = 'node.kubernetes.io/unreachable';

/** A node that has never spoken gets longer. Source: --node-startup-grace-period. */
const STARTUP_GRACE_MS = 60_000;
/** So long after a node fell silent it is not given up yet, in case all others follow. */
const SETTLE_MS = 3000;

type NodeCondition = NonNullable<NonNullable<Node['status']>['conditions']>[number];

export type NodeWorld = {
  node: Node;
  /** When we last saw a sign of life, by our own clock. */
  heardMs: number;
  gracePeriodMs: number;
  /** Pods bound to it. */
  pods: readonly Pod[];
  /** Nobody is ready: then we are likelier cut off than they are all dead. */
  allAreDown: boolean;
  /** Milliseconds until another node may be given up (rate limit); 0 = now. */
  evictionInMs: number;
};

/**
 * Conditions and taints of a node that speaks, or no longer does. Pure.
 * Source: Nodes, "Node controller"; taints of "Taint based Evictions".
 */
export function planNode(world: NodeWorld, now: number): Plan {
  const { node, heardMs } = world;
  const spoke = condition(node, 'Ready') !== undefined;
  const grace = spoke ? world.gracePeriodMs : STARTUP_GRACE_MS;
  const silentInMs = heardMs + grace - now;
  if (silentInMs < 0 && isAnyKnown(node)) {
    return { actions: giveUp(world, now, spoke), requeueAfterMs: 10 };
  }
  const taints = taintsFor(world, now);
  const actions: Action[] = [];
  if (!sameTaints(taints.wanted, node.spec?.taints ?? [])) {
    const { name = '', resourceVersion } = node.metadata;
    const value = { metadata: { resourceVersion }, spec: { taints: taints.wanted } };
    const patch = { type: 'merge', body: value } as const;
    actions.push({ type: 'patch', resource: nodes, key: { name }, patch });
  }
  // While it is down, no deadline of its own brings us back: the lease or the node will.
  const waits = [silentInMs >= 0 ? silentInMs + 1 : undefined, taints.againInMs];
  const next = waits.filter((ms) => ms !== undefined);
  return next.length > 0 ? { actions, requeueAfterMs: Math.min(...next) } : { actions };
}

function condition(node: Node, type: string): NodeCondition | undefined {
  return node.status?.conditions?.find((one) => one.type === type);
}

const JUDGED = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'];

const isAnyKnown = (node: Node): boolean =>
  JUDGED.some((type) => condition(node, type)?.status !== 'Unknown');

/** Nothing is known of a silent node, and its pods are not to be sent work. */
function giveUp({ node, pods, heardMs }: NodeWorld, now: number, spoke: boolean): Action[] {
  const time = formatTime(now);
  const judged = JUDGED.map((type): NodeCondition => {
    const before = condition(node, type);
    if (before?.status === 'Unknown') return before;
    return {
      type,
      status: 'Unknown',
      lastHeartbeatTime: before?.lastHeartbeatTime ?? node.metadata.creationTimestamp ?? time,
      lastTransitionTime: time,
      ...(before && spoke
        ? { reason: 'NodeStatusUnknown', message: 'Kubelet stopped posting node status.' }
        : { reason: 'NodeStatusNeverUpdated', message: 'Kubelet never posted node status.' }),
    };
  });
  const others = (node.status?.conditions ?? []).filter((one) => !JUDGED.includes(one.type));
  const status = { ...node.status, conditions: [...others, ...judged] };
  const wasReady = condition(node, 'Ready')?.status === 'True';
  const silentS = Math.round((now - heardMs) / 1000);
  const actions: Action[] = [
    { type: 'updateStatus', resource: nodes, object: { ...node, status } },
  ];
  if (wasReady) {
    const message = `Node ${node.metadata.name} has been silent for ${silentS} s, status is now: NodeNotReady`;
    const note = { type: 'Normal', reason: 'NodeNotReady', message } as const;
    actions.push({ type: 'event', about: node, note });
  }
  const ready = pods.filter((pod) => isReady(pod) && !isTerminal(pod));
  if (ready.length > 0) {
    actions.push({ type: 'together', actions: ready.map((pod) => markNotReady(pod, now)) });
  }
  return actions;
}

function markNotReady(pod: Pod, now: number): Action {
  const { namespace, name = '', uid } = pod.metadata;
  const old = podCondition(pod, 'Ready');
  const change = { ...old, type: 'Ready', status: 'False', lastTransitionTime: formatTime(now) };
  const body = { metadata: { uid }, status: { conditions: [change] } };
  const patch = { type: 'strategic', body } as const;
  const key = { namespace, name };
  return { type: 'patch', resource: podResource, key, patch, subresource: 'status' };
}

/** Taints that follow from conditions; all others on the node are somebody else's. */
const OURS = new Set([
  `${NOT_READY} NoSchedule`,
  `${NOT_READY} NoExecute`,
  `${UNREACHABLE} NoSchedule`,
  `${UNREACHABLE} NoExecute`,
  'node.kubernetes.io/memory-pressure NoSchedule',
  'node.kubernetes.io/disk-pressure NoSchedule',
  'node.kubernetes.io/pid-pressure NoSchedule',
  'node.kubernetes.io/network-unavailable NoSchedule',
  'node.kubernetes.io/unschedulable NoSchedule',
]);

const PRESSURES: readonly [type: string, taint: string][] = [
  ['MemoryPressure', 'node.kubernetes.io/memory-pressure'],
  ['DiskPressure', 'node.kubernetes.io/disk-pressure'],
  ['PIDPressure', 'node.kubernetes.io/pid-pressure'],
  ['NetworkUnavailable', 'node.kubernetes.io/network-unavailable'],
];

const nameOf = (taint: Taint): string => `${taint.key} ${taint.effect}`;

function taintsFor(world: NodeWorld, now: number): { wanted: Taint[]; againInMs?: number } {
  const { node, allAreDown, evictionInMs } = world;
  const existing = node.spec?.taints ?? [];
  const wanted: { key: string; effect: 'NoSchedule' | 'NoExecute' }[] = [];
  let againInMs: number | undefined;
  const ready = condition(node, 'Ready')?.status ?? 'Unknown';
  // A node that has just registered says not-ready itself; until it speaks that stands.
  const isNew = condition(node, 'Ready') === undefined;
  if (ready !== 'True') {
    const key = ready === 'False' || isNew ? NOT_READY : UNREACHABLE;
    wanted.push({ key, effect: 'NoSchedule' });
    if (!isNew && !allAreDown) {
      const wasGivenUp = existing.some(
        (taint) =>
          taint.effect === 'NoExecute' && (taint.key === NOT_READY || taint.key === UNREACHABLE),
      );
      const waitMs = Math.max(evictionInMs, settlesInMs(node, now));
      if (wasGivenUp || waitMs === 0) wanted.push({ key, effect: 'NoExecute' });
      else againInMs = waitMs;
    }
  }
  for (const [type, key] of PRESSURES) {
    if (condition(node, type)?.status === 'True') wanted.push({ key, effect: 'NoSchedule' });
  }
  if (node.spec?.unschedulable) {
    wanted.push({ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' });
  }
  const ours = wanted.map((taint): Taint => {
    const before = existing.find((one) => nameOf(one) === nameOf(taint));
    return before ?? { ...taint, timeAdded: formatTime(now) };
  });
  const others = existing.filter((taint) => !OURS.has(nameOf(taint)));
  const all = [...others, ...ours];
  return againInMs === undefined ? { wanted: all } : { wanted: all, againInMs };
}

/** Nodes that fall silent together are not seen to do so at the same instant. */
function settlesInMs(node: Node, now: number): number {
  const ready = condition(node, 'Ready');
  // Only times that we wrote ourselves can be compared with our clock.
  if (ready?.status !== 'Unknown') return 0;
  return Math.max(0, (parseTime(ready.lastTransitionTime ?? '') || 0) + SETTLE_MS - now);
}

function sameTaints(a: readonly Taint[], b: readonly Taint[]): boolean {
  return isDeepStrictEqual(new Set(a.map(nameOf)), new Set(b.map(nameOf)));
}

/** Whether a plan gives the node up, which the rate limit counts. */
export function addsEviction(actions: readonly Action[], node: Node): boolean {
  const had = node.spec?.taints?.some(isEviction) ?? false;
  return (
    !had && actions.some((action) => isPatchOfTaints(action) && taintsIn(action).some(isEviction))
  );
}

const isEviction = (taint: Taint): boolean =>
  taint.effect === 'NoExecute' && (taint.key === NOT_READY || taint.key === UNREACHABLE);

type Patch = Extract<Action, { type: 'patch' }>;
const isPatchOfTaints = (action: Action): action is Patch =>
  action.type === 'patch' && action.resource.resource === 'nodes';
const taintsIn = (action: Patch): Taint[] =>
  (action.patch.body as { spec?: { taints?: Taint[] } }).spec?.taints ?? [];

/** When a taint was put on, milliseconds; `fallback` when it does not say. */
export const taintedAt = (taint: Taint, fallback: number): number => {
  const at = parseTime(taint.timeAdded ?? '');
  return Number.isNaN(at) ? fallback : at;
};
