import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { errorText } from '#base/log.ts';
import { tolerates } from '#api/tolerations.ts';
import type { Pod } from '#api/types.ts';
import {
  chooseVictim,
  type Eviction,
  exceededLimit,
  hasStorageLimit,
  isCritical,
  judgePressure,
  type Measures,
  NO_PRESSURE,
  type Pressure,
} from '#node-agent/node/eviction.ts';
import type { Threshold } from '#node-agent/node/eviction-thresholds.ts';
import { removeUnusedImages } from '#node-agent/images/image-gc.ts';
import { diskUsage, meminfo, pidUsage } from '#node-agent/node/node-facts.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import { podUsage } from '#node-agent/pods/pod-usage.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import type { ImageService } from '#node-agent/runtime/service.ts';

/** Measuring the node is a few reads of /proc and statfs; walking pods' files is not. */
const NODE_MS = 2_000;
const STORAGE_MS = 10_000;
/** An evicted pod gets so long to give back what it had, before the next one is chosen. */
const SETTLE_MS = 30_000;
const EVICTED = 'Evicted';

export type EvictionOptions = {
  services: NodeServices;
  images: ImageService;
  rootDir: string;
  thresholds: readonly Threshold[];
  /** Most grace that a soft threshold leaves a pod. */
  maxGraceSeconds: number;
  /** The conditions of the node are others now. */
  onChange: () => void;
};

/** Watches what runs short on the node and ends pods before everything stands still. */
export class EvictionLoop {
  readonly #options: EvictionOptions;
  #state = NO_PRESSURE;
  #conditions: ReadonlySet<Pressure> = new Set();
  #imageDir: string | undefined;
  #imagesSwept = false;
  #victim: { uid: string; untilMs: number } | undefined;
  #storageAtMs = 0;

  constructor(options: EvictionOptions) {
    this.#options = options;
  }

  has(pressure: Pressure): boolean {
    return this.#conditions.has(pressure);
  }

  /** Why a new pod cannot come now. Source: the kubelet's admission under pressure. */
  refuse(pod: Pod): Refusal | undefined {
    if (this.#conditions.size === 0 || isCritical(pod)) return undefined;
    const list = [...this.#conditions];
    if (list.length === 1 && this.has('MemoryPressure')) {
      const taint = { key: 'node.kubernetes.io/memory-pressure', effect: 'NoSchedule' };
      if (qosClass(pod) !== 'BestEffort' || tolerates(pod.spec.tolerations, taint))
        return undefined;
    }
    return { reason: EVICTED, message: `The node had condition: [${list.join(' ')}]. ` };
  }

  async run(workers: PodWorkers, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options.services;
    while (!signal.aborted) {
      try {
        await this.#look(workers);
      } catch (error) {
        log.warn('could not look for pressure', { error: errorText(error) });
      }
      await clock.sleep(NODE_MS, { signal }).catch(() => undefined);
    }
  }

  async #look(workers: PodWorkers): Promise<void> {
    const { services, thresholds, onChange } = this.#options;
    const now = services.clock.now();
    const verdict = judgePressure(thresholds, await this.#measure(), this.#state, now);
    this.#state = verdict.state;
    if (!isDeepStrictEqual(verdict.conditions, this.#conditions)) {
      this.#conditions = verdict.conditions;
      onChange();
    }
    if (verdict.due) await this.#relieve(verdict.due, workers, now);
    else this.#imagesSwept = false;
    if (now - this.#storageAtMs < STORAGE_MS) return;
    this.#storageAtMs = now;
    await this.#enforceLimits(workers);
  }

  async #measure(): Promise<Measures> {
    const { images, rootDir } = this.#options;
    this.#imageDir ??= (await images.imageFsInfo())[0]?.mountpoint ?? rootDir;
    const { totalBytes, availableBytes } = meminfo();
    const disk = diskUsage(rootDir);
    const pids = pidUsage();
    // Images on the disk of the pods are the same disk: its own thresholds hold.
    const apart = statSync(this.#imageDir).dev !== statSync(rootDir).dev;
    const own = apart ? diskUsage(this.#imageDir) : undefined;
    return {
      'memory.available': { available: availableBytes, capacity: totalBytes },
      'nodefs.available': { available: disk.availableBytes, capacity: disk.totalBytes },
      'nodefs.inodesFree': { available: disk.inodesFree, capacity: disk.inodes },
      'pid.available': { available: pids.max - pids.used, capacity: pids.max },
      ...(own
        ? {
            'imagefs.available': { available: own.availableBytes, capacity: own.totalBytes },
            'imagefs.inodesFree': { available: own.inodesFree, capacity: own.inodes },
          }
        : {}),
    };
  }

  /** Frees what the node itself can free, then one pod after another. */
  async #relieve(
    due: NonNullable<ReturnType<typeof judgePressure>['due']>,
    workers: PodWorkers,
    now: number,
  ): Promise<void> {
    const { services, images, maxGraceSeconds } = this.#options;
    if (due.resource === 'ephemeral-storage' && !this.#imagesSwept) {
      this.#imagesSwept = true;
      if ((await removeUnusedImages(images, services)) > 0) return; // measured anew first
    }
    const leaving = this.#victim && workers.get(this.#victim.uid);
    if (leaving && !leaving.released && this.#victim && now < this.#victim.untilMs) return;
    const pods = candidates(workers);
    const usages = await podUsage(pods, services);
    const known = pods.flatMap((pod) => {
      const usage = usages.get(pod.metadata.uid ?? '');
      return usage ? [{ pod, usage }] : [];
    });
    const eviction = chooseVictim(due, known, maxGraceSeconds);
    if (!eviction) return;
    const waitMs = SETTLE_MS + eviction.graceSeconds * 1000;
    this.#victim = { uid: eviction.pod.metadata.uid ?? '', untilMs: now + waitMs };
    this.#evict(eviction, workers);
  }

  async #enforceLimits(workers: PodWorkers): Promise<void> {
    const limited = candidates(workers).filter(hasStorageLimit);
    if (limited.length === 0) return;
    const usages = await podUsage(limited, this.#options.services);
    for (const pod of limited) {
      const usage = usages.get(pod.metadata.uid ?? '');
      const message = usage && exceededLimit({ pod, usage });
      if (message) this.#evict({ pod, message, graceSeconds: 0 }, workers);
    }
  }

  #evict({ pod, message, graceSeconds }: Eviction, workers: PodWorkers): void {
    const { events, log } = this.#options.services;
    const { name, namespace, uid = '' } = pod.metadata;
    log.warn('evicting a pod', { pod: `${namespace}/${name}`, message });
    events.record(pod, { type: 'Warning', reason: EVICTED, message });
    workers.get(uid)?.fail(EVICTED, message, graceSeconds);
  }
}

/** Pods that hold something and are not on their way out. */
const candidates = (workers: PodWorkers): Pod[] =>
  workers
    .all()
    .filter((worker) => !worker.terminal && !worker.stopping)
    .map((worker) => worker.pod);
