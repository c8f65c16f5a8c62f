import { errorText } from '#base/log.ts';
import type { GuestStats } from '#node-agent/runtime/microvm/machine.ts';
import type { Labels } from '#node-agent/runtime/service.ts';
import type { ContainerEntry, Found, Pod, Runtime } from './pod.ts';
import { podDirs } from './records.ts';

const NS_PER_MS = 1e6;

/** CRI's ContainerStats of a running container; undefined when its VM does not answer. */
export async function containerStats(
  runtime: Runtime,
  { pod, entry }: Found,
): Promise<object | undefined> {
  const { record } = entry;
  if (record.state !== 'running' || !pod.vm) return undefined;
  try {
    const stats = await pod.vm.guest.stats(record.id);
    return toCri(runtime, entry, stats);
  } catch (error) {
    runtime.log.debug('no usage from a microVM', { id: record.id, error: errorText(error) });
    return undefined;
  }
}

function toCri({ clock, records }: Runtime, entry: ContainerEntry, stats: GuestStats) {
  const { record } = entry;
  const atMs = clock.now();
  const timestamp = atMs * NS_PER_MS;
  const nanoCores = rate(entry, atMs, stats.cpuNanoseconds);
  const limit = record.resources.memoryLimitInBytes ?? 0;
  return {
    attributes: {
      id: record.id,
      metadata: record.config.metadata,
      labels: record.config.labels,
      annotations: record.config.annotations,
    },
    cpu: {
      timestamp,
      usageCoreNanoSeconds: { value: stats.cpuNanoseconds },
      ...(nanoCores === undefined ? {} : { usageNanoCores: { value: nanoCores } }),
    },
    memory: {
      timestamp,
      workingSetBytes: { value: stats.memoryWorkingSetBytes },
      usageBytes: { value: stats.memoryUsageBytes },
      rssBytes: { value: stats.memoryRssBytes },
      availableBytes: { value: limit > 0 ? Math.max(0, limit - stats.memoryWorkingSetBytes) : 0 },
      pageFaults: { value: 0 },
      majorPageFaults: { value: 0 },
    },
    writableLayer: {
      timestamp,
      fsId: { mountpoint: podDirs(records.podsDir, record.podId).disks },
      usedBytes: { value: stats.filesystemBytes },
      inodesUsed: { value: stats.filesystemInodes },
    },
  };
}

/** Thousandths of millionths of a core since the last time somebody asked. */
function rate(entry: ContainerEntry, atMs: number, nanoseconds: number): number | undefined {
  const before = entry.cpuSample;
  if (before && atMs - before.atMs < 1) return undefined;
  entry.cpuSample = { atMs, nanoseconds };
  if (!before) return undefined;
  return Math.max(
    0,
    Math.round((nanoseconds - before.nanoseconds) / ((atMs - before.atMs) / 1000)),
  );
}

type Sum = { cpu: number; cores: number; workingSet: number; usage: number; rss: number };

/** CRI's PodSandboxStats: what its containers use together, and the traffic of its interface. */
export async function podStats(runtime: Runtime, pod: Pod): Promise<object> {
  const { record } = pod;
  const entries = [...pod.containers.values()];
  const all = await Promise.all(entries.map((entry) => containerStats(runtime, { pod, entry })));
  const containers = all.filter((one): one is ReturnType<typeof toCri> => one !== undefined);
  const sum = containers.reduce<Sum>(
    (total, { cpu, memory }) => ({
      cpu: total.cpu + cpu.usageCoreNanoSeconds.value,
      cores: total.cores + (cpu.usageNanoCores?.value ?? 0),
      workingSet: total.workingSet + memory.workingSetBytes.value,
      usage: total.usage + memory.usageBytes.value,
      rss: total.rss + memory.rssBytes.value,
    }),
    { cpu: 0, cores: 0, workingSet: 0, usage: 0, rss: 0 },
  );
  const timestamp = runtime.clock.now() * NS_PER_MS;
  const link = pod.vm ? await runtime.network.traffic(record).catch(() => undefined) : undefined;
  const labels: Labels = record.config.labels;
  return {
    attributes: {
      id: record.id,
      metadata: record.config.metadata,
      labels,
      annotations: record.config.annotations,
    },
    linux: {
      cpu: {
        timestamp,
        usageCoreNanoSeconds: { value: sum.cpu },
        usageNanoCores: { value: sum.cores },
      },
      memory: {
        timestamp,
        workingSetBytes: { value: sum.workingSet },
        usageBytes: { value: sum.usage },
        rssBytes: { value: sum.rss },
      },
      ...(link
        ? {
            network: {
              timestamp,
              defaultInterface: {
                name: 'eth0',
                rxBytes: { value: link.rx.bytes },
                rxErrors: { value: link.rx.errors },
                txBytes: { value: link.tx.bytes },
                txErrors: { value: link.tx.errors },
              },
            },
          }
        : {}),
      containers,
    },
  };
}
