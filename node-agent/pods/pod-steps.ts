import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { backoffMs } from '#base/backoff.ts';
import { errorText } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import type { EventNote } from '#client/events.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { containerConfig } from '#node-agent/containers/container-config.ts';
import {
  type ContainerLimits,
  type PodLimits,
  hostLimits,
} from '#node-agent/containers/container-resources.ts';
import type { DownwardSource } from '#node-agent/containers/downward-api.ts';
import { envVars } from '#node-agent/containers/env-vars.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import {
  hostsFile,
  hostsText,
  identityOf,
  podDir,
  type PodIdentity,
  podLogDir,
  terminationFile,
} from '#node-agent/pods/pod-files.ts';
import {
  type Failure,
  type HookState,
  type ImageProgress,
  latest,
  liveSandbox,
  type PodContainer,
  type Readiness,
  specHash,
} from '#node-agent/pods/pod-observation.ts';
import type { PodStep } from '#node-agent/pods/pod-plan.ts';
import {
  containerDevices,
  containerMounts,
  prepareVolumes,
  type ReadyVolume,
  releaseVolumes,
  subPathsDir,
} from '#node-agent/storage/pod-volumes.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import { type Image, isRuntimeError, type PodSandboxConfig } from '#node-agent/runtime/service.ts';
import { sandboxConfig } from '#node-agent/containers/sandbox-config.ts';
import { NotYetError } from '#node-agent/storage/volume-type.ts';

const SANDBOX_BACKOFF = { initialMs: 1_000, maxMs: 60_000 };
/** A pod that waits for the network is woken when it is there; this is the safety net. */
const NETWORK_RETRY_MS = 1_000;
const VOLUME_BACKOFF = { initialMs: 500, maxMs: 30_000 };
/** Waiting for others (binding, attaching) is told once it takes longer than usual: some 15 s. */
const QUIET_TRIES = 5;
const START_BACKOFF = { initialMs: 2_000, maxMs: 20_000 };
/** Removing a cgroup right after its last process ended can take the kernel a moment. */
const CGROUP_TRIES = 20;
/** Processes that the runtime has just killed are gone by then. */
const CGROUP_KILL_TRIES = 10;
const CGROUP_WAIT_MS = 50;

/** What a worker remembers of its pod between plans; all of it may be lost. */
export type PodMemory = {
  volumes: Readiness;
  readyVolumes: ReadonlyMap<string, ReadyVolume>;
  sandbox: Readiness;
  sandboxFailures: number;
  volumeFailures: number;
  images: Map<string, ImageProgress>;
  imageInfos: Map<string, Image>;
  /** By container name: when its image could not be pulled. */
  pullFailedAtMs: Map<string, number>;
  startFailures: Map<string, Failure & { count: number }>;
  hooks: Map<string, HookState>;
  stoppedSandboxes: Set<string>;
  released: boolean;
  /** By container id: limits given to it while it ran. */
  resized: Map<string, ContainerLimits>;
  podLimits: PodLimits | undefined;
  resizeFailure: { message: string; retryAtMs: number; count: number } | undefined;
  /** Names that the runtime holds for a sandbox nobody can see. */
  attemptOffset: number;
};

export const newMemory = (): PodMemory => ({
  volumes: { state: 'absent' },
  readyVolumes: new Map(),
  sandbox: { state: 'absent' },
  sandboxFailures: 0,
  volumeFailures: 0,
  images: new Map(),
  imageInfos: new Map(),
  pullFailedAtMs: new Map(),
  startFailures: new Map(),
  hooks: new Map(),
  stoppedSandboxes: new Set(),
  released: false,
  resized: new Map(),
  podLimits: undefined,
  resizeFailure: undefined,
  attemptOffset: 0,
});

/** One pod as its steps see it. */
export type StepContext = {
  pod: Pod;
  memory: PodMemory;
  services: NodeServices;
  signal: AbortSignal;
  wake: () => void;
};

type Step<Name extends PodStep['step']> = Extract<PodStep, { step: Name }>;

const warn = (ctx: StepContext, reason: string, message: string, container?: string): void =>
  tell(ctx, { type: 'Warning', reason, message }, container);

export function tell(
  { pod, services }: Pick<StepContext, 'pod' | 'services'>,
  note: EventNote,
  container?: string,
): void {
  services.events.record(pod, {
    ...note,
    ...(container ? { fieldPath: `spec.containers{${container}}` } : {}),
  });
}

export function downwardOf({
  pod,
  services,
}: Pick<StepContext, 'pod' | 'services'>): DownwardSource {
  const { runtimes, host, nodeName, allocatable } = services;
  const sandbox = liveSandbox(runtimes.get(pod.metadata.uid ?? ''));
  return {
    pod,
    podIps: pod.spec.hostNetwork ? host.ips : (sandbox?.ips ?? []),
    hostIps: host.ips,
    nodeName,
    allocatable,
  };
}

// ---- volumes and sandbox ------------------------------------------------------------------------

export async function mountVolumes(ctx: StepContext): Promise<void> {
  const { pod, memory, services } = ctx;
  services.volumes.follow(pod);
  try {
    memory.readyVolumes = await prepareVolumes(pod, services.volumes, downwardOf(ctx));
    memory.volumes = { state: 'ready' };
    memory.volumeFailures = 0;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    memory.volumeFailures++;
    const retryAtMs = services.clock.now() + backoffMs(memory.volumeFailures, VOLUME_BACKOFF);
    memory.volumes = { state: 'failed', reason: 'FailedMount', message, retryAtMs };
    const isEarly = error instanceof NotYetError && memory.volumeFailures <= QUIET_TRIES;
    if (!isEarly) warn(ctx, 'FailedMount', message);
  }
}

export async function createSandbox(ctx: StepContext, step: Step<'create-sandbox'>): Promise<void> {
  const { pod, memory, services } = ctx;
  const { runtime, runtimes, cgroups, clock } = services;
  const identity = identityOf(pod);
  const problem = pod.spec.hostNetwork ? undefined : services.networkProblem();
  if (problem !== undefined) {
    const message = `network is not ready: ${problem}`;
    if (memory.sandbox.state !== 'failed') warn(ctx, 'NetworkNotReady', message);
    const retryAtMs = clock.now() + NETWORK_RETRY_MS;
    memory.sandbox = { state: 'failed', reason: 'NetworkNotReady', message, retryAtMs };
    return;
  }
  try {
    const config = sandboxConfig(pod, step.attempt + memory.attemptOffset, services);
    await mkdir(podDir(services.paths, identity.uid), { recursive: true, mode: 0o750 });
    const id = await services.sandboxSlots.run(async () => {
      memory.podLimits = hostLimits(pod, services);
      await cgroups?.create(identity.uid, qosClass(pod), memory.podLimits);
      return runtime.runPodSandbox(config, services.runtimeHandler(pod));
    });
    await runtimes.refreshSandbox(id, identity);
    await writeHosts(ctx);
    memory.sandbox = { state: 'ready' };
    memory.sandboxFailures = 0;
    memory.released = false;
  } catch (error) {
    const text = errorText(error);
    // A sandbox whose making was cut off keeps its name; if it is listed the next plan sees it.
    if (/is reserved for/.test(text)) {
      memory.attemptOffset++;
      await runtimes.relist();
    }
    const message = `Failed to create pod sandbox: ${text}`;
    if (!runtimeAway(error)) memory.sandboxFailures++;
    const retryAtMs = clock.now() + backoffMs(memory.sandboxFailures, SANDBOX_BACKOFF);
    memory.sandbox = { state: 'failed', reason: 'FailedCreatePodSandBox', message, retryAtMs };
    warn(ctx, 'FailedCreatePodSandBox', message);
  }
}

/** The runtime is being started again: no fault of the pod, so its back-off does not grow. */
const runtimeAway = (error: unknown): boolean => isRuntimeError(error, 'Unavailable');

async function writeHosts(ctx: StepContext): Promise<void> {
  const { pod, services } = ctx;
  const hostFile = pod.spec.hostNetwork ? await readFile('/etc/hosts', 'utf8').catch(() => '') : '';
  const text = hostsText(pod, {
    ips: downwardOf(ctx).podIps,
    clusterDomain: services.clusterDomain,
    hostFile,
  });
  const file = hostsFile(services.paths, identityOf(pod).uid);
  await writeFile(file, text, { mode: 0o644 });
}

export async function stopSandbox(ctx: StepContext, { id }: Step<'stop-sandbox'>): Promise<void> {
  const { runtime, runtimes } = ctx.services;
  await runtime.stopPodSandbox(id);
  ctx.memory.stoppedSandboxes.add(id);
  await runtimes.refreshSandbox(id, identityOf(ctx.pod));
}

export async function removeSandbox(
  ctx: StepContext,
  { id }: Step<'remove-sandbox'>,
): Promise<void> {
  const { runtime, runtimes } = ctx.services;
  await runtime.removePodSandbox(id);
  runtimes.forgetSandbox(id, identityOf(ctx.pod));
}

/** Gives back what the pod had of the node, except its logs and its record in the runtime. */
export async function release(ctx: StepContext): Promise<void> {
  const { services, memory, pod, signal } = ctx;
  const { uid } = identityOf(pod);
  try {
    await releaseVolumes(uid, services.volumes);
  } catch (error) {
    warn(ctx, 'FailedUnmount', `UnmountVolume.TearDown failed: ${errorText(error)}`);
    throw error;
  }
  services.volumes.forget(uid);
  services.devices.forget(uid);
  memory.volumes = { state: 'absent' };
  for (let tries = 1; services.cgroups && !(await services.cgroups.remove(uid)); tries++) {
    if (tries === CGROUP_TRIES) throw new Error(`processes are left in the cgroups of pod ${uid}`);
    // A runtime that died while it made a sandbox no longer knows what it had begun.
    if (tries >= CGROUP_KILL_TRIES) services.cgroups.killLeft(uid);
    await services.clock.sleep(CGROUP_WAIT_MS, { signal });
  }
  services.idRanges.release(uid);
  memory.released = true;
}

/** Removes the last traces: files and logs. */
export async function removeFiles(identity: PodIdentity, services: NodeServices): Promise<void> {
  const { paths } = services;
  services.idRanges.release(identity.uid);
  await rm(podDir(paths, identity.uid), { recursive: true, force: true });
  await rm(podLogDir(paths, identity), { recursive: true, force: true });
}

// ---- containers ---------------------------------------------------------------------------------

/** An image that is there is taken at once; a pull goes on in the background. */
export async function pullImage(ctx: StepContext, step: Step<'pull-image'>): Promise<void> {
  const { pod, memory, services, signal } = ctx;
  const { container, attempt } = step;
  const { name } = container.spec;
  try {
    const image = await services.images.present(pod, container.spec);
    if (image) {
      memory.imageInfos.set(name, image);
      memory.images.set(name, { attempt, state: 'ready', ref: image.id });
      return;
    }
  } catch (error) {
    if (!isRuntimeError(error)) throw error; // ensure() will meet the same and say it as a failure
  }
  memory.images.set(name, { attempt, state: 'pulling' });
  void services.images
    .ensure(pod, container.spec, signal)
    .then((result) => {
      if (result.state === 'ready') memory.imageInfos.set(name, result.image);
      else memory.pullFailedAtMs.set(name, services.clock.now());
      memory.images.set(
        name,
        result.state === 'ready'
          ? { attempt, state: 'ready', ref: result.ref }
          : { attempt, ...result },
      );
      ctx.wake();
    })
    .catch(() => undefined); // only by `signal`: the agent is stopping
}

export async function startContainer(
  ctx: StepContext,
  step: Step<'start-container'>,
): Promise<void> {
  const { memory, services } = ctx;
  const { name } = step.container.spec;
  const identity = identityOf(ctx.pod);
  let id: string | undefined;
  try {
    const { config, sandbox } = await prepareContainer(ctx, step);
    id = await services.runtime.createContainer(step.sandboxId, config, sandbox);
    services.runtimes.addContainer(createdRecord(id, step, services.clock.now()), identity);
    tell(ctx, { type: 'Normal', reason: 'Created', message: 'Container created' }, name);
    await services.runtime.startContainer(id);
    await services.runtimes.refreshContainer(id, identity);
    memory.startFailures.delete(name);
    tell(ctx, { type: 'Normal', reason: 'Started', message: 'Container started' }, name);
    startHook(ctx, step.container, id);
  } catch (error) {
    const text = errorText(error);
    const reason =
      error instanceof ConfigError
        ? error.reason
        : id
          ? 'RunContainerError'
          : 'CreateContainerError';
    warn(ctx, 'Failed', `Error: ${text}`, name);
    // A container that was made and could not start has ended; its own back-off holds.
    const record = id ? await services.runtimes.refreshContainer(id, identity) : undefined;
    if (record?.state === 'exited') return;
    const count = (memory.startFailures.get(name)?.count ?? 0) + (runtimeAway(error) ? 0 : 1);
    const retryAtMs = services.clock.now() + backoffMs(count, START_BACKOFF);
    memory.startFailures.set(name, { reason, message: text, retryAtMs, count });
  }
}

const createdRecord = (id: string, step: Step<'start-container'>, nowMs: number) => ({
  id,
  name: step.container.spec.name,
  attempt: step.attempt,
  sandboxId: step.sandboxId,
  state: 'created' as const,
  createdAtMs: nowMs,
  startedAtMs: 0,
  finishedAtMs: 0,
  exitCode: 0,
  reason: '',
  message: '',
  imageRef: '',
  hash: specHash(step.container.spec),
  restartDelayMs: step.restartDelayMs,
  logPath: '',
});

async function prepareContainer(ctx: StepContext, step: Step<'start-container'>) {
  const { pod, memory, services } = ctx;
  const { container, attempt, restartDelayMs } = step;
  const { spec } = container;
  const { uid, namespace } = identityOf(pod);
  if (attempt > 0) {
    // The pod may have been resized since.
    memory.podLimits = hostLimits(pod, services);
    await services.cgroups?.update(uid, qosClass(pod), memory.podLimits);
  }
  const image = memory.imageInfos.get(spec.name);
  if (!image) throw new ConfigError(`image of container ${spec.name} is not known`);
  const { objects } = services.volumes;
  services.volumes.follow(pod); // an ephemeral container may refer to more
  const env = await envVars(spec, {
    ...downwardOf(ctx),
    configMap: (name) => objects.configMap(namespace, name),
    secret: (name) => objects.secret(namespace, name),
    services: services.services(namespace),
  });
  const volumeMounts = await containerMounts(
    spec,
    memory.readyVolumes,
    new Map(env.map(({ key, value }) => [key, value])),
    services.features(pod),
    subPathsDir(services.paths, uid),
  );
  const given = await services.devices.allocate(pod, spec);
  const devices = [...containerDevices(spec, memory.readyVolumes), ...given.devices];
  const file = terminationFile(services.paths, { uid, name: spec.name, attempt });
  await mkdir(dirname(file), { recursive: true, mode: 0o750 });
  await writeFile(file, '');
  await chmod(file, 0o666); // any user of the container may leave its last words
  const target = targetOf(ctx, container);
  const config = containerConfig(
    {
      ...{ pod, container, attempt, restartDelayMs, image, devices, target },
      env: [...env, ...given.envs],
      volumeMounts: [...volumeMounts, ...given.mounts],
      annotations: given.annotations,
    },
    services,
  );
  const sandbox: PodSandboxConfig = sandboxConfig(pod, 0, services);
  return { config, sandbox };
}

/** The container whose processes an ephemeral container asked to see. */
function targetOf(
  { pod, services }: StepContext,
  { kind, spec }: PodContainer,
): string | undefined {
  const name = (spec as { targetContainerName?: string }).targetContainerName;
  if (kind !== 'ephemeral' || !name) return undefined;
  const record = latest(services.runtimes.get(identityOf(pod).uid), name);
  if (record?.state !== 'running')
    throw new ConfigError(`target container "${name}" is not running`, 'CreateContainerError');
  return record.id;
}

/** postStart runs beside the container; the plan waits for it where order matters. */
function startHook(ctx: StepContext, { spec }: PodContainer, id: string): void {
  const hook = spec.lifecycle?.postStart;
  if (!hook) return;
  const { memory, services, signal } = ctx;
  memory.hooks.set(id, { state: 'running' });
  const target = { containerId: id, container: spec, podIp: downwardOf(ctx).podIps[0] ?? '' };
  void services
    .handlers(hook, target, { timeoutMs: HOOK_TIMEOUT_MS, signal })
    .catch((error: unknown) => ({ ok: false, output: errorText(error) }))
    .then(({ ok, output }) => {
      if (signal.aborted) return;
      memory.hooks.set(id, ok ? { state: 'done' } : { state: 'failed', message: output });
      // What the hook said may be secret: it goes to the log, not to everyone who reads events.
      if (!ok) {
        services.log.info('a postStart hook failed', { container: spec.name, output });
        warn(ctx, 'FailedPostStartHook', 'PostStartHook failed', spec.name);
      }
      ctx.wake();
    });
}

/** postStart has no limit of its own; this one keeps a hanging hook from holding a pod for ever. */
const HOOK_TIMEOUT_MS = 10 * 60_000;

export async function removeContainer(
  ctx: StepContext,
  { id, name }: Step<'remove-container'>,
): Promise<void> {
  const { runtime, runtimes, paths } = ctx.services;
  const identity = identityOf(ctx.pod);
  const record = runtimes.container(id)?.record;
  await runtime.removeContainer(id);
  runtimes.forgetContainer(id, identity);
  ctx.memory.hooks.delete(id);
  ctx.memory.resized.delete(id);
  if (!record || record.state === 'created') return;
  const { attempt, logPath } = record;
  await rm(terminationFile(paths, { uid: identity.uid, name, attempt }), { force: true });
  if (logPath) await rm(logPath, { force: true });
}
