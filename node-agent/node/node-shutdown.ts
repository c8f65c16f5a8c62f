import { errorText } from '#base/log.ts';
import type { Node } from '#api/types.ts';
import { allowDelay, holdShutdowns, missingForLogind, shutdowns } from '#node-agent/node/logind.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import {
  type ShutdownGroup,
  type ShutdownPeriod,
  shutdownPlan,
  TERMINATED,
  TERMINATED_MESSAGE,
  totalSeconds,
} from '#node-agent/node/shutdown-plan.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import type { PodWorker } from '#node-agent/pods/pod-worker.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';

/** Pause before logind is watched anew. */
const AGAIN_MS = 1_000;
const POLL_MS = 100;
/** What was said last has so long to reach the API. */
const TELL_MS = 3_000;
/** Added to what logind is asked to wait, for telling. */
const MARGIN_SECONDS = TELL_MS / 1000;

export type NodeShutdownOptions = {
  services: NodeServices;
  periods: readonly ShutdownPeriod[];
  /** The node says something else of itself now. */
  onChange: () => void;
};

/** Ends pods in order before the machine goes down. */
export class NodeShutdown {
  readonly #options: NodeShutdownOptions;
  #goingDown = false;

  constructor(options: NodeShutdownOptions) {
    this.#options = options;
  }

  /** Why the node is not ready. */
  get problem(): string | undefined {
    return this.#goingDown ? 'node is shutting down' : undefined;
  }

  /** Why no pod can come now. */
  refuse(): Refusal | undefined {
    if (!this.#goingDown) return undefined;
    return { reason: 'NodeShutdown', message: 'Pod was rejected as the node is shutting down.' };
  }

  async run(workers: PodWorkers, signal: AbortSignal): Promise<void> {
    const { services, periods } = this.#options;
    const { clock, log } = services;
    if (periods.length === 0) return;
    const missing = missingForLogind();
    if (missing) {
      log.warn('pods will not be ended in order when the machine goes down', { missing });
      return;
    }
    while (!signal.aborted) {
      try {
        await this.#watch(workers, signal);
      } catch (error) {
        if (signal.aborted) return;
        log.warn('cannot watch for shutdowns', { error: errorText(error) });
      }
      await clock.sleep(AGAIN_MS, { signal }).catch(() => undefined);
    }
  }

  async #watch(workers: PodWorkers, signal: AbortSignal): Promise<void> {
    const { services, periods, onChange } = this.#options;
    await allowDelay(totalSeconds(periods) + MARGIN_SECONDS, services.clock);
    let lock = await holdShutdowns(signal);
    try {
      for await (const goingDown of shutdowns(signal)) {
        this.#goingDown = goingDown;
        onChange();
        this.#tell(goingDown);
        if (goingDown) {
          await this.#endPods(workers, signal);
          lock.release();
        } else lock = await holdShutdowns(signal);
      }
    } finally {
      lock.release();
    }
  }

  #tell(goingDown: boolean): void {
    const { nodeName, events, log } = this.#options.services;
    const about: Node = { kind: 'Node', metadata: { name: nodeName, uid: nodeName } };
    const what = goingDown ? 'shutdown event' : 'shutdown cancellation';
    const message = `Shutdown manager detected ${what}`;
    log.info('the machine goes down, or does not any more', { goingDown });
    events.record(about, { type: 'Normal', reason: 'NodeShutdown', message });
  }

  async #endPods(workers: PodWorkers, signal: AbortSignal): Promise<void> {
    const { periods } = this.#options;
    const active = workers.all().filter((worker) => !worker.terminal);
    const pods = active.map((worker) => worker.pod);
    for (const group of shutdownPlan(pods, periods)) await this.#endGroup(group, workers, signal);
    // The machine may lose its network as soon as the lock is gone.
    const untold = (): boolean => active.some((worker) => worker.released && !worker.terminal);
    await this.#while(untold, TELL_MS, signal);
  }

  async #endGroup(
    { pods, graceSeconds }: ShutdownGroup,
    workers: PodWorkers,
    signal: AbortSignal,
  ): Promise<void> {
    const { log } = this.#options.services;
    const ending = pods.flatMap(({ pod, graceSeconds: grace }) => {
      const worker = workers.get(pod.metadata.uid ?? '');
      worker?.fail(TERMINATED, TERMINATED_MESSAGE, grace);
      return worker ? [worker] : [];
    });
    const gone = (worker: PodWorker): boolean =>
      worker.released || workers.get(worker.pod.metadata.uid ?? '') !== worker;
    await this.#while(() => !ending.every(gone), graceSeconds * 1000, signal);
    const left = ending.filter((worker) => !gone(worker)).map(({ pod }) => pod.metadata.name);
    log.info('ended pods for the shutdown', { pods: ending.length, graceSeconds, left });
  }

  async #while(condition: () => boolean, mostMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options.services;
    const untilMs = clock.now() + mostMs;
    while (condition() && clock.now() < untilMs && !signal.aborted)
      await clock.sleep(POLL_MS, { signal }).catch(() => undefined);
  }
}
