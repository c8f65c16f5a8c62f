import { isDeepStrictEqual } from 'node:util';
import { containerLimits } from '#node-agent/containers/container-resources.ts';
import {
  activeDeadlineMs,
  type ContainerKind,
  type ContainerRecord,
  graceOf,
  latest,
  liveSandbox,
  nextAttempt,
  nextRestartDelayMs,
  type PodContainer,
  type PodObservation,
  podContainers,
  reportedStatus,
  restartAtMs,
  restarts,
  type SandboxRecord,
  specHash,
  type Stop,
} from '#node-agent/pods/pod-observation.ts';
import { mainBegun, stopOf } from '#node-agent/pods/pod-outcome.ts';
import { outdatedIn, outdatedRunning } from '#node-agent/pods/restart-all.ts';
import { type UnsizedContainer, unsizedContainers } from '#node-agent/pods/pod-resize.ts';

/** Why a container is told to stop; each has its own words in the Killing event. */
export type KillReason =
  | 'stopping'
  | 'liveness'
  | 'startup'
  | 'changed'
  | 'postStart'
  | 'resized'
  | 'restart-all'
  | 'sandbox-gone';

/** One thing to do. The worker does all steps of a plan side by side, then plans again. */
export type PodStep =
  | { step: 'mount-volumes' }
  | { step: 'create-sandbox'; attempt: number }
  | { step: 'pull-image'; container: PodContainer; attempt: number }
  | {
      step: 'start-container';
      container: PodContainer;
      attempt: number;
      sandboxId: string;
      /** Crash back-off that holds after this attempt. */
      restartDelayMs: number;
    }
  | {
      step: 'kill-container';
      record: ContainerRecord;
      kind: ContainerKind | 'unknown';
      /** When SIGKILL is due. */
      deadlineMs: number;
      reason: KillReason;
    }
  | { step: 'resize'; containers: readonly UnsizedContainer[] }
  | { step: 'remove-container'; id: string; name: string }
  | { step: 'stop-sandbox'; id: string }
  | { step: 'remove-sandbox'; id: string }
  | { step: 'release' }
  | { step: 'delete-object' }
  | { step: 'forget' };

export type PodPlan = {
  steps: PodStep[];
  /** The plan may differ from then on, without any event. */
  wakeAtMs?: number;
};

/** Attempts kept per container: the one that counts and the one before, for `logs --previous`. */
const KEPT_ATTEMPTS = 2;
/** Sidecars outlive the main containers; they get at least this long to end. */
const MIN_SIDECAR_GRACE_MS = 2_000;

/**
 * What to do for a pod now. Pure: the same observation gives the same plan, and doing nothing gives
 * the same plan again, so that an agent cut off anywhere goes on where it was.
 */
export function podPlan(o: PodObservation): PodPlan {
  const stop = stopOf(o);
  return stop ? stopPlan(o, stop) : runPlan(o);
}

class Draft {
  readonly steps: PodStep[] = [];
  #wakeAtMs = Number.POSITIVE_INFINITY;
  add(...steps: PodStep[]): void {
    this.steps.push(...steps);
  }
  wakeAt(ms: number): void {
    this.#wakeAtMs = Math.min(this.#wakeAtMs, ms);
  }
  done(): PodPlan {
    return {
      steps: this.steps,
      ...(Number.isFinite(this.#wakeAtMs) ? { wakeAtMs: this.#wakeAtMs } : {}),
    };
  }
}

// ---- ending -------------------------------------------------------------------------------------

function stopPlan(o: PodObservation, stop: Stop): PodPlan {
  const draft = new Draft();
  const alive = o.runtime.containers.filter(mayRun);
  if (alive.length > 0) {
    killInOrder(o, stop, alive, draft);
    return draft.done();
  }
  const open = o.runtime.sandboxes.filter((s) => s.ready || !o.stoppedSandboxes.has(s.id));
  if (open.length > 0) {
    draft.add(...open.map((s): PodStep => ({ step: 'stop-sandbox', id: s.id })));
  } else if (!o.released) {
    draft.add({ step: 'release' });
  } else if (stop.cause === 'removed') {
    if (o.runtime.sandboxes.length > 0)
      draft.add(...o.runtime.sandboxes.map((s): PodStep => ({ step: 'remove-sandbox', id: s.id })));
    else draft.add({ step: 'forget' });
  } else if (stop.cause === 'deleted') {
    draft.add({ step: 'delete-object' });
  }
  return draft.done();
}

const mayRun = (record: ContainerRecord): boolean =>
  record.state === 'running' || record.state === 'unknown';

/** Main containers first, all at once; then sidecars in the reverse of their order. */
function killInOrder(
  o: PodObservation,
  stop: Stop,
  alive: readonly ContainerRecord[],
  draft: Draft,
): void {
  const deadlineMs = stop.sinceMs + stop.graceSeconds * 1000;
  const containers = podContainers(o.pod);
  const kindOf = (record: ContainerRecord): ContainerKind | 'unknown' =>
    containers.find((c) => c.spec.name === record.name)?.kind ?? 'unknown';
  const others = alive.filter((record) => kindOf(record) !== 'sidecar');
  for (const record of others)
    kill(o, draft, { record, kind: kindOf(record), deadlineMs, reason: 'stopping' });
  if (others.length > 0) return;
  const order = containers.filter((c) => c.kind === 'sidecar').map((c) => c.spec.name);
  const last = Math.max(...alive.map((record) => order.indexOf(record.name)));
  for (const record of alive.filter((r) => r.name === order[last])) {
    const atLeast = stop.graceSeconds > 0 ? o.now + MIN_SIDECAR_GRACE_MS : o.now;
    kill(o, draft, {
      record,
      kind: 'sidecar',
      deadlineMs: Math.max(deadlineMs, atLeast),
      reason: 'stopping',
    });
  }
}

type Kill = Omit<Extract<PodStep, { step: 'kill-container' }>, 'step'>;

/** Orders a kill unless one that is due as early is under way. */
function kill(o: PodObservation, draft: Draft, order: Kill): void {
  const current = o.killing.get(order.record.id);
  if (current && current.deadlineMs <= order.deadlineMs) return;
  draft.add({ step: 'kill-container', ...order });
}

// ---- running ------------------------------------------------------------------------------------

function runPlan(o: PodObservation): PodPlan {
  const draft = new Draft();
  const deadlineMs = activeDeadlineMs(o.pod);
  if (deadlineMs !== undefined) draft.wakeAt(deadlineMs);
  cleanUp(o, draft);

  const sandbox = liveSandbox(o.runtime);
  if (!sandbox) {
    newSandbox(o, draft);
    return draft.done();
  }
  if (o.volumes.state !== 'ready') {
    mountVolumes(o, draft);
    return draft.done();
  }
  const containers = podContainers(o.pod);
  const outdated = outdatedRunning(o);
  if (outdated.length > 0) {
    const killMs = o.now + graceOf(o.pod) * 1000;
    for (const { record, kind } of outdated)
      kill(o, draft, { record, kind, deadlineMs: killMs, reason: 'restart-all' });
    return draft.done();
  }
  for (const container of containers) restartOfRunning(o, sandbox, container, draft);
  resizeRunning(o, draft);
  if (initialize(o, sandbox, containers, draft)) {
    startInOrder(
      o,
      sandbox,
      containers.filter((c) => c.kind === 'main'),
      draft,
    );
    for (const container of containers.filter((c) => c.kind === 'ephemeral')) {
      const { name } = container.spec;
      // It runs once, also when its sandbox and all that is known of it is gone.
      const begun = latest(o.runtime, name) ?? reportedStatus(o.pod, name)?.containerID;
      if (!begun) startContainer(o, sandbox, container, draft);
    }
  }
  return draft.done();
}

/** Containers that never started, old attempts, and old sandboxes without containers. */
function cleanUp(o: PodObservation, draft: Draft): void {
  const seen = new Map<string, number>();
  for (const record of o.runtime.containers) {
    const newer = seen.get(record.name) ?? 0;
    seen.set(record.name, newer + 1);
    const old = newer >= KEPT_ATTEMPTS && record.state === 'exited';
    if (old || record.state === 'created' || record.state === 'unknown')
      draft.add({ step: 'remove-container', id: record.id, name: record.name });
  }
  for (const old of o.runtime.sandboxes.slice(1)) {
    if (o.runtime.containers.some((c) => c.sandboxId === old.id)) continue;
    draft.add({ step: 'remove-sandbox', id: old.id });
  }
}

/** No living sandbox: end what is left of the old one, then make the next (with its volumes). */
function newSandbox(o: PodObservation, draft: Draft): void {
  const old = o.runtime.sandboxes[0];
  const left = o.runtime.containers.filter(mayRun);
  for (const record of left) {
    kill(o, draft, {
      record,
      kind: 'unknown',
      deadlineMs: o.now + graceOf(o.pod) * 1000,
      reason: 'sandbox-gone',
    });
  }
  if (left.length > 0) return;
  if (old && !o.stoppedSandboxes.has(old.id)) {
    draft.add({ step: 'stop-sandbox', id: old.id });
    return;
  }
  if (o.sandbox.state === 'failed' && o.now < o.sandbox.retryAtMs)
    draft.wakeAt(o.sandbox.retryAtMs);
  else draft.add({ step: 'create-sandbox', attempt: old ? old.attempt + 1 : 0 });
  if (o.volumes.state !== 'ready') mountVolumes(o, draft);
  // Pulling takes longest: the images that come first are asked for at once.
  const containers = podContainers(o.pod);
  const first = containers.find((c) => c.kind === 'init' || c.kind === 'sidecar');
  const wanted = first ? [first] : containers.filter((c) => c.kind === 'main');
  for (const container of wanted) {
    const last = latest(o.runtime, container.spec.name);
    if (!last || restarts(o.pod, container, last.exitCode)) imageReady(o, container, draft);
  }
}

function mountVolumes(o: PodObservation, draft: Draft): void {
  if (o.volumes.state === 'failed' && o.now < o.volumes.retryAtMs)
    draft.wakeAt(o.volumes.retryAtMs);
  else draft.add({ step: 'mount-volumes' });
}

/** Kills a running container that failed a probe or a hook, or whose image was changed. */
function restartOfRunning(
  o: PodObservation,
  sandbox: SandboxRecord,
  { kind, spec }: PodContainer,
  draft: Draft,
): void {
  const record = latest(o.runtime, spec.name, sandbox.id);
  if (record?.state !== 'running') return;
  const verdict = o.probes.get(record.id)?.failed;
  const reason: KillReason | undefined =
    o.hooks.get(record.id)?.state === 'failed'
      ? 'postStart'
      : kind !== 'ephemeral' && record.hash !== specHash(spec)
        ? 'changed'
        : verdict;
  if (!reason) return;
  const probe =
    verdict === 'startup' ? spec.startupProbe : verdict ? spec.livenessProbe : undefined;
  const grace = probe?.terminationGracePeriodSeconds ?? graceOf(o.pod);
  kill(o, draft, { record, kind, deadlineMs: o.now + grace * 1000, reason });
}

/** Brings running containers to what they have been granted, by a restart where they ask for one. */
function resizeRunning(o: PodObservation, draft: Draft): void {
  const unsized = unsizedContainers(o);
  const inPlace = unsized.filter(({ restart }) => !restart);
  for (const { container, record, restart } of unsized) {
    if (!restart) continue;
    const deadlineMs = o.now + graceOf(o.pod) * 1000;
    kill(o, draft, { record, kind: container.kind, deadlineMs, reason: 'resized' });
  }
  if (inPlace.length === 0) return;
  const failure = o.resize?.failure;
  if (failure && o.now < failure.retryAtMs) draft.wakeAt(failure.retryAtMs);
  else draft.add({ step: 'resize', containers: inPlace });
}

/**
 * Init containers one after another, each sidecar once it has started. True when the main containers
 * may run. After main containers have begun only sidecars are looked after.
 */
function initialize(
  o: PodObservation,
  sandbox: SandboxRecord,
  containers: readonly PodContainer[],
  draft: Draft,
): boolean {
  const begun = mainBegun(o, sandbox.id);
  const outdated = outdatedIn(o);
  for (const container of containers) {
    if (container.kind !== 'init' && container.kind !== 'sidecar') continue;
    if (begun && container.kind === 'init') continue;
    const record = latest(o.runtime, container.spec.name, sandbox.id);
    const done = record?.state === 'exited' && record.exitCode === 0 && !outdated(record);
    if (done && container.kind === 'init') continue;
    if (record?.state !== 'running') startContainer(o, sandbox, container, draft);
    if (begun) continue;
    if (container.kind === 'sidecar' && record?.state === 'running' && isUp(o, record)) continue;
    return false;
  }
  return true;
}

/** Started in the sense that what depends on it may go on: hook done and startup probe passed. */
function isUp(o: PodObservation, record: ContainerRecord): boolean {
  if (o.hooks.get(record.id)?.state === 'running') return false;
  return o.probes.get(record.id)?.started ?? false;
}

/** Main containers in their order; a postStart hook that still runs holds back those behind it. */
function startInOrder(
  o: PodObservation,
  sandbox: SandboxRecord,
  containers: readonly PodContainer[],
  draft: Draft,
): void {
  for (const container of containers) {
    const record = latest(o.runtime, container.spec.name, sandbox.id);
    if (record?.state === 'running') {
      if (o.hooks.get(record.id)?.state === 'running') return;
      continue;
    }
    if (startContainer(o, sandbox, container, draft)) return;
  }
}

/** Resized since: the next attempt is not the one that failed, so no back-off holds. */
const resizedSince = (last: ContainerRecord, { spec }: PodContainer): boolean =>
  last.limits !== undefined && !isDeepStrictEqual(last.limits, containerLimits(spec));

/** Adds the next step towards a running container; true when that is the start itself. */
function startContainer(
  o: PodObservation,
  sandbox: SandboxRecord,
  container: PodContainer,
  draft: Draft,
): boolean {
  const { name } = container.spec;
  const last = latest(o.runtime, name);
  if (last && last.state !== 'exited') return false; // being cleaned up or killed
  const changed = last !== undefined && last.hash !== specHash(container.spec);
  if (last) {
    const inSandbox = last.sandboxId === sandbox.id;
    const rerunsInit = container.kind === 'init' && !inSandbox;
    const again = rerunsInit || changed || outdatedIn(o)(last);
    if (!again && !restarts(o.pod, container, last.exitCode)) return false;
    const allowedAtMs = restartAtMs(last);
    const other = changed || resizedSince(last, container);
    if (!other && inSandbox && o.now < allowedAtMs) {
      draft.wakeAt(allowedAtMs);
      return false;
    }
  }
  if (!imageReady(o, container, draft)) return false;
  const failure = o.startFailures.get(name);
  if (failure && o.now < failure.retryAtMs) {
    draft.wakeAt(failure.retryAtMs);
    return false;
  }
  draft.add({
    step: 'start-container',
    container,
    attempt: nextAttempt(o, name),
    sandboxId: sandbox.id,
    restartDelayMs: changed ? 0 : nextRestartDelayMs(last),
  });
  return true;
}

/** True when the image of the container's next attempt is there; else asks for it. */
function imageReady(o: PodObservation, container: PodContainer, draft: Draft): boolean {
  const attempt = nextAttempt(o, container.spec.name);
  const progress = o.images.get(container.spec.name);
  if (progress?.attempt === attempt) {
    if (progress.state === 'ready') return true;
    if (progress.state === 'pulling') return false;
    if (o.now < progress.retryAtMs) {
      draft.wakeAt(progress.retryAtMs);
      return false;
    }
  }
  draft.add({ step: 'pull-image', container, attempt });
  return false;
}
