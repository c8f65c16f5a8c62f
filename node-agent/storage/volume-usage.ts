import { statfs } from 'node:fs/promises';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { PersistentVolumeClaim, Pod } from '#api/types.ts';
import type { EventRecorder } from '#client/events.ts';
import { sizeOf } from '#node-agent/csi/csi-request.ts';
import type { CsiVolumes, MeasuredVolume } from '#node-agent/csi/csi-volumes.ts';
import { treeUsage } from '#node-agent/node/disk-walk.ts';
import type { LocalUse, LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';
import type { ReferencedObjects } from '#node-agent/storage/volume-type.ts';

/** Source: the kubelet's volumeStatsAggPeriod. */
const MEASURE_MS = 60_000;
/** A volume that stays too full is told of again after this time. */
const TELL_AGAIN_MS = 60 * 60_000;

/** One volume of a pod in /stats/summary. Source: kubelet stats/v1alpha1 VolumeStats. */
export type VolumeFigures = {
  time: string;
  name: string;
  pvcRef: { name: string; namespace: string };
  usedBytes?: number;
  capacityBytes?: number;
  availableBytes?: number;
  inodes?: number;
  inodesFree?: number;
  inodesUsed?: number;
  volumeHealthStats?: { abnormal: boolean };
};

export type VolumeUsageOptions = {
  csi: CsiVolumes;
  local: LocalVolumes;
  objects: ReferencedObjects;
  events: EventRecorder;
  clock: Clock;
  log: Log;
};

/**
 * Measures the volumes behind claims: drivers are asked, directories of the node are walked. A
 * directory cannot be limited here; one that holds more than its claim asked for is told of.
 */
export class VolumeUsage {
  readonly #options: VolumeUsageOptions;
  #figures: ReadonlyMap<string, VolumeFigures[]> = new Map();
  readonly #toldAtMs = new Map<string, number>();

  constructor(options: VolumeUsageOptions) {
    this.#options = options;
  }

  /** As last measured. */
  of(uid: string): readonly VolumeFigures[] {
    return this.#figures.get(uid) ?? [];
  }

  all(): VolumeFigures[] {
    return [...this.#figures.values()].flat();
  }

  async run(workers: PodWorkers, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(MEASURE_MS, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      await this.measure(workers).catch((error: unknown) =>
        log.warn('could not measure volumes', { error: errorText(error) }),
      );
    }
  }

  async measure(workers: Pick<PodWorkers, 'get'>): Promise<void> {
    const { csi, local, clock, log } = this.#options;
    const time = new Date(clock.now()).toISOString();
    const figures = new Map<string, VolumeFigures[]>();
    const add = (uid: string, one: VolumeFigures): void =>
      void figures.set(uid, [...(figures.get(uid) ?? []), one]);
    for (const use of local.uses()) {
      const namespace = workers.get(use.uid)?.pod.metadata.namespace;
      if (namespace === undefined) continue;
      const pvcRef = { name: use.claim, namespace };
      if (use.mounted) {
        add(use.uid, { time, name: use.volume, pvcRef, ...(await fileSystemFigures(use.path)) });
        continue;
      }
      const { bytes, inodes } = await treeUsage(use.path);
      const capacityBytes = await this.#capacity(use);
      add(use.uid, {
        time,
        name: use.volume,
        pvcRef,
        usedBytes: bytes,
        inodesUsed: inodes,
        capacityBytes,
        availableBytes: Math.max(0, capacityBytes - bytes),
      });
      if (bytes > capacityBytes) await this.#tell(use, namespace, bytes, capacityBytes);
      else this.#toldAtMs.delete(use.persistentVolume);
    }
    for (const measured of await csi.measure((volume, error) =>
      log.debug('a driver could not measure a volume', { volume, error: errorText(error) }),
    )) {
      const pod = workers.get(measured.uid)?.pod;
      if (!pod) continue;
      add(measured.uid, csiFigures(measured, time, pod.metadata.namespace ?? ''));
      this.#judge(measured, pod);
    }
    this.#figures = figures;
  }

  /** A driver's word on the health of a volume. Source: KEP-1432. */
  #judge({ name, stats: { volumeCondition } }: MeasuredVolume, pod: Pod): void {
    const { clock, events } = this.#options;
    const key = `${pod.metadata.uid}/${name}`;
    if (!volumeCondition?.abnormal) {
      this.#toldAtMs.delete(key);
      return;
    }
    const last = this.#toldAtMs.get(key) ?? Number.NEGATIVE_INFINITY;
    if (clock.now() - last < TELL_AGAIN_MS) return;
    this.#toldAtMs.set(key, clock.now());
    const message = `Volume ${name}: ${volumeCondition.message}`;
    events.record(pod, { type: 'Warning', reason: 'VolumeConditionAbnormal', message });
  }

  /** It may have grown since the pod started. */
  async #capacity({ persistentVolume, capacityBytes }: LocalUse): Promise<number> {
    const volume = await this.#options.objects
      .persistentVolume(persistentVolume)
      .catch(() => undefined);
    return volume ? sizeOf(volume.spec?.capacity?.['storage']) : capacityBytes;
  }

  async #tell(use: LocalUse, namespace: string, used: number, capacity: number): Promise<void> {
    const { clock, events, objects } = this.#options;
    const { persistentVolume, claim: name } = use;
    const last = this.#toldAtMs.get(persistentVolume) ?? Number.NEGATIVE_INFINITY;
    if (clock.now() - last < TELL_AGAIN_MS) return;
    this.#toldAtMs.set(persistentVolume, clock.now());
    const claim: PersistentVolumeClaim | undefined = await objects.claim(namespace, name);
    if (!claim) return;
    const message =
      `volume "${persistentVolume}" holds ${used} bytes, ${capacity} were asked for; ` +
      'directories of a node are counted, not limited: free space or ask for more';
    events.record(
      { ...claim, apiVersion: 'v1', kind: 'PersistentVolumeClaim' },
      { type: 'Warning', reason: 'VolumeOverCapacity', message },
    );
  }
}

/** A file system of its own says itself what it has. */
async function fileSystemFigures(path: string) {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(path);
  return {
    capacityBytes: blocks * bsize,
    availableBytes: bavail * bsize,
    usedBytes: (blocks - bfree) * bsize,
    inodes: files,
    inodesFree: ffree,
    inodesUsed: files - ffree,
  };
}

function csiFigures(
  { volume, claim, stats }: MeasuredVolume,
  time: string,
  namespace: string,
): VolumeFigures {
  const bytes = stats.usage.find(({ unit }) => unit === 'BYTES');
  const inodes = stats.usage.find(({ unit }) => unit === 'INODES');
  return {
    time,
    name: volume,
    pvcRef: { name: claim, namespace },
    ...(bytes
      ? { usedBytes: bytes.used, capacityBytes: bytes.total, availableBytes: bytes.available }
      : {}),
    ...(inodes
      ? { inodesUsed: inodes.used, inodes: inodes.total, inodesFree: inodes.available }
      : {}),
    ...(stats.volumeCondition
      ? { volumeHealthStats: { abnormal: stats.volumeCondition.abnormal } }
      : {}),
  };
}
