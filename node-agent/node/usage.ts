import { readFileSync } from 'node:fs';
import type { Clock } from '#base/clock.ts';
import { diskUsage, meminfo } from '#node-agent/node/node-facts.ts';
import { type ContainerStats, LABEL, type RuntimeService } from '#node-agent/runtime/service.ts';

/** A rate over less time than this would be mostly noise. */
const MIN_WINDOW_MS = 900;
/** Jiffies per second of /proc/stat on every Linux that Node runs on. */
const JIFFIES = 100;

type Counter = { atMs: number; coreNs: number };

export type CpuUsage = { time: string; usageNanoCores?: number; usageCoreNanoSeconds: number };
export type MemoryUsage = {
  time: string;
  availableBytes?: number;
  usageBytes: number;
  workingSetBytes: number;
  rssBytes: number;
  pageFaults: number;
  majorPageFaults: number;
};

export type ContainerUsage = {
  name: string;
  cpu: CpuUsage;
  memory: MemoryUsage;
  rootfsBytes: number;
  rootfsInodes: number;
};

export type PodUsage = {
  podRef: { name: string; namespace: string; uid: string };
  containers: ContainerUsage[];
};

export type NodeUsage = { cpu: CpuUsage; memory: MemoryUsage };

/** Measures containers through the runtime, and the node through /proc. */
export class UsageMeter {
  readonly #runtime: RuntimeService;
  readonly #clock: Clock;
  /** Two counter values make a rate: the newest, and one that is old enough. */
  readonly #counters = new Map<string, { older: Counter; newer: Counter }>();

  readonly #startedAtMs: (containerId: string) => number | undefined;

  /** `startedAtMs` tells when a container began: its first rate is that since then. */
  constructor(
    runtime: RuntimeService,
    clock: Clock,
    startedAtMs: (containerId: string) => number | undefined = () => undefined,
  ) {
    this.#runtime = runtime;
    this.#clock = clock;
    this.#startedAtMs = startedAtMs;
  }

  node(): NodeUsage {
    const now = this.#clock.now();
    const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (
      readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? ''
    )
      .split(/\s+/)
      .map(Number);
    const coreNs = (user + nice + system + irq + softirq + steal) * (1e9 / JIFFIES);
    const { totalBytes, availableBytes } = meminfo();
    return {
      cpu: this.#cpu('node', { atMs: now, coreNs }, 0),
      memory: {
        time: isoTime(now),
        availableBytes,
        usageBytes: totalBytes - availableBytes,
        workingSetBytes: totalBytes - availableBytes,
        rssBytes: totalBytes - availableBytes,
        pageFaults: 0,
        majorPageFaults: 0,
      },
    };
  }

  async pods(): Promise<PodUsage[]> {
    const stats = await this.#runtime.listContainerStats();
    const seen = new Set<string>(['node']);
    const pods = new Map<string, PodUsage>();
    for (const one of stats) {
      const { labels, id, metadata } = one.attributes;
      const uid = labels[LABEL.podUid];
      if (!uid || !one.cpu || !one.memory) continue;
      seen.add(id);
      const pod = pods.get(uid) ?? {
        podRef: {
          name: labels[LABEL.podName] ?? '',
          namespace: labels[LABEL.podNamespace] ?? '',
          uid,
        },
        containers: [],
      };
      pods.set(uid, pod);
      pod.containers.push(this.#container(metadata.name, id, one));
    }
    for (const id of this.#counters.keys()) if (!seen.has(id)) this.#counters.delete(id);
    return [...pods.values()];
  }

  #container(name: string, id: string, { cpu, memory, writableLayer }: ContainerStats) {
    const atMs = (cpu?.timestamp ?? 0) / 1e6;
    const coreNs = cpu?.usageCoreNanoSeconds?.value ?? 0;
    return {
      name,
      cpu: this.#cpu(id, { atMs, coreNs }, cpu?.usageNanoCores?.value ?? 0),
      memory: {
        time: isoTime((memory?.timestamp ?? 0) / 1e6),
        usageBytes: memory?.usageBytes?.value ?? 0,
        workingSetBytes: memory?.workingSetBytes?.value ?? 0,
        rssBytes: memory?.rssBytes?.value ?? 0,
        pageFaults: memory?.pageFaults?.value ?? 0,
        majorPageFaults: memory?.majorPageFaults?.value ?? 0,
      },
      rootfsBytes: writableLayer?.usedBytes?.value ?? 0,
      rootfsInodes: writableLayer?.inodesUsed?.value ?? 0,
    };
  }

  #cpu(id: string, now: Counter, reported: number): CpuUsage {
    const known = this.#counters.get(id);
    const startMs = this.#startedAtMs(id);
    const start = startMs ? { atMs: startMs, coreNs: 0 } : now;
    if (!known) this.#counters.set(id, { older: start, newer: now });
    else if (now.atMs - known.newer.atMs >= MIN_WINDOW_MS)
      this.#counters.set(id, { older: known.newer, newer: now });
    const { older, newer } = this.#counters.get(id) ?? { older: start, newer: now };
    const ms = newer.atMs - older.atMs;
    const rate = ms >= MIN_WINDOW_MS ? ((newer.coreNs - older.coreNs) / ms) * 1000 : reported;
    return {
      time: isoTime(now.atMs),
      usageCoreNanoSeconds: now.coreNs,
      // Zero from a runtime that has measured only once says nothing.
      ...(ms >= MIN_WINDOW_MS || reported > 0
        ? { usageNanoCores: Math.max(0, Math.round(rate)) }
        : {}),
    };
  }
}

const isoTime = (ms: number): string => new Date(ms).toISOString();

/** The kubelet's /stats/summary. Source: kubelet stats/v1alpha1 Summary. */
export function statsSummary(
  nodeName: string,
  rootDir: string,
  node: NodeUsage,
  pods: readonly PodUsage[],
  /** Further parts of a pod, by uid, given the figures of the filesystem. */
  details: (
    uid: string,
    fs: object,
  ) => { pod: object; container: (name: string) => object } = () => ({
    pod: {},
    container: () => ({}),
  }),
): object {
  const disk = diskUsage(rootDir);
  const fs = {
    time: node.memory.time,
    capacityBytes: disk.totalBytes,
    availableBytes: disk.availableBytes,
    usedBytes: disk.totalBytes - disk.availableBytes,
    inodes: disk.inodes,
    inodesFree: disk.inodesFree,
    inodesUsed: disk.inodes - disk.inodesFree,
  };
  return {
    node: { nodeName, cpu: node.cpu, memory: node.memory, fs, runtime: { imageFs: fs } },
    pods: pods.map(({ podRef, containers }) => {
      const more = details(podRef.uid, fs);
      return {
        podRef,
        containers: containers.map(({ name, cpu, memory, rootfsBytes, rootfsInodes }) => ({
          name,
          cpu,
          memory,
          rootfs: { ...fs, usedBytes: rootfsBytes, inodesUsed: rootfsInodes },
          ...more.container(name),
        })),
        cpu: sumCpu(containers),
        memory: sumMemory(containers),
        ...more.pod,
      };
    }),
  };
}

function sumCpu(containers: readonly ContainerUsage[]): CpuUsage | undefined {
  const [first] = containers;
  if (!first) return undefined;
  const sum = (of: (cpu: CpuUsage) => number | undefined): number =>
    containers.reduce((total, { cpu }) => total + (of(cpu) ?? 0), 0);
  const known = containers.every(({ cpu }) => cpu.usageNanoCores !== undefined);
  return {
    time: first.cpu.time,
    usageCoreNanoSeconds: sum((cpu) => cpu.usageCoreNanoSeconds),
    ...(known ? { usageNanoCores: sum((cpu) => cpu.usageNanoCores) } : {}),
  };
}

function sumMemory(containers: readonly ContainerUsage[]): MemoryUsage | undefined {
  const [first] = containers;
  if (!first) return undefined;
  const sum = (name: Exclude<keyof MemoryUsage, 'time'>): number =>
    containers.reduce((total, { memory }) => total + (memory[name] ?? 0), 0);
  return {
    time: first.memory.time,
    usageBytes: sum('usageBytes'),
    workingSetBytes: sum('workingSetBytes'),
    rssBytes: sum('rssBytes'),
    pageFaults: sum('pageFaults'),
    majorPageFaults: sum('majorPageFaults'),
  };
}

/** The kubelet's /metrics/resource, in Prometheus' text format. */
export function resourceMetrics(node: NodeUsage, pods: readonly PodUsage[]): string {
  const lines: string[] = [];
  const family = (name: string, type: string, help: string, samples: readonly string[]): void => {
    if (samples.length === 0) return;
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const sample of samples) lines.push(`${name}${sample}`);
  };
  const seconds = (ns: number): number => ns / 1e9;
  const each = (value: (c: ContainerUsage) => number): string[] =>
    pods.flatMap(({ podRef, containers }) =>
      containers.map(
        (c) =>
          `{container="${c.name}",namespace="${podRef.namespace}",pod="${podRef.name}"} ${value(c)}`,
      ),
    );
  const perPod = (value: (c: ContainerUsage) => number): string[] =>
    pods.map(
      ({ podRef, containers }) =>
        `{namespace="${podRef.namespace}",pod="${podRef.name}"} ${containers.reduce((sum, c) => sum + value(c), 0)}`,
    );
  const cpu = (c: ContainerUsage): number => seconds(c.cpu.usageCoreNanoSeconds);
  const memory = (c: ContainerUsage): number => c.memory.workingSetBytes;
  family('node_cpu_usage_seconds_total', 'counter', 'CPU time used by the node', [
    ` ${seconds(node.cpu.usageCoreNanoSeconds)}`,
  ]);
  family('node_memory_working_set_bytes', 'gauge', 'Working set of the node', [
    ` ${node.memory.workingSetBytes}`,
  ]);
  family('container_cpu_usage_seconds_total', 'counter', 'CPU time used by a container', each(cpu));
  family('container_memory_working_set_bytes', 'gauge', 'Working set of a container', each(memory));
  family('pod_cpu_usage_seconds_total', 'counter', 'CPU time used by a pod', perPod(cpu));
  family('pod_memory_working_set_bytes', 'gauge', 'Working set of a pod', perPod(memory));
  family('resource_scrape_error', 'gauge', '1 when something could not be measured', [' 0']);
  return `${lines.join('\n')}\n`;
}
