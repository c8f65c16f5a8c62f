import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { MicrovmImages } from '#node-agent/runtime/microvm/images/image-service.ts';
import type { Vm, Vmm } from '#node-agent/runtime/microvm/machine.ts';
import { RuntimeError } from '#node-agent/runtime/service.ts';
import type { ContainerOutput } from './container-output.ts';
import type { PodEvent, PodEvents } from './events.ts';
import type { PodNetwork } from './pod-network.ts';
import type { ContainerRecord, Records, SandboxRecord } from './records.ts';

/** A sandbox while the runtime lives; what must outlive it is in the records. */
export type Pod = {
  record: SandboxRecord;
  vm: Vm | undefined;
  containers: Map<string, ContainerEntry>;
  /** Image disks of the VM by chain id, with how many containers use each. */
  images: Map<string, { lun: Promise<number>; users: number }>;
  /** Runs one after another what must not meet: stop, remove, changes of disks. */
  serial: <T>(work: () => Promise<T>) => Promise<T>;
  /** Its own end is expected now. */
  stopping: boolean;
};

export type ContainerEntry = {
  record: ContainerRecord;
  output: ContainerOutput | undefined;
  /** Resolves when the container is no longer running. */
  exited: PromiseWithResolvers<void>;
  cpuSample: { atMs: number; nanoseconds: number } | undefined;
};

/** Everything that calls share. */
export type Runtime = {
  vmm: Vmm;
  images: MicrovmImages;
  records: Records;
  network: PodNetwork;
  pods: Map<string, Pod>;
  events: PodEvents;
  hostCpus: number;
  clock: Clock;
  log: Log;
  /** Random hexadecimal id of 64 digits. */
  newId: () => string;
  signal: AbortSignal;
};

export function createPod(record: SandboxRecord): Pod {
  let last: Promise<unknown> = Promise.resolve();
  return {
    record,
    vm: undefined,
    containers: new Map(),
    images: new Map(),
    serial(work) {
      const next = last.then(work, work);
      last = next.catch(() => undefined);
      return next;
    },
    stopping: false,
  };
}

export const createEntry = (record: ContainerRecord): ContainerEntry => ({
  record,
  output: undefined,
  exited: Promise.withResolvers<void>(),
  cpuSample: undefined,
});

/** By its id or a beginning of it that means only one, as command-line tools give it. */
export function findPod(runtime: Pick<Runtime, 'pods'>, id: string): Pod | undefined {
  return runtime.pods.get(id) ?? onlyOne(runtime.pods, id);
}

export function requirePod(runtime: Pick<Runtime, 'pods'>, id: string): Pod {
  const pod = findPod(runtime, id);
  if (!pod) throw new RuntimeError('NotFound', `sandbox "${id}" not found`);
  return pod;
}

export type Found = { pod: Pod; entry: ContainerEntry };

export function findContainer(runtime: Pick<Runtime, 'pods'>, id: string): Found | undefined {
  const found: Found[] = [];
  for (const pod of runtime.pods.values()) {
    const exact = pod.containers.get(id);
    if (exact) return { pod, entry: exact };
    const entry = onlyOne(pod.containers, id);
    if (entry) found.push({ pod, entry });
  }
  return found.length === 1 ? found[0] : undefined;
}

export function requireContainer(runtime: Pick<Runtime, 'pods'>, id: string): Found {
  const found = findContainer(runtime, id);
  if (!found) throw new RuntimeError('NotFound', `container "${id}" not found`);
  return found;
}

/** The VM of a container that runs. Throws RuntimeError otherwise. */
export function runningVm({ pod, entry }: Found): Vm {
  const { record } = entry;
  if (record.state !== 'running' || !pod.vm)
    throw new RuntimeError('Unknown', `container ${record.id} is not running (${record.state})`);
  return pod.vm;
}

function onlyOne<T>(all: ReadonlyMap<string, T>, prefix: string): T | undefined {
  if (prefix === '') return undefined;
  const found = [...all].filter(([id]) => id.startsWith(prefix));
  return found.length === 1 ? found[0]?.[1] : undefined;
}

export function tell(
  { events, clock }: Pick<Runtime, 'events' | 'clock'>,
  type: PodEvent['type'],
  record: ContainerRecord | SandboxRecord,
): void {
  const podId = 'podId' in record ? record.podId : record.id;
  events.emit({ type, containerId: record.id, podId, atMs: clock.now() });
}
