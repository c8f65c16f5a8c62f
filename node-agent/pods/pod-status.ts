import { formatTime } from '#api/time.ts';
import type { ContainerStatus, Pod, PodCondition, PodStatus } from '#api/types.ts';
import {
  containerStatus,
  type HostFacts,
  UNLOCATED,
} from '#node-agent/containers/container-status.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import {
  latest,
  liveSandbox,
  type PodContainer,
  type PodObservation,
  podContainers,
  restarts,
  type Stop,
} from '#node-agent/pods/pod-observation.ts';
import { stopOf } from '#node-agent/pods/pod-outcome.ts';
import { mayRestartAll, outdatedIn, outdatedRunning } from '#node-agent/pods/restart-all.ts';
import { TERMINATED } from '#node-agent/node/shutdown-plan.ts';
import { PREEMPTING } from '#node-agent/pods/pod-preemption.ts';
import { TERMINATION_BY_NODE } from '#node-agent/pods/stop-orders.ts';
import { unsizedContainers } from '#node-agent/pods/pod-resize.ts';

export type Phase = 'Pending' | 'Running' | 'Succeeded' | 'Failed';

/**
 * The status of a pod as the API shows it, from an observation. Pure. Fields that others own
 * (resize, nominatedNodeName, conditions of other types) are not part of it.
 * Source: the API documentation of PodStatus.
 */
export function podStatus(o: PodObservation, host: HostFacts): PodStatus {
  const { pod } = o;
  const stop = stopOf(o);
  const containers = podContainers(pod);
  const statuses = new Map(
    containers.map((c) => [c.spec.name, containerStatus(o, c, host, stop !== undefined)]),
  );
  const phase = phaseOf(o, stop, containers, statuses);
  const over = phase === 'Failed' || phase === 'Succeeded';
  if (over && !isRefusal(o)) for (const c of containers) settle(c, containers, statuses);
  const ofKind = (...kinds: PodContainer['kind'][]): ContainerStatus[] =>
    containers
      .filter((c) => kinds.includes(c.kind))
      .flatMap((c) => statuses.get(c.spec.name) ?? []);
  const init = ofKind('init', 'sidecar');
  const main = ofKind('main');
  const ephemeral = ofKind('ephemeral');
  const ips = podIps(o, host);
  const failed = stop?.cause === 'failed' ? stop : undefined;
  return {
    ...(pod.metadata.generation === undefined
      ? {}
      : { observedGeneration: pod.metadata.generation }),
    phase,
    ...(failed
      ? { reason: failed.reason, message: failed.message }
      : keepFailureText(pod.status, phase)),
    conditions: conditions(o, phase, containers, statuses),
    ...(host.ips[0] ? { hostIP: host.ips[0], hostIPs: host.ips.map((ip) => ({ ip })) } : {}),
    ...(ips[0] ? { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) } : {}),
    startTime: pod.status?.startTime ?? formatTime(o.now),
    ...(init.length > 0 ? { initContainerStatuses: init } : {}),
    containerStatuses: (failed && isRefusal(o)) || neverBegan(o, phase) ? [] : main,
    ...(ephemeral.length > 0 ? { ephemeralContainerStatuses: ephemeral } : {}),
    ...podResources(pod),
    qosClass: pod.status?.qosClass ?? qosClass(pod),
  };
}

/**
 * In a pod that is over nothing waits any more. A main container that never ran because init
 * containers did not come to their end keeps its state; every other one counts as lost.
 */
function settle(
  { kind, spec }: PodContainer,
  containers: readonly PodContainer[],
  statuses: Map<string, ContainerStatus | undefined>,
): void {
  const status = statuses.get(spec.name);
  if (kind !== 'main' || !status?.state?.waiting) return;
  const initialized = containers
    .filter((c) => c.kind === 'init')
    .every((c) => initDone(c, statuses.get(c.spec.name)));
  if (!initialized) return;
  const ended = status.lastState?.terminated ?? { ...UNLOCATED };
  statuses.set(spec.name, { ...status, state: { terminated: ended } });
}

/** What a pod as a whole has been given, where it asks as a whole. */
function podResources({ spec }: Pod): Pick<PodStatus, 'resources' | 'allocatedResources'> {
  const { resources } = spec;
  if (!resources) return {};
  const { requests } = resources;
  return { resources, ...(requests ? { allocatedResources: requests } : {}) };
}

/** Refused by the node before anything of it existed. */
const isRefusal = (o: PodObservation): boolean =>
  o.runtime.sandboxes.length === 0 && o.runtime.containers.length === 0;

/** Also of one that an earlier agent has refused: it said nothing of containers. */
const neverBegan = (o: PodObservation, phase: Phase): boolean =>
  phase === 'Failed' && isRefusal(o) && !o.pod.status?.containerStatuses?.length;

function keepFailureText(
  status: Pod['status'],
  phase: Phase,
): Pick<PodStatus, 'reason' | 'message'> {
  if (phase !== 'Failed' || !status) return {};
  return {
    ...(status.reason ? { reason: status.reason } : {}),
    ...(status.message ? { message: status.message } : {}),
  };
}

function podIps(o: PodObservation, host: HostFacts): readonly string[] {
  if (o.pod.spec.hostNetwork) return o.runtime.sandboxes.length > 0 ? host.ips : [];
  const ips = o.runtime.sandboxes[0]?.ips ?? [];
  // A stopped sandbox has given its address back, but the object keeps the last one it had.
  return ips.length > 0 ? ips : (o.pod.status?.podIPs ?? []).map((entry) => entry.ip);
}

// ---- phase --------------------------------------------------------------------------------------

type Statuses = ReadonlyMap<string, ContainerStatus | undefined>;

function phaseOf(
  o: PodObservation,
  stop: Stop | undefined,
  containers: readonly PodContainer[],
  statuses: Statuses,
): Phase {
  const reported = o.pod.status?.phase;
  // The end is final: nothing that happens to the leftovers takes it back.
  if (reported === 'Failed' || reported === 'Succeeded') return reported;
  if (stop?.cause === 'failed') return 'Failed';
  const allEnded = o.runtime.containers.every((c) => c.state !== 'running');
  const ended = stop !== undefined && allEnded;

  const init = containers.filter((c) => c.kind === 'init' || c.kind === 'sidecar');
  const main = tally(containers, statuses);
  const begun = main.running + main.stopped > 0;
  const outdated = outdatedIn(o);
  const initFailed = init.some((c) => {
    const code = exitCode(statuses.get(c.spec.name));
    if (c.kind !== 'init' || code === 0) return false;
    return !restarts(o.pod, c, code) && !outdated(latest(o.runtime, c.spec.name));
  });
  if (initFailed) return 'Failed';
  const initPending = !begun && init.some((c) => !initDone(c, statuses.get(c.spec.name)));
  if (initPending) return ended ? 'Failed' : 'Pending';
  if (main.waiting > 0 && !ended) return 'Pending';
  if (main.running > 0) return 'Running';
  if (main.stopped > 0) {
    if (ended)
      return main.stopped === main.succeeded && main.waiting === 0 ? 'Succeeded' : 'Failed';
    return 'Running'; // all have ended, some will run again
  }
  return ended && stop?.cause !== 'finished' ? 'Failed' : 'Pending';
}

function tally(
  containers: readonly PodContainer[],
  statuses: Statuses,
): { running: number; stopped: number; succeeded: number; waiting: number } {
  const count = { running: 0, stopped: 0, succeeded: 0, waiting: 0 };
  for (const { kind, spec } of containers) {
    if (kind !== 'main') continue;
    const status = statuses.get(spec.name);
    if (status?.state?.running) count.running++;
    else if (status?.state?.terminated) {
      count.stopped++;
      if (status.state.terminated.exitCode === 0) count.succeeded++;
    } else if (status?.lastState?.terminated) count.stopped++;
    else count.waiting++;
  }
  return count;
}

const exitCode = (status: ContainerStatus | undefined): number =>
  status?.state?.terminated?.exitCode ?? 0;

function initDone({ kind }: PodContainer, status: ContainerStatus | undefined): boolean {
  if (kind === 'sidecar') return status?.started === true;
  return status?.state?.terminated?.exitCode === 0;
}

// ---- conditions ---------------------------------------------------------------------------------

type Verdict = { status: 'True' | 'False'; reason?: string; message?: string };

const yes: Verdict = { status: 'True' };

function conditions(
  o: PodObservation,
  phase: Phase,
  containers: readonly PodContainer[],
  statuses: Statuses,
): PodCondition[] {
  const ready = containersReady(phase, containers, statuses);
  const verdicts: [string, Verdict][] = [
    ['PodReadyToStartContainers', sandboxReady(o)],
    ['Initialized', initialized(phase, containers, statuses)],
    ['Ready', podReady(o, ready)],
    ['ContainersReady', ready],
    ['PodScheduled', yes],
  ];
  const { pending, failure } = o.resize ?? {};
  if (pending) verdicts.push(['PodResizePending', { status: 'True', ...pending }]);
  if (phase === 'Running' && unsizedContainers(o).length > 0) {
    const why = failure ? { reason: 'Error', message: failure.message } : {};
    verdicts.push(['PodResizeInProgress', { status: 'True', ...why }]);
  }
  if (mayRestartAll(o.pod)) {
    const restarting = outdatedRunning(o).length > 0 && phase === 'Running';
    verdicts.push(['AllContainersRestarting', { status: restarting ? 'True' : 'False' }]);
  }
  const order = o.order;
  const disrupted = order?.cause === 'failed' && !isRefusal(o) && disruption(order);
  if (disrupted) {
    const why = { reason: TERMINATION_BY_NODE, message: disrupted };
    verdicts.push(['DisruptionTarget', { status: 'True', ...why }]);
  }
  return verdicts.map(([type, verdict]) => condition(o, type, verdict));
}

/** What the node itself says of a pod that it ends for others' sake. */
function disruption({ reason, message }: { reason: string; message: string }): string | undefined {
  if (reason === PREEMPTING) return 'Pod was preempted by Kubelet to accommodate a critical pod.';
  return reason === 'Evicted' || reason === TERMINATED ? message : undefined;
}

/** Keeps the transition time of a condition whose status did not change. */
function condition(o: PodObservation, type: string, verdict: Verdict): PodCondition {
  const before = o.pod.status?.conditions?.find((c) => c.type === type);
  const generation = o.pod.metadata.generation;
  return {
    type,
    status: verdict.status,
    lastTransitionTime:
      before?.status === verdict.status && before.lastTransitionTime
        ? before.lastTransitionTime
        : formatTime(o.now),
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    ...(verdict.reason ? { reason: verdict.reason } : {}),
    ...(verdict.message ? { message: verdict.message } : {}),
  };
}

function sandboxReady(o: PodObservation): Verdict {
  const sandbox = liveSandbox(o.runtime);
  return sandbox && (sandbox.ips.length > 0 || o.pod.spec.hostNetwork) && !o.released
    ? yes
    : { status: 'False' };
}

function initialized(
  phase: Phase,
  containers: readonly PodContainer[],
  statuses: Statuses,
): Verdict {
  const init = containers.filter((c) => c.kind === 'init' || c.kind === 'sidecar');
  if (phase === 'Succeeded') return { status: 'True', reason: 'PodCompleted' };
  const begun = containers.some((c) => c.kind === 'main' && statuses.get(c.spec.name)?.containerID);
  const missing = begun
    ? []
    : init.filter((c) => !initDone(c, statuses.get(c.spec.name))).map((c) => c.spec.name);
  if (missing.length === 0) return yes;
  return {
    status: 'False',
    reason: 'ContainersNotInitialized',
    message: `containers with incomplete status: [${missing.join(' ')}]`,
  };
}

function containersReady(
  phase: Phase,
  containers: readonly PodContainer[],
  statuses: Statuses,
): Verdict {
  if (phase === 'Succeeded') return { status: 'False', reason: 'PodCompleted' };
  if (phase === 'Failed') return { status: 'False', reason: 'PodFailed' };
  const unready = containers
    .filter((c) => c.kind === 'main' || c.kind === 'sidecar')
    .filter((c) => !statuses.get(c.spec.name)?.ready)
    .map((c) => c.spec.name);
  if (unready.length === 0) return yes;
  return {
    status: 'False',
    reason: 'ContainersNotReady',
    message: `containers with unready status: [${unready.join(' ')}]`,
  };
}

function podReady(o: PodObservation, ready: Verdict): Verdict {
  if (ready.status !== 'True') return ready;
  const missing = (o.pod.spec.readinessGates ?? [])
    .map((gate) => gate.conditionType)
    .filter((type) => o.pod.status?.conditions?.find((c) => c.type === type)?.status !== 'True');
  if (missing.length === 0) return yes;
  const texts = missing.map((type) =>
    o.pod.status?.conditions?.some((c) => c.type === type)
      ? `the status of pod readiness gate "${type}" is not "True", but False`
      : `corresponding condition of pod readiness gate "${type}" does not exist.`,
  );
  return { status: 'False', reason: 'ReadinessGatesNotReady', message: texts.join(', ') };
}
