import { isDeepStrictEqual } from 'node:util';
import { backoffMs } from '#base/backoff.ts';
import { errorText } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import { ContainerKiller } from '#node-agent/containers/container-killer.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { identityOf } from '#node-agent/pods/pod-files.ts';
import {
  DEADLINE_EXCEEDED,
  liveSandbox,
  latest,
  podContainers,
  type PodObservation,
  restartAtMs,
  restarts,
  type StopOrder,
} from '#node-agent/pods/pod-observation.ts';
import { stopOf } from '#node-agent/pods/pod-outcome.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import { podPlan, type PodStep } from '#node-agent/pods/pod-plan.ts';
import {
  type Allocation,
  reportedAllocation,
  type ResizePending,
  sameAllocation,
  wishOf,
  withAllocation,
} from '#node-agent/pods/pod-resize.ts';
import { resizeContainers } from '#node-agent/pods/pod-resize-step.ts';
import { podStatus } from '#node-agent/pods/pod-status.ts';
import * as steps from '#node-agent/pods/pod-steps.ts';
import { hasLiveVolumes, prepareVolumes } from '#node-agent/storage/pod-volumes.ts';

const RETRY = { initialMs: 500, maxMs: 30_000 };
/** Attempts remembered as told about; forgetting one only repeats an event. */
const MAX_TOLD = 100;
/** How long ErrImagePull shows before it turns into ImagePullBackOff. */
const PULL_ERROR_SHOWN_MS = 2_000;
/** A plan follows a plan at most so often without a pause; a fault shall cost no whole core. */
const MAX_TURNS_IN_A_ROW = 200;
/** Whoever makes room wakes the worker; this is the safety net. */
const ROOM_POLL_MS = 1_000;
/** A container waits for something it refers to. */
const CONFIG_ERROR = 'CreateContainerConfigError';

export type Admission = {
  refusal?: Refusal | undefined;
  /** False while others make room for the pod. */
  hasRoom?: () => boolean;
};

/**
 * One pod's worker: observes, plans, does the plan's steps, reports, and again until nothing is left
 * to do; then sleeps until something happens. Serial: no two plans of a pod overlap.
 */
export class PodWorker {
  readonly #services: NodeServices;
  readonly #signal: AbortSignal;
  readonly #memory = steps.newMemory();
  readonly #killer = new ContainerKiller();
  readonly done: Promise<void>;
  #pod: Pod;
  #order: StopOrder | undefined;
  #woken = false;
  #wake: () => void = () => {};
  #ended = false;
  #told = new Set<string>();
  #referenceChanged = false;
  readonly #hasRoom: () => boolean;
  #refreshAgain = false;
  #refreshFailed = false;
  #mounting = false;
  #allocation: Allocation;
  #pending: ResizePending | undefined;
  #refreshing: Promise<void> | undefined;

  /**
   * With `refusal` the pod fails at once, before anything of it is made; while `hasRoom` says no
   * nothing of it is made either.
   */
  constructor(
    pod: Pod,
    services: NodeServices,
    signal: AbortSignal,
    { refusal, hasRoom = () => true }: Admission = {},
  ) {
    this.#hasRoom = hasRoom;
    this.#pod = pod;
    this.#allocation = reportedAllocation(pod);
    this.#services = services;
    this.#signal = signal;
    const now = services.clock.now();
    this.#order = orderOf(pod, services.stopOrders.of(pod), now);
    if (refusal && !this.#order) {
      const { reason, message } = refusal;
      const text = `Pod was rejected: ${message}`;
      this.#order = { cause: 'failed', sinceMs: now, graceSeconds: 0, reason, message: text };
      services.events.record(pod, { type: 'Warning', reason, message });
    }
    this.done = this.#run();
  }

  get pod(): Pod {
    return this.#pod;
  }

  /** The pod with the resources that the node has granted it. */
  get granted(): Pod {
    return withAllocation(this.#pod, this.#allocation);
  }

  /** It asks for more than the node has left now. */
  get waitsForResources(): boolean {
    return this.#pending?.reason === 'Deferred' || !this.#hasRoom();
  }

  /** Ended for good: nothing of it is left on the node. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The plan sees it as over; its resources are free again. */
  get terminal(): boolean {
    const phase = this.#services.status.reported(this.#pod)?.phase;
    return phase === 'Failed' || phase === 'Succeeded';
  }

  /** On its way out, for whatever reason. */
  get stopping(): boolean {
    return this.#order !== undefined;
  }

  /** Has ended and given back what it had. */
  get released(): boolean {
    return this.#memory.released;
  }

  update(pod: Pod): void {
    const before = this.#pod;
    this.#pod = pod;
    if (this.#order?.cause !== 'removed')
      this.#order = orderOf(pod, this.#order, this.#services.clock.now());
    const { labels, annotations } = pod.metadata;
    if (
      !isDeepStrictEqual(labels, before.metadata.labels) ||
      !isDeepStrictEqual(annotations, before.metadata.annotations)
    )
      void this.refreshVolumes();
    this.wake();
  }

  /** The object is gone from the API, or the manifest from the disk: that leaves it its grace. */
  remove(grace = 1): void {
    const now = this.#services.clock.now();
    const current = this.#order;
    const forced = (this.#pod.metadata.deletionGracePeriodSeconds ?? 1) === 0;
    this.#order = {
      cause: 'removed',
      sinceMs: current?.sinceMs ?? now,
      // Deleted by force: nobody waits for it any more.
      graceSeconds: forced ? 1 : (current?.graceSeconds ?? grace),
    };
    this.wake();
  }

  /** Evicted or preempted by the node. */
  fail(reason: string, message: string, graceSeconds = 0): void {
    if (!this.#order) {
      const { clock, stopOrders } = this.#services;
      const order = {
        cause: 'failed',
        sinceMs: clock.now(),
        graceSeconds,
        reason,
        message,
      } as const;
      stopOrders.note(this.#pod, order);
      this.#order = order;
    }
    this.wake();
  }

  wake(): void {
    this.#woken = true;
    this.#wake();
  }

  /** Something the pod refers to appeared or changed: what waits for it is tried again at once. */
  referenceChanged(): void {
    this.#referenceChanged = true;
    const { volumes, startFailures } = this.#memory;
    if (volumes.state === 'failed') this.#memory.volumes = { ...volumes, retryAtMs: 0 };
    for (const [name, failure] of startFailures)
      if (failure.reason === CONFIG_ERROR) startFailures.set(name, { ...failure, retryAtMs: 0 });
    void this.refreshVolumes();
    this.wake();
  }

  /** What its volumes waited for may be done: they are tried again at once. */
  volumesMayBeReady(): void {
    const { volumes } = this.#memory;
    if (volumes.state !== 'failed' && !this.#mounting) return;
    this.#referenceChanged = true;
    if (volumes.state === 'failed') this.#memory.volumes = { ...volumes, retryAtMs: 0 };
    this.wake();
  }

  /** Some volume could not be brought up to date the last time. */
  get refreshFailed(): boolean {
    return this.#refreshFailed;
  }

  /** Brings the content of live volumes up to date. One refresh at a time. */
  refreshVolumes(): Promise<void> {
    this.#refreshAgain = true;
    this.#refreshing ??= this.#refreshAll().finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #refreshAll(): Promise<void> {
    while (this.#refreshAgain && !this.#signal.aborted) {
      this.#refreshAgain = false;
      if (this.#memory.volumes.state !== 'ready' || this.#order || !hasLiveVolumes(this.#pod))
        return;
      const { volumes, log } = this.#services;
      try {
        await prepareVolumes(this.#pod, volumes, steps.downwardOf(this.#context()), {
          refresh: true,
        });
        this.#refreshFailed = false;
      } catch (error) {
        this.#refreshFailed = true;
        log.warn('could not refresh volumes', { pod: this.#name(), error: errorText(error) });
      }
    }
  }

  async #mountVolumes(ctx: steps.StepContext): Promise<void> {
    this.#referenceChanged = false;
    this.#mounting = true;
    await steps.mountVolumes(ctx).finally(() => (this.#mounting = false));
    // What changed meanwhile may have been read before.
    if (this.#referenceChanged) this.referenceChanged();
  }

  async #run(): Promise<void> {
    let failures = 0;
    let turns = 0;
    while (!this.#ended && !this.#signal.aborted) {
      this.#woken = false;
      if (!this.#order && !this.#hasRoom()) {
        await this.#sleep(this.#services.clock.now() + ROOM_POLL_MS);
        continue;
      }
      const o = this.#observe();
      this.#report(o);
      const plan = podPlan(o);
      if (plan.steps.length === 0) {
        turns = 0;
        await this.#sleep(this.#nextWakeMs(o, plan.wakeAtMs));
        continue;
      }
      const failed = await this.#doAll(plan.steps);
      failures = failed ? failures + 1 : 0;
      turns++;
      if (failed || turns > MAX_TURNS_IN_A_ROW)
        await this.#sleep(this.#services.clock.now() + backoffMs(Math.max(1, failures), RETRY));
    }
  }

  /** Does steps side by side; true when one failed in a way no observation shows. */
  async #doAll(list: readonly PodStep[]): Promise<boolean> {
    const results = await Promise.allSettled(list.map((step) => this.#do(step)));
    let failed = false;
    results.forEach((result, index) => {
      if (result.status === 'fulfilled' || this.#signal.aborted) return;
      failed = true;
      this.#services.log.warn('a step for a pod failed', {
        pod: this.#name(),
        step: list[index]?.step,
        error: errorText(result.reason),
      });
    });
    return failed;
  }

  async #do(step: PodStep): Promise<void> {
    const ctx = this.#context();
    switch (step.step) {
      case 'mount-volumes':
        return this.#mountVolumes(ctx);
      case 'create-sandbox':
        return steps.createSandbox(ctx, step);
      case 'pull-image':
        return steps.pullImage(ctx, step);
      case 'start-container':
        return steps.startContainer(ctx, step);
      case 'resize':
        return resizeContainers(ctx, step);
      case 'kill-container':
        return this.#killer.begin(ctx, step);
      case 'remove-container':
        return steps.removeContainer(ctx, step);
      case 'stop-sandbox':
        return steps.stopSandbox(ctx, step);
      case 'remove-sandbox':
        return steps.removeSandbox(ctx, step);
      case 'release':
        return steps.release(ctx);
      case 'delete-object':
        await this.#services.status.deleteObject(this.#pod);
        this.remove();
        return;
      case 'forget':
        await steps.removeFiles(identityOf(this.#pod), this.#services);
        this.#services.probes.prune(identityOf(this.#pod).uid, new Set());
        this.#services.status.forget(identityOf(this.#pod).uid);
        this.#ended = true;
    }
  }

  #context(): steps.StepContext {
    return {
      pod: this.granted,
      memory: this.#memory,
      services: this.#services,
      signal: this.#signal,
      wake: () => this.wake(),
    };
  }

  #observe(): PodObservation {
    const { clock, runtimes, status, probes, host } = this.#services;
    const reported = status.reported(this.#pod);
    this.#allocate();
    const { granted } = this;
    const pod = reported ? { ...granted, status: reported } : granted;
    const { uid } = identityOf(pod);
    const runtime = runtimes.get(uid);
    const sandbox = liveSandbox(runtime);
    const now = clock.now();
    this.#showPullBackoff(now);
    const running = podContainers(pod).flatMap(({ kind, spec }) => {
      const record = latest(runtime, spec.name, sandbox?.id);
      const probed = kind === 'main' || kind === 'sidecar';
      const hooked = record && this.#memory.hooks.get(record.id)?.state === 'running';
      return record?.state === 'running' && probed && !hooked ? [{ record, spec }] : [];
    });
    const podIp = (pod.spec.hostNetwork ? host.ips : (sandbox?.ips ?? []))[0] ?? '';
    const verdicts = probes.watch(pod, podIp, running);
    probes.prune(uid, new Set(running.map(({ record }) => record.id)));
    return {
      pod,
      runtime,
      now,
      order: this.#order,
      volumes: this.#memory.volumes,
      sandbox: this.#memory.sandbox,
      images: this.#memory.images,
      startFailures: this.#memory.startFailures,
      hooks: this.#memory.hooks,
      killing: this.#killer.deadlines,
      probes: verdicts,
      stoppedSandboxes: this.#memory.stoppedSandboxes,
      released: this.#memory.released,
      resize: {
        pending: this.#pending,
        sent: this.#memory.resized,
        failure: this.#memory.resizeFailure,
      },
    };
  }

  /** Grants what the pod asks for, if the node can. */
  #allocate(): void {
    const wish = wishOf(this.#pod);
    if (sameAllocation(wish, this.#allocation)) {
      this.#allocation = wish;
      this.#pending = undefined;
      return;
    }
    const before = this.#pending;
    this.#pending = this.#services.judgeResize(this.#pod);
    if (!this.#pending) {
      this.#allocation = wish;
      this.#memory.resizeFailure = undefined;
    } else if (before?.message !== this.#pending.message) {
      const { reason, message } = this.#pending;
      this.#services.events.record(this.#pod, {
        type: 'Warning',
        reason: `Resize${reason}`,
        message: `Pod resize ${reason}: ${message}`,
      });
    }
  }

  /** After a moment the failure of a pull shows as waiting for the next one. */
  #showPullBackoff(now: number): void {
    for (const [name, progress] of this.#memory.images) {
      if (progress.state !== 'failed' || progress.reason !== 'ErrImagePull') continue;
      if (now < this.#pullErrorShownUntil(name)) continue;
      const image = podContainers(this.#pod).find((c) => c.spec.name === name)?.spec.image ?? '';
      const message = `Back-off pulling image "${image}": ErrImagePull: ${progress.message}`;
      this.#memory.images.set(name, { ...progress, reason: 'ImagePullBackOff', message });
      const event = `Back-off pulling image "${image}"`;
      const ctx = this.#context();
      steps.tell(ctx, { type: 'Normal', reason: 'BackOff', message: event }, name);
    }
  }

  #pullErrorShownUntil(name: string): number {
    return (this.#memory.pullFailedAtMs.get(name) ?? 0) + PULL_ERROR_SHOWN_MS;
  }

  #report(o: PodObservation): void {
    if (this.#order?.cause === 'removed') return;
    this.#services.status.set(this.#pod, podStatus(o, this.#services.host));
    this.#tellCrashBackoff(o);
    const stop = stopOf(o);
    if (stop?.cause !== 'failed' || stop.reason !== DEADLINE_EXCEEDED) return;
    if (this.#told.has(DEADLINE_EXCEEDED) || o.pod.status?.phase === 'Failed') return;
    this.#told.add(DEADLINE_EXCEEDED);
    const { reason, message } = stop;
    steps.tell(this.#context(), { type: 'Normal', reason, message });
  }

  /** One event per attempt that has to wait. */
  #tellCrashBackoff(o: PodObservation): void {
    if (stopOf(o)) return;
    for (const container of podContainers(o.pod)) {
      const { name } = container.spec;
      const last = latest(o.runtime, name);
      if (last?.state !== 'exited' || this.#told.has(last.id)) continue;
      if (!restarts(o.pod, container, last.exitCode) || o.now >= restartAtMs(last)) continue;
      if (this.#told.size >= MAX_TOLD) this.#told.clear();
      this.#told.add(last.id);
      const { namespace, uid } = identityOf(o.pod);
      const message =
        `Back-off restarting failed container ${name} in pod ` +
        `${o.pod.metadata.name}_${namespace}(${uid})`;
      steps.tell(this.#context(), { type: 'Warning', reason: 'BackOff', message }, name);
    }
  }

  #nextWakeMs(o: PodObservation, planned: number | undefined): number | undefined {
    const times = planned === undefined ? [] : [planned];
    for (const [name, progress] of this.#memory.images) {
      if (progress.state !== 'failed' || progress.reason !== 'ErrImagePull') continue;
      times.push(this.#pullErrorShownUntil(name));
    }
    return times.length > 0 ? Math.max(o.now + 1, Math.min(...times)) : undefined;
  }

  /** Until `untilMs` (for ever without), unless something happens first. */
  async #sleep(untilMs: number | undefined): Promise<void> {
    if (this.#woken || this.#signal.aborted) return;
    const timer = new AbortController();
    const onAbort = (): void => this.#wake();
    this.#signal.addEventListener('abort', onAbort, { once: true });
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (untilMs === undefined) return;
      this.#services.clock
        .sleep(Math.max(0, untilMs - this.#services.clock.now()), { signal: timer.signal })
        .then(resolve, () => undefined);
    });
    this.#signal.removeEventListener('abort', onAbort);
    timer.abort();
  }

  #name(): string {
    const { namespace, name } = identityOf(this.#pod);
    return `${namespace}/${name}`;
  }
}

/** The deletion an object asks for; a second one may only shorten the grace of the first. */
function orderOf(pod: Pod, current: StopOrder | undefined, now: number): StopOrder | undefined {
  const { deletionTimestamp, deletionGracePeriodSeconds = 30 } = pod.metadata;
  if (!deletionTimestamp) return current;
  const asked = Date.parse(deletionTimestamp) - deletionGracePeriodSeconds * 1000;
  // Seen late (the agent was down): the time has been running. Clocks may differ a little.
  const since = now - asked > 5_000 ? asked : now;
  return {
    cause: 'deleted',
    sinceMs: current?.cause === 'deleted' ? current.sinceMs : since,
    graceSeconds: deletionGracePeriodSeconds,
  };
}
