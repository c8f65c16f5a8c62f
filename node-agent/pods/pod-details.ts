import { readFileSync } from 'node:fs';
import { errorText } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import type { Usage } from '#node-agent/node/eviction.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { podUsage } from '#node-agent/pods/pod-usage.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import type { VolumeFigures } from '#node-agent/storage/volume-usage.ts';

/** Files of pods are walked at most so often, and only while somebody asks. */
const DISK_MS = 60_000;

export type NetworkInterface = {
  name: string;
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
};

/** Interfaces of /proc/<pid>/net/dev but for loopback. Source: proc_pid_net(5). */
export function parseNetDev(text: string): NetworkInterface[] {
  return text.split('\n').flatMap((line) => {
    const [head = '', tail] = line.split(':');
    const name = head.trim();
    if (tail === undefined || name === 'lo') return [];
    const n = tail.trim().split(/\s+/).map(Number);
    const at = (index: number): number => n[index] ?? 0;
    const [rxBytes, rxPackets, rxErrors, rxDropped] = [at(0), at(1), at(2), at(3)];
    const [txBytes, txPackets, txErrors, txDropped] = [at(8), at(9), at(10), at(11)];
    const rx = { rxBytes, rxPackets, rxErrors, rxDropped };
    return [{ name, ...rx, txBytes, txPackets, txErrors, txDropped }];
  });
}

/** What the runtime does not measure of pods: their network, and their files now and then. */
export class PodDetails {
  readonly #services: NodeServices;
  readonly #pods: () => Pod[];
  #usages: ReadonlyMap<string, Usage> = new Map();
  #walkedAtMs = 0;
  #walking = false;

  constructor(services: NodeServices, pods: () => Pod[]) {
    this.#services = services;
    this.#pods = pods;
  }

  /** Interfaces of a pod with a network of its own; undefined when it has none or nothing runs. */
  network(pod: Pod): NetworkInterface[] | undefined {
    if (pod.spec.hostNetwork) return undefined;
    const pid = this.#services.cgroups?.aProcess(pod.metadata.uid ?? '', qosClass(pod));
    if (!pid) return undefined;
    try {
      return parseNetDev(readFileSync(`/proc/${pid}/net/dev`, 'utf8'));
    } catch {
      return undefined; // it has ended
    }
  }

  /** What pods had on disk when it was last looked at; asking starts the next look. */
  disk(uid: string): Usage | undefined {
    const { clock, log } = this.#services;
    if (!this.#walking && clock.now() - this.#walkedAtMs >= DISK_MS) {
      this.#walking = true;
      podUsage(this.#pods(), this.#services)
        .then((usages) => (this.#usages = usages))
        .catch((error: unknown) =>
          log.warn('could not measure the files of pods', { error: errorText(error) }),
        )
        .finally(() => {
          this.#walking = false;
          this.#walkedAtMs = clock.now();
        });
    }
    return this.#usages.get(uid);
  }
}

/** The parts of a pod in /stats/summary that details tell. Source: kubelet stats/v1alpha1 PodStats. */
export function detailStats(
  time: string,
  network: readonly NetworkInterface[] | undefined,
  disk: Usage | undefined,
  fs: object,
  claims: readonly VolumeFigures[] = [],
): object {
  const [first] = network ?? [];
  const shown = (network ?? []).map(({ name, rxBytes, rxErrors, txBytes, txErrors }) => ({
    name,
    rxBytes,
    rxErrors,
    txBytes,
    txErrors,
  }));
  const volume = [
    ...[...(disk?.emptyDirBytes ?? [])].map(([name, usedBytes]) => ({
      ...fs,
      time,
      name,
      usedBytes,
    })),
    ...claims,
  ];
  return {
    ...(volume.length > 0 ? { volume } : {}),
    ...(first ? { network: { time, ...shown[0], interfaces: shown } } : {}),
    ...(disk
      ? {
          'ephemeral-storage': { ...fs, time, usedBytes: disk.diskBytes, inodesUsed: disk.inodes },
          process_stats: { process_count: disk.pids },
        }
      : {}),
  };
}
