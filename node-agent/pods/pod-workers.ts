import { errorText } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { graceOf } from '#node-agent/pods/pod-observation.ts';
import { hasLiveVolumes } from '#node-agent/storage/pod-volumes.ts';
import { PodWorker } from '#node-agent/pods/pod-worker.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import { isMirror, isStatic } from '#node-agent/pods/static-pods.ts';

/** How often volumes that follow API objects are brought up to date, and how fine time is cut. */
const REFRESH_MS = 60_000;
const REFRESH_TICK_MS = 5_000;
/** A volume of a driver may have grown; an agent may not watch claims, so it asks. */
const GROWTH_MS = 15_000;

export type PodWorkersOptions = {
  services: NodeServices;
  informer: Informer<Pod>;
  /** Asked once for every pod that has nothing here yet. */
  admit: (pod: Pod, others: readonly Pod[]) => Refusal | undefined;
  signal: AbortSignal;
};

/** One worker for each pod that is bound to this node, or was. */
export class PodWorkers {
  readonly #options: PodWorkersOptions;
  readonly #workers = new Map<string, PodWorker>();
  /** Pods that ended here while the informer still had them. */
  readonly #over = new Set<string>();

  constructor(options: PodWorkersOptions) {
    this.#options = options;
  }

  /** Takes up all pods, oldest first, and follows the informer from then on. */
  start(): void {
    this.#options.informer.onChange((change) => {
      if (isMirror(change.object)) return; // what it shows runs from a manifest of this node
      if (change.type === 'deleted') this.#removed(change.object);
      else this.#changed(change.object);
    });
  }

  /** Runs a pod of a manifest on this node. */
  startStatic(pod: Pod): void {
    this.#over.delete(pod.metadata.uid ?? '');
    this.#changed(pod);
  }

  stopStatic(uid: string): void {
    const worker = this.#workers.get(uid);
    if (worker && !worker.stopping) worker.remove(graceOf(worker.pod));
  }

  get(uid: string): PodWorker | undefined {
    return this.#workers.get(uid);
  }

  find(namespace: string, name: string): PodWorker | undefined {
    for (const worker of this.#workers.values()) {
      const { metadata } = worker.pod;
      if (metadata.name === name && metadata.namespace === namespace) return worker;
    }
    return undefined;
  }

  all(): PodWorker[] {
    return [...this.#workers.values()];
  }

  /** The other pods that hold resources of the node, with what they have been granted. */
  granted(except: string): Pod[] {
    return this.all()
      .filter((worker) => !worker.terminal && worker.pod.metadata.uid !== except)
      .map((worker) => worker.granted);
  }

  wake(uid: string): void {
    this.#workers.get(uid)?.wake();
  }

  /** Known to the API or still being taken down: not for the garbage collector. */
  has(uid: string): boolean {
    return this.#workers.has(uid);
  }

  /** Resolves when all workers have stopped, after the signal. */
  async done(): Promise<void> {
    await Promise.all(this.all().map((worker) => worker.done));
  }

  /** Keeps the content of live volumes up to date, a few pods at a time. */
  async refreshVolumes(): Promise<void> {
    const { services, signal } = this.#options;
    const last = new Map<string, number>();
    while (!signal.aborted) {
      await services.clock.sleep(REFRESH_TICK_MS, { signal }).catch(() => undefined);
      for (const uid of last.keys()) if (!this.#workers.has(uid)) last.delete(uid);
      for (const [uid, worker] of this.#workers) {
        if (signal.aborted) return;
        const now = services.clock.now();
        if (!last.has(uid)) last.set(uid, now);
        const everyMs = services.volumes.csi.hasPersistent(uid) ? GROWTH_MS : REFRESH_MS;
        if (now - (last.get(uid) ?? 0) < everyMs || !hasLiveVolumes(worker.pod)) continue;
        last.set(uid, now);
        await worker.refreshVolumes();
      }
    }
  }

  #changed(pod: Pod): void {
    const uid = pod.metadata.uid ?? '';
    if (this.#over.has(uid)) return;
    const known = this.#workers.get(uid);
    if (known) {
      known.update(pod);
      this.#resourcesFreed(uid);
      return;
    }
    const { services, signal } = this.#options;
    const refusal = this.#refusal(pod, uid);
    const worker = new PodWorker(pod, services, signal, refusal);
    this.#workers.set(uid, worker);
    void worker.done
      .catch((error: unknown) =>
        services.log.error('a pod worker broke', {
          pod: pod.metadata.name,
          error: errorText(error),
        }),
      )
      .finally(() => {
        this.#workers.delete(uid);
        if (worker.ended) this.#over.add(uid);
        this.#resourcesFreed(uid);
      });
  }

  /** A pod changed or ended: others that wait for more may get it now. */
  #resourcesFreed(by: string): void {
    for (const [uid, worker] of this.#workers)
      if (uid !== by && worker.waitsForResources) worker.wake();
  }

  #refusal(pod: Pod, uid: string): Refusal | undefined {
    const { services, admit } = this.#options;
    const phase = pod.status?.phase;
    const isNew =
      services.runtimes.get(uid).sandboxes.length === 0 &&
      !isStatic(pod) &&
      !pod.metadata.deletionTimestamp &&
      !pod.status?.startTime &&
      phase !== 'Failed' &&
      phase !== 'Succeeded';
    if (!isNew) return undefined;
    return admit(pod, this.granted(uid));
  }

  #removed(pod: Pod): void {
    const uid = pod.metadata.uid ?? '';
    if (this.#over.delete(uid)) return;
    const worker = this.#workers.get(uid);
    if (!worker) return;
    worker.update(pod);
    worker.remove();
    // The informer will not tell of it again.
    void worker.done.catch(() => undefined).finally(() => this.#over.delete(uid));
  }
}
