import { errorText } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import { isCritical } from '#node-agent/node/eviction.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { graceOf } from '#node-agent/pods/pod-observation.ts';
import { hasLiveVolumes } from '#node-agent/storage/pod-volumes.ts';
import { choosePreempted, PREEMPTED_MESSAGE, PREEMPTING } from '#node-agent/pods/pod-preemption.ts';
import { type Admission, PodWorker } from '#node-agent/pods/pod-worker.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import { isMirror } from '#node-agent/pods/static-pods.ts';

/** How often volumes that follow API objects are brought up to date, and how fine time is cut. */
const REFRESH_MS = 60_000;
const REFRESH_TICK_MS = 5_000;
/** A volume of a driver may have grown; an agent may not watch claims, so it asks. */
const GROWTH_MS = 15_000;

/** Beyond its grace a pod gets so long to make room; then the critical one comes anyway. */
const ROOM_MS = 30_000;

const sameUid = (a: Pod, b: Pod): boolean => a.metadata.uid === b.metadata.uid;

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
    const { informer, services } = this.#options;
    const known = new Set(informer.list().map(({ metadata }) => metadata.uid));
    services.stopOrders.prune((uid) => known.has(uid));
    informer.onChange((change) => {
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
    return this.#holders(except).map((worker) => worker.granted);
  }

  #holders(except: string): PodWorker[] {
    return this.all().filter((one) => !one.terminal && one.pod.metadata.uid !== except);
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
      services.volumes.sweep();
      for (const [uid, worker] of this.#workers) {
        if (signal.aborted) return;
        const now = services.clock.now();
        if (!last.has(uid)) last.set(uid, now);
        const { csi, local } = services.volumes;
        const mayGrow = csi.hasPersistent(uid) || local.hasGrowable(uid);
        const everyMs = mayGrow ? GROWTH_MS : REFRESH_MS;
        const dueMs = worker.refreshFailed ? REFRESH_TICK_MS : everyMs;
        if (now - (last.get(uid) ?? 0) < dueMs || !hasLiveVolumes(worker.pod)) continue;
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
    const worker = new PodWorker(pod, services, signal, this.#admission(pod, uid));
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
        if (worker.ended) {
          this.#over.add(uid);
          services.stopOrders.forget(uid);
        }
        this.#resourcesFreed(uid);
      });
  }

  /** A pod changed or ended: others that wait for more may get it now. */
  #resourcesFreed(by: string): void {
    for (const [uid, worker] of this.#workers)
      if (uid !== by && worker.waitsForResources) worker.wake();
  }

  #admission(pod: Pod, uid: string): Admission {
    const { services, admit } = this.#options;
    const phase = pod.status?.phase;
    const isNew =
      services.runtimes.get(uid).sandboxes.length === 0 &&
      !pod.metadata.deletionTimestamp &&
      !pod.status?.startTime &&
      phase !== 'Failed' &&
      phase !== 'Succeeded';
    if (!isNew) return {};
    const refusal = admit(pod, this.granted(uid));
    return refusal?.short && isCritical(pod) ? this.#makeRoom(pod, uid, refusal) : { refusal };
  }

  /** Ends less important pods, so that a critical one can come when they are gone. */
  #makeRoom(pod: Pod, uid: string, refusal: Refusal): Admission {
    const { services, admit } = this.#options;
    const leaving = this.#holders(uid).filter((worker) => worker.stopping);
    const staying = this.granted(uid).filter((p) => !leaving.some((w) => sameUid(w.pod, p)));
    // What is on its way out makes room by itself.
    const still = leaving.length > 0 ? admit(pod, staying) : refusal;
    const chosen = still?.short ? choosePreempted(pod, staying, still.short) : [];
    if (!Array.isArray(chosen)) return { refusal: chosen };
    const left = staying.filter((p) => !chosen.includes(p));
    const other = admit(pod, left);
    if (other) return { refusal: other };
    const victims = chosen.flatMap(({ metadata }) => this.#workers.get(metadata.uid ?? '') ?? []);
    for (const victim of victims) {
      const { name, namespace } = victim.pod.metadata;
      const by = `${pod.metadata.namespace}/${pod.metadata.name}`;
      services.log.warn('preempting a pod', { pod: `${namespace}/${name}`, by });
      const told = { type: 'Warning', reason: PREEMPTING, message: PREEMPTED_MESSAGE } as const;
      services.events.record(victim.pod, told);
      victim.fail(PREEMPTING, PREEMPTED_MESSAGE, graceOf(victim.pod));
    }
    const going = [...leaving, ...victims];
    const graceMs = Math.max(...going.map((worker) => graceOf(worker.pod))) * 1000;
    const untilMs = services.clock.now() + graceMs + ROOM_MS;
    const gone = (worker: PodWorker): boolean =>
      worker.terminal || worker.released || this.get(worker.pod.metadata.uid ?? '') !== worker;
    return { hasRoom: () => going.every(gone) || services.clock.now() > untilMs };
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
