import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { namesIn, writeAtomic } from '#base/files.ts';
import type { GuestProcess } from '#node-agent/runtime/microvm/machine.ts';
import type {
  ContainerConfig,
  LinuxContainerResources,
  PodSandboxConfig,
} from '#node-agent/runtime/service.ts';
import type { CniResult } from './cni.ts';
import type { VmSize } from './vm-size.ts';

/** A sandbox as it is remembered over restarts of the runtime. Times are milliseconds. */
export type SandboxRecord = {
  id: string;
  /** Of the sandbox's name, namespace, uid and attempt: only one at a time may have it. */
  key: string;
  config: PodSandboxConfig;
  handler: string;
  createdAtMs: number;
  /** `creating` after a restart means that it was cut off half way. */
  state: 'creating' | 'ready' | 'stopped';
  netns: string;
  cgroupPath: string;
  size: VmSize;
  network: CniResult | null;
  /** Why it stopped by itself. */
  reason: string;
};

export type ContainerRecord = {
  id: string;
  podId: string;
  config: ContainerConfig;
  image: { id: string; chainId: string };
  createdAtMs: number;
  startedAtMs: number;
  finishedAtMs: number;
  state: 'created' | 'running' | 'exited';
  exitCode: number;
  reason: string;
  message: string;
  /** Absolute; empty when nothing is to be kept. */
  logPath: string;
  process: GuestProcess;
  stopSignal: number;
  resources: LinuxContainerResources;
  /** LUN of its image in the VM. */
  imageLun?: number;
  /** LUN of the writable layer; undefined when writes go to memory or nowhere. */
  writableLun?: number;
  /** Block devices of the host as the guest has them. */
  devices?: { lun: number; path: string; mode: number }[];
};

/** Where one pod's files lie. */
export const podDirs = (podsDir: string, id: string) => {
  const dir = join(podsDir, id);
  return {
    dir,
    record: join(dir, 'sandbox.json'),
    containers: join(dir, 'containers'),
    /** What the guest sees. */
    share: join(dir, 'share'),
    /** Written by the runtime itself: resolv.conf, hostname. */
    files: join(dir, 'files'),
    disks: join(dir, 'disks'),
  };
};

/** Small JSON files, one for each sandbox and container, each written in one step. */
export type Records = {
  readonly podsDir: string;
  saveSandbox(record: SandboxRecord): void;
  saveContainer(record: ContainerRecord): void;
  removeContainer(record: ContainerRecord): void;
  /** Where it is kept how far the container's log has got. */
  positionPath(record: ContainerRecord): string;
  removeSandbox(id: string): void;
  load(): { sandbox: SandboxRecord; containers: ContainerRecord[] }[];
  /** Folders without a readable record: what a crash has left. */
  strays(): string[];
};

export function openRecords(podsDir: string): Records {
  mkdirSync(podsDir, { recursive: true, mode: 0o711 });
  const fileOf = ({ podId, id }: ContainerRecord): string =>
    join(podDirs(podsDir, podId).containers, `${id}.json`);
  const positionOf = ({ podId, id }: ContainerRecord): string =>
    join(podDirs(podsDir, podId).containers, `${id}.position`);
  const readSandbox = (id: string) => readJson<SandboxRecord>(podDirs(podsDir, id).record);
  return {
    podsDir,
    saveSandbox(record) {
      const dirs = podDirs(podsDir, record.id);
      for (const dir of [dirs.containers, dirs.share, dirs.files, dirs.disks])
        mkdirSync(dir, { recursive: true, mode: 0o711 });
      writeAtomic(dirs.record, JSON.stringify(record), { mode: 0o600 });
    },
    // Environment variables may be secrets.
    saveContainer: (record) => writeAtomic(fileOf(record), JSON.stringify(record), { mode: 0o600 }),
    removeContainer(record) {
      rmSync(fileOf(record), { force: true });
      rmSync(positionOf(record), { force: true });
    },
    positionPath: positionOf,
    removeSandbox: (id) => rmSync(podDirs(podsDir, id).dir, { recursive: true, force: true }),
    load() {
      return readdirSync(podsDir).flatMap((id) => {
        const sandbox = readSandbox(id);
        if (!sandbox) return [];
        const dir = podDirs(podsDir, id).containers;
        const containers = namesIn(dir)
          .filter((name) => name.endsWith('.json'))
          .flatMap((name) => readJson<ContainerRecord>(join(dir, name)) ?? []);
        return [{ sandbox, containers }];
      });
    },
    strays: () => readdirSync(podsDir).filter((id) => !readSandbox(id)),
  };
}

function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch {
    return undefined; // not there; half-written files do not occur
  }
}
