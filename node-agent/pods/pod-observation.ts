import type { Container, ContainerStatus, Pod } from '#api/types.ts';
import type { ContainerLimits } from '#node-agent/containers/container-resources.ts';

/**
 * Everything the agent knows about one pod at one moment: what pod-plan.ts decides from and
 * pod-status.ts reports. All of it is read from the API and the runtime, or can be lost without harm
 * (an agent that starts anew comes to the same decisions). Times are milliseconds since the epoch.
 */
export type PodObservation = {
  pod: Pod;
  runtime: PodRuntimeState;
  now: number;
  /** Why the pod has to end, when that is known from outside its containers. */
  order?: StopOrder | undefined;
  volumes: Readiness;
  /** Failure of the last try to make a sandbox. */
  sandbox: Readiness;
  /** By container name; entries of an earlier attempt count as unknown. */
  images: ReadonlyMap<string, ImageProgress>;
  /** By container name: why its last create or start could not be done. */
  startFailures: ReadonlyMap<string, Failure>;
  /** By container id: its postStart hook. */
  hooks: ReadonlyMap<string, HookState>;
  /** By container id: it was told to stop by then. */
  killing: ReadonlyMap<string, { deadlineMs: number }>;
  /** By container id. */
  probes: ReadonlyMap<string, ProbeVerdict>;
  /** Sandboxes that this agent has stopped cleanly (network torn down). */
  stoppedSandboxes: ReadonlySet<string>;
  /** Volumes unmounted and cgroups removed after the end. */
  released: boolean;
  /** `pod` has the resources that were granted; here is how far a wish for others has come. */
  resize?: ResizeState | undefined;
};

export type ResizeState = {
  /** Why the wish has not been granted yet. */
  pending?: { reason: 'Deferred' | 'Infeasible'; message: string } | undefined;
  /** By container id: limits that the runtime has taken since the agent started. */
  sent: ReadonlyMap<string, ContainerLimits>;
  failure?: { message: string; retryAtMs: number } | undefined;
};

/** Newest first, by attempt. */
export type PodRuntimeState = {
  sandboxes: readonly SandboxRecord[];
  containers: readonly ContainerRecord[];
};

export type SandboxRecord = {
  id: string;
  attempt: number;
  ready: boolean;
  createdAtMs: number;
  /** First is the primary address; empty on the host's network. */
  ips: readonly string[];
};

export type ContainerRecord = {
  id: string;
  name: string;
  attempt: number;
  sandboxId: string;
  state: 'created' | 'running' | 'exited' | 'unknown';
  createdAtMs: number;
  startedAtMs: number;
  finishedAtMs: number;
  exitCode: number;
  reason: string;
  message: string;
  imageRef: string;
  /** `specHash` of the container it was made from. */
  hash: string;
  /** Crash back-off to respect after this attempt ends. */
  restartDelayMs: number;
  logPath: string;
  /** False when running out of memory cannot have ended it. */
  memoryLimited?: boolean;
  /** Absent where the runtime does not tell. */
  limits?: ContainerLimits | undefined;
  user?: { uid: number; gid: number; supplementalGroups: number[] } | undefined;
};

export type Failure = { reason: string; message: string; retryAtMs: number };
export type Readiness = { state: 'absent' } | { state: 'ready' } | ({ state: 'failed' } & Failure);

export type ImageProgress = { attempt: number } & (
  | { state: 'pulling' }
  | { state: 'ready'; ref: string }
  | ({ state: 'failed' } & Failure)
);

export type HookState =
  | { state: 'running' }
  | { state: 'done' }
  | { state: 'failed'; message: string };

export type ProbeVerdict = {
  /** Startup probe passed, or there is none. */
  started: boolean;
  ready: boolean;
  /** The probe that asks for a restart, with what to tell the user. */
  failed?: 'liveness' | 'startup' | undefined;
};

/** Someone decided that the pod ends. */
export type StopOrder =
  /** The object is marked deleted: end, report, then delete the object. */
  | { cause: 'deleted'; sinceMs: number; graceSeconds: number }
  /** The object is gone: end and leave nothing. */
  | { cause: 'removed'; sinceMs: number; graceSeconds: number }
  /** The node refuses or evicts it. */
  | { cause: 'failed'; sinceMs: number; graceSeconds: number; reason: string; message: string };

/** Why a pod has to end, from any side. */
export type Stop =
  | StopOrder
  /** Nothing is left to run. */
  | { cause: 'finished'; sinceMs: number; graceSeconds: number };

export type ContainerKind = 'init' | 'sidecar' | 'main' | 'ephemeral';
export type PodContainer = { kind: ContainerKind; spec: Container };

/** Crash back-off: at once, then 10 s doubling to 5 min; forgotten after 10 min of running. */
export const CRASH_BACKOFF = { initialMs: 10_000, maxMs: 300_000, resetAfterMs: 600_000 };
export const DEFAULT_GRACE_SECONDS = 30;
/** Exit code of a container whose end nobody saw. */
export const LOST_EXIT_CODE = 137;
export const DEADLINE_EXCEEDED = 'DeadlineExceeded';

export const isSidecar = (container: Container): boolean => container.restartPolicy === 'Always';

/** All containers of a pod: init and sidecars in their order, then main, then ephemeral ones. */
export function podContainers({ spec }: Pod): PodContainer[] {
  return [
    ...(spec.initContainers ?? []).map(
      (c): PodContainer => ({ kind: isSidecar(c) ? 'sidecar' : 'init', spec: c }),
    ),
    ...spec.containers.map((c): PodContainer => ({ kind: 'main', spec: c })),
    ...(spec.ephemeralContainers ?? []).map(
      (c): PodContainer => ({ kind: 'ephemeral', spec: c as Container }),
    ),
  ];
}

/** The latest attempt of a container, in one sandbox or in any. */
export function latest(
  { containers }: PodRuntimeState,
  name: string,
  sandboxId?: string,
): ContainerRecord | undefined {
  return containers.find(
    (c) => c.name === name && (sandboxId === undefined || c.sandboxId === sandboxId),
  );
}

export const graceOf = ({ spec }: Pod): number =>
  spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;

/** The first rule that an exit meets; each asks for a restart of some kind. */
export const restartRule = ({ restartPolicyRules = [] }: Container, exitCode: number) =>
  restartPolicyRules.find(({ exitCodes }) => {
    if (!exitCodes) return false;
    const listed = (exitCodes.values ?? []).includes(exitCode);
    return exitCodes.operator === 'In' ? listed : !listed;
  });

/** Whether a container that ended with `exitCode` runs again, by its own or the pod's policy. */
export function restarts(pod: Pod, { kind, spec }: PodContainer, exitCode: number): boolean {
  if (kind === 'sidecar') return true;
  if (kind === 'ephemeral') return false;
  if (restartRule(spec, exitCode)) return true;
  const policy = spec.restartPolicy ?? pod.spec.restartPolicy ?? 'Always';
  if (kind === 'init' && policy === 'Always') return exitCode !== 0;
  return policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
}

/** The sandbox containers run in now, if it lives. */
export function liveSandbox({ sandboxes }: PodRuntimeState): SandboxRecord | undefined {
  const newest = sandboxes[0];
  return newest?.ready ? newest : undefined;
}

/** A container's status as the API has it. */
export function reportedStatus({ status }: Pod, name: string): ContainerStatus | undefined {
  return [
    ...(status?.containerStatuses ?? []),
    ...(status?.initContainerStatuses ?? []),
    ...(status?.ephemeralContainerStatuses ?? []),
  ].find((s) => s.name === name);
}

/** When activeDeadlineSeconds runs out, once the agent has acknowledged the pod. */
export function activeDeadlineMs({ spec, status }: Pod): number | undefined {
  if (spec.activeDeadlineSeconds === undefined || !status?.startTime) return undefined;
  return Date.parse(status.startTime) + spec.activeDeadlineSeconds * 1000;
}

/** When a container may start again after the end of `last`. */
export function restartAtMs(last: ContainerRecord): number {
  return last.finishedAtMs + (ranLong(last) ? 0 : last.restartDelayMs);
}

/** The delay to respect after the next attempt: what the attempt after `last` is labelled with. */
export function nextRestartDelayMs(last: ContainerRecord | undefined): number {
  if (!last) return 0;
  if (ranLong(last) || last.restartDelayMs === 0) return CRASH_BACKOFF.initialMs;
  return Math.min(CRASH_BACKOFF.maxMs, last.restartDelayMs * 2);
}

const ranLong = (record: ContainerRecord): boolean =>
  record.startedAtMs > 0 && record.finishedAtMs - record.startedAtMs >= CRASH_BACKOFF.resetAfterMs;

/** Number of the next attempt; goes on from the reported count when the runtime forgot the last. */
export function nextAttempt(o: PodObservation, name: string): number {
  const last = latest(o.runtime, name);
  if (last) return last.attempt + 1;
  const reported = reportedStatus(o.pod, name);
  return reported?.containerID ? reported.restartCount + 1 : 0;
}

/**
 * Identity of what a container runs. Of all that may change in a living pod only the image asks for
 * a restart (resources are resized in place).
 */
export const specHash = ({ name, image }: Container): string => {
  let hash = 0x811c9dc5;
  for (const char of `${name}\n${image ?? ''}`) {
    hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  }
  return hash.toString(16);
};
