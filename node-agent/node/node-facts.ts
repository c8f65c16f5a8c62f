import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import * as os from 'node:os';
import { readIfThere } from '#base/files.ts';
import { addAmounts, type Amounts, amountsOf } from '#api/pod-resources.ts';
import type { Node } from '#api/types.ts';
import {
  readThresholds,
  type Signal,
  type Threshold,
} from '#node-agent/node/eviction-thresholds.ts';

/** Set aside for the system, by resource name, as quantities. */
export type Reserved = Readonly<Record<string, string>>;

export type Capacity = { capacity: Record<string, string>; allocatable: Record<string, string> };

const MAX_PODS = 110;
/** Where the kernel tells of huge pages that were set aside, one folder for each size. */
const HUGEPAGES_DIR = '/sys/kernel/mm/hugepages';
/** Sizes that are named even where the machine has none. */
const USUAL_PAGES = ['hugepages-1Gi', 'hugepages-2Mi'];
const KIBI = 1024;

export type CapacityOptions = {
  reserved?: readonly Reserved[] | undefined;
  maxPods?: number | undefined;
  /** Pods cannot count on what the node frees by evicting them: the hard ones. */
  thresholds?: readonly Threshold[] | undefined;
};

/**
 * What the machine has, and what of it pods may use: all but what is reserved and what a hard
 * eviction threshold keeps free. Source: Kubernetes documentation, "Node Allocatable".
 */
export function readCapacity(
  rootDir: string,
  { reserved = [], maxPods = MAX_PODS, thresholds = readThresholds({}) }: CapacityOptions = {},
): Capacity {
  const disk = diskUsage(rootDir);
  const cpuMillis = os.availableParallelism() * 1000;
  const memoryBytes = meminfo().totalBytes;
  const less: Amounts = new Map();
  for (const list of reserved) addAmounts(less, amountsOf(list));
  const left = (name: string, amount: number): number =>
    Math.max(0, Math.floor(amount - (less.get(name) ?? 0)));
  const margin = (signal: Signal, totalBytes: number): number => {
    const least = thresholds.find((t) => t.signal === signal && t.graceMs === 0)?.least;
    if (!least) return 0;
    return 'share' in least ? totalBytes * least.share : least.value;
  };
  const kibi = (bytes: number): string => `${Math.floor(bytes / KIBI)}Ki`;
  const cpu = (millis: number): string =>
    millis % 1000 === 0 ? String(millis / 1000) : `${millis}m`;
  const hugePages = readHugePages();
  const hugeBytes = [...hugePages.values()].reduce((sum, bytes) => sum + bytes, 0);
  const huge = Object.fromEntries(
    [...hugePages].map(([name, bytes]) => [name, quantityOfBytes(bytes)]),
  );
  return {
    capacity: {
      cpu: cpu(cpuMillis),
      memory: kibi(memoryBytes),
      pods: String(maxPods),
      'ephemeral-storage': kibi(disk.totalBytes),
      ...huge,
    },
    allocatable: {
      cpu: cpu(left('cpu', cpuMillis)),
      // Huge pages are memory that nothing else can use.
      memory: kibi(
        left('memory', memoryBytes - margin('memory.available', memoryBytes) - hugeBytes),
      ),
      pods: String(maxPods),
      'ephemeral-storage': String(
        left('ephemeral-storage', disk.totalBytes - margin('nodefs.available', disk.totalBytes)),
      ),
      ...huge,
    },
  };
}

const quantityOfBytes = (bytes: number): string =>
  bytes === 0 ? '0' : `${bytes / (KIBI * KIBI)}Mi`;

/** Bytes of huge pages that were set aside, by resource name. */
export function readHugePages(dir = HUGEPAGES_DIR): Map<string, number> {
  const found = new Map(USUAL_PAGES.map((name) => [name, 0]));
  let folders: string[] = [];
  try {
    folders = readdirSync(dir);
  } catch {
    return found; // a kernel without them
  }
  for (const folder of folders) {
    const sizeKib = Number(/^hugepages-(\d+)kB$/.exec(folder)?.[1] ?? 0);
    if (sizeKib === 0) continue;
    const [unit, size] = sizeKib % (KIBI * KIBI) === 0 ? ['Gi', KIBI * KIBI] : ['Mi', KIBI];
    if (sizeKib % size !== 0) continue;
    const count = Number(readText(`${dir}/${folder}/nr_hugepages`));
    found.set(`hugepages-${sizeKib / size}${unit}`, count * sizeKib * KIBI);
  }
  return found;
}

export const allocatableAmounts = ({ allocatable }: Capacity): Amounts => amountsOf(allocatable);

export function meminfo(text = readFileSync('/proc/meminfo', 'utf8')): {
  totalBytes: number;
  availableBytes: number;
} {
  const value = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * KIBI;
  return { totalBytes: value('MemTotal'), availableBytes: value('MemAvailable') };
}

export type DiskUsage = {
  totalBytes: number;
  availableBytes: number;
  inodes: number;
  inodesFree: number;
};

export function diskUsage(dir: string): DiskUsage {
  const { bsize, blocks, bavail, files, ffree } = statfsSync(dir);
  return {
    totalBytes: blocks * bsize,
    availableBytes: bavail * bsize,
    inodes: files,
    inodesFree: ffree,
  };
}

/** Process ids: the kernel's most, and how many are taken. */
export function pidUsage(): { max: number; used: number } {
  const max = Number(readText('/proc/sys/kernel/pid_max'));
  const used = Number(readText('/proc/loadavg').split(' ')[3]?.split('/')[1] ?? 0);
  return { max, used };
}

export type NodeInfo = NonNullable<NonNullable<Node['status']>['nodeInfo']>;

export function readNodeInfo(
  runtime: { name: string; version: string },
  version: string,
): NodeInfo {
  return {
    architecture: architecture(),
    bootID: readText('/proc/sys/kernel/random/boot_id'),
    containerRuntimeVersion: `${runtime.name}://${runtime.version}`,
    kernelVersion: os.release(),
    kubeProxyVersion: '',
    kubeletVersion: version,
    machineID: readText('/etc/machine-id'),
    operatingSystem: 'linux',
    osImage: /^PRETTY_NAME="?([^"\n]*)/m.exec(readText('/etc/os-release'))?.[1] ?? 'Linux',
    systemUUID: readText('/sys/class/dmi/id/product_uuid') || readText('/etc/machine-id'),
  };
}

/** Whether the kernel enforces AppArmor profiles. */
export const hasAppArmor = (): boolean =>
  readText('/sys/module/apparmor/parameters/enabled').startsWith('Y');

/** The machine's architecture in Go's words, as labels have it. */
export function architecture(): string {
  const names: Record<string, string> = { x64: 'amd64', arm64: 'arm64', ia32: '386' };
  return names[process.arch] ?? process.arch;
}

/** Not every machine has every file. */
const readText = (path: string): string => readIfThere(path)?.trim() ?? '';
