import { formatTime } from '#api/time.ts';
import type { ContainerStatus, Pod } from '#api/types.ts';
import {
  type ContainerRecord,
  latest,
  liveSandbox,
  LOST_EXIT_CODE,
  nextAttempt,
  type PodContainer,
  type PodObservation,
  reportedStatus,
  restartAtMs,
  restarts,
} from '#node-agent/pods/pod-observation.ts';
import { mainBegun } from '#node-agent/pods/pod-outcome.ts';
import { outdatedIn } from '#node-agent/pods/restart-all.ts';
import { unsizedContainers } from '#node-agent/pods/pod-resize.ts';
import type { RuntimeFeatures, RuntimeVersion } from '#node-agent/runtime/service.ts';

/** What a node knows of itself, for its pods' status. */
export type HostFacts = {
  ips: readonly string[];
  /** The runtime of a pod as it names itself, and what it honours. */
  runtimeOf: (pod: Pod) => Pick<RuntimeVersion, 'name' | 'features'>;
};

type State = NonNullable<ContainerStatus['state']>;
type Waiting = { reason: string; message?: string };

/** One container's status: its newest attempt, what it waits for, and how the attempt before ended. */
export function containerStatus(
  o: PodObservation,
  container: PodContainer,
  host: HostFacts,
  stopping: boolean,
): ContainerStatus {
  const { spec } = container;
  const record = latest(o.runtime, spec.name);
  const before = o.runtime.containers.filter((c) => c.name === spec.name)[1];
  const reported = reportedStatus(o.pod, spec.name);
  const runtime = host.runtimeOf(o.pod);
  const id = (r: ContainerRecord): string => `${runtime.name}://${r.id}`;
  if (!record || record.state === 'created') {
    if (!record && reported?.containerID) return lost(o, container, reported, stopping);
    return {
      name: spec.name,
      image: spec.image ?? '',
      imageID: '',
      ready: false,
      started: false,
      restartCount: record?.attempt ?? 0,
      state: { waiting: waitingFor(o, container) },
      lastState: before ? { terminated: terminated(before, id(before)) } : {},
    };
  }
  const running = record.state === 'running';
  const verdict = o.probes.get(record.id);
  const started = running && (verdict?.started ?? false) && !hookRuns(o, record);
  const willRestart =
    record.state === 'exited' &&
    !stopping &&
    (restarts(o.pod, container, record.exitCode) || outdatedIn(o)(record));
  const waiting = willRestart ? restartWait(o, container, record) : undefined;
  const state: State = running
    ? runningState(o, record)
    : waiting
      ? { waiting }
      : { terminated: terminated(record, id(record)) };
  const last = waiting ? record : before;
  return {
    name: spec.name,
    image: spec.image ?? '',
    imageID: record.imageRef,
    containerID: id(record),
    ready: isReady(container, record, started && (verdict?.ready ?? false)),
    started,
    restartCount: record.attempt,
    state,
    lastState: last ? { terminated: terminated(last, id(last)) } : {},
    ...shownResources(o, container, running),
    ...(spec.resources?.requests && running ? { allocatedResources: spec.resources.requests } : {}),
    ...(spec.lifecycle?.stopSignal ? { stopSignal: spec.lifecycle.stopSignal } : {}),
    ...(record.user ? { user: { linux: record.user } } : {}),
    ...volumeMounts(container, runtime.features),
  };
}

/** While a resize is on its way, the resources that still hold. */
function shownResources(
  o: PodObservation,
  { spec }: PodContainer,
  running: boolean,
): Pick<ContainerStatus, 'resources'> {
  if (!running) return {};
  const unsized = unsizedContainers(o).some(({ container }) => container.spec.name === spec.name);
  const reported = unsized ? reportedStatus(o.pod, spec.name)?.resources : undefined;
  const resources = reported ?? spec.resources;
  return resources ? { resources } : {};
}

function volumeMounts(
  { spec }: PodContainer,
  { recursiveReadOnlyMounts }: RuntimeFeatures,
): Pick<ContainerStatus, 'volumeMounts'> {
  if (!spec.volumeMounts?.length) return {};
  return {
    volumeMounts: spec.volumeMounts.map((m) => ({
      name: m.name,
      mountPath: m.mountPath,
      ...(m.readOnly
        ? {
            readOnly: true,
            recursiveReadOnly:
              recursiveReadOnlyMounts && /^(Enabled|IfPossible)$/.test(m.recursiveReadOnly ?? '')
                ? 'Enabled'
                : 'Disabled',
          }
        : {}),
    })),
  };
}

const hookRuns = (o: PodObservation, record: ContainerRecord): boolean =>
  o.hooks.get(record.id)?.state === 'running';

/** An init container is ready once it is done; the rest by their probes. */
function isReady(container: PodContainer, record: ContainerRecord, probed: boolean): boolean {
  if (container.kind === 'init') return record.state === 'exited' && record.exitCode === 0;
  if (container.kind === 'ephemeral') return false;
  return probed;
}

function runningState(o: PodObservation, record: ContainerRecord): State {
  if (hookRuns(o, record)) return { waiting: { reason: 'ContainerCreating' } };
  return { running: { startedAt: formatTime(record.startedAtMs) } };
}

function terminated(
  record: ContainerRecord,
  containerID: string,
): NonNullable<State['terminated']> {
  // A killed child marks the whole container OOMKilled; its own end in order is no such thing.
  const reason =
    record.reason === 'OOMKilled' && record.exitCode === 0
      ? 'Completed'
      : record.reason || (record.exitCode === 0 ? 'Completed' : 'Error');
  return {
    exitCode: record.exitCode,
    reason,
    ...(record.message ? { message: record.message } : {}),
    startedAt: record.startedAtMs > 0 ? formatTime(record.startedAtMs) : EPOCH,
    finishedAt: record.finishedAtMs > 0 ? formatTime(record.finishedAtMs) : EPOCH,
    containerID,
  };
}

const EPOCH = '1970-01-01T00:00:00Z';

/** How a container ended of which nobody knows. */
export const UNLOCATED = {
  exitCode: LOST_EXIT_CODE,
  reason: 'ContainerStatusUnknown',
  message: 'The container could not be located when the pod was terminated',
  startedAt: EPOCH,
  finishedAt: EPOCH,
};

/** A container that ended and will run again: why it does not yet. */
function restartWait(
  o: PodObservation,
  container: PodContainer,
  record: ContainerRecord,
): Waiting | undefined {
  const failure = o.startFailures.get(container.spec.name);
  if (failure) return { reason: failure.reason, message: failure.message };
  const image = imageWait(o, container);
  if (image) return image;
  if (o.now >= restartAtMs(record) || record.restartDelayMs === 0) return undefined;
  const seconds = record.restartDelayMs / 1000;
  const delay = seconds >= 60 ? `${Math.floor(seconds / 60)}m${seconds % 60}s` : `${seconds}s`;
  const { namespace = '', name = '', uid = '' } = o.pod.metadata;
  return {
    reason: 'CrashLoopBackOff',
    message:
      `back-off ${delay} restarting failed container=${container.spec.name} ` +
      `pod=${name}_${namespace}(${uid})`,
  };
}

/** A container that has not run yet. */
function waitingFor(o: PodObservation, container: PodContainer): Waiting {
  const failure = o.startFailures.get(container.spec.name);
  if (failure) return { reason: failure.reason, message: failure.message };
  const image = imageWait(o, container);
  if (image) return image;
  const sandbox = liveSandbox(o.runtime);
  const hasInit = (o.pod.spec.initContainers ?? []).length > 0;
  const initializing = hasInit && !(sandbox && mainBegun(o, sandbox.id));
  return { reason: initializing ? 'PodInitializing' : 'ContainerCreating' };
}

function imageWait(o: PodObservation, { spec }: PodContainer): Waiting | undefined {
  const image = o.images.get(spec.name);
  if (image?.state !== 'failed' || image.attempt !== nextAttempt(o, spec.name)) return undefined;
  return { reason: image.reason, message: image.message };
}

/** Reported as started earlier, but the runtime has forgotten it. */
function lost(
  o: PodObservation,
  container: PodContainer,
  reported: ContainerStatus,
  stopping: boolean,
): ContainerStatus {
  const ended = reported.state?.terminated ?? UNLOCATED;
  const again = !stopping && restarts(o.pod, container, ended.exitCode);
  return {
    ...reported,
    ready: container.kind === 'init' && ended.exitCode === 0,
    started: false,
    state: again ? { waiting: waitingFor(o, container) } : { terminated: ended },
    lastState: again ? { terminated: ended } : (reported.lastState ?? {}),
  };
}
