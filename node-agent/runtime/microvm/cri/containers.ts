import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '#base/log.ts';
import type { ImageInUse } from '#node-agent/runtime/microvm/images/image-service.ts';
import type {
  GuestExit,
  GuestLimits,
  GuestProcess,
  Vm,
} from '#node-agent/runtime/microvm/machine.ts';
import { seccompFilter } from '#node-agent/runtime/microvm/seccomp/profile.ts';
import {
  type ContainerConfig,
  type LinuxContainerResources,
  RuntimeError,
} from '#node-agent/runtime/service.ts';
import { linuxSignalOfCri } from '#node-agent/containers/stop-signal.ts';
import { bindAll, hostKind, unbind } from './binds.ts';
import { ContainerOutput } from './container-output.ts';
import { openLogFile } from './log-file.ts';
import { cutTo, openPosition, readPosition } from './log-position.ts';
import { mountPlan } from './mount-plan.ts';
import {
  type ContainerEntry,
  createEntry,
  type Found,
  type Pod,
  type Runtime,
  tell,
} from './pod.ts';
import { processPlan, stopSignalOf } from './process-plan.ts';
import { type ContainerRecord, podDirs } from './records.ts';
import { resolveUser } from './users.ts';
import { makeWritableDisk } from './writable-disk.ts';

/** After SIGKILL only the guest's own trouble keeps a process from ending. */
const KILL_WAIT_MS = 10_000;
/** Output may still be on its way when a process has ended. */
const DRAIN_MS = 2_000;
const SIGKILL = 9;
/** Of one container, so that a fork bomb leaves room for the guest's agent. */
const MAX_PROCESSES = 4096;
const MIB = 1024 * 1024;

/** Prepares a container: its disks, mounts and first process. Undoes all when a step fails. */
export async function createContainer(
  runtime: Runtime,
  pod: Pod,
  config: ContainerConfig,
): Promise<string> {
  const { vm } = pod;
  if (pod.record.state !== 'ready' || !vm)
    throw new RuntimeError('Unknown', `sandbox ${pod.record.id} is not running`);
  for (const { record } of pod.containers.values())
    if (sameName(record.config, config))
      throw new RuntimeError(
        'Unknown',
        `name "${config.metadata.name}_${config.metadata.attempt}" is reserved for "${record.id}"`,
      );
  const image = runtime.images.open(config.image.image);
  const record = containerRecord(runtime, pod, config, image);
  checkMemory(pod, config.linux.resources);
  const entry = createEntry(record);
  pod.containers.set(record.id, entry);
  try {
    await assemble(runtime, { pod, entry, vm, image });
    runtime.records.saveContainer(record);
  } catch (error) {
    await takeApart(runtime, pod, entry).catch(() => undefined);
    pod.containers.delete(record.id);
    throw asRuntimeError(error);
  }
  tell(runtime, 'created', record);
  return record.id;
}

function containerRecord(
  runtime: Runtime,
  pod: Pod,
  config: ContainerConfig,
  image: ImageInUse,
): ContainerRecord {
  const sandbox = pod.record.config;
  const wish = config.linux.securityContext;
  let process: GuestProcess;
  try {
    const { user, home } = resolveUser(wish, image.settings.User ?? '', image.facts);
    const { hostname } = sandbox;
    process = processPlan({ config, image: image.settings, user, home, hostname });
  } catch (error) {
    throw asRuntimeError(error);
  }
  return {
    id: runtime.newId(),
    podId: pod.record.id,
    config,
    image: { id: image.id, chainId: image.chainId },
    createdAtMs: runtime.clock.now(),
    startedAtMs: 0,
    finishedAtMs: 0,
    state: 'created',
    exitCode: 0,
    reason: '',
    message: '',
    logPath:
      config.logPath && sandbox.logDirectory ? join(sandbox.logDirectory, config.logPath) : '',
    process,
    stopSignal: linuxSignalOfCri(config.stopSignal ?? 0) ?? stopSignalOf(image.settings.StopSignal),
    resources: config.linux.resources,
  };
}

async function assemble(
  runtime: Runtime,
  { pod, entry, vm, image }: Found & { vm: Vm; image: ImageInUse },
): Promise<void> {
  const { record } = entry;
  const { config, id } = record;
  const dirs = podDirs(runtime.records.podsDir, pod.record.id);
  const context = config.linux.securityContext;
  const plan = mountPlan({
    containerId: id,
    mounts: config.mounts,
    podFiles: [
      { containerPath: '/etc/resolv.conf', hostPath: join(dirs.files, 'resolv.conf') },
      { containerPath: '/etc/hostname', hostPath: join(dirs.files, 'hostname') },
    ],
    kindOf: hostKind,
  });
  const readonlyRootfs = context.readonlyRootfs ?? false;
  // All settle before a failure is told: what was added by then must be known to be taken away.
  const steps = await Promise.allSettled([
    bindAll(dirs.share, plan),
    imageDisk(pod, vm, image).then((lun) => (record.imageLun = lun)),
    readonlyRootfs
      ? undefined
      : writableDisk(runtime, vm, join(dirs.disks, `${id}.ext4`)).then(
          (lun) => (record.writableLun = lun),
        ),
    ...config.devices.map(async (device) => {
      const disk = await deviceDisk(vm, device);
      (record.devices ??= []).push(disk);
    }),
  ]);
  const failed = steps.find((step) => step.status === 'rejected');
  if (failed) throw failed.reason;
  const { imageLun, writableLun, devices = [] } = record;
  if (imageLun === undefined) throw new Error('the image has no disk');
  const { pid, targetId } = context.namespaceOptions ?? {};
  await vm.guest.createContainer({
    id,
    rootfs: {
      lun: imageLun,
      filesystem: 'erofs',
      writable: writableLun === undefined ? 'memory' : { lun: writableLun },
    },
    readonlyRootfs,
    process: record.process,
    mounts: plan.guest,
    devices,
    limits: limitsOf(record.resources),
    pidNamespace: pid === 'TARGET' ? { container: targetId ?? '' } : pid === 'POD' ? 'pod' : 'own',
    maskedPaths: context.maskedPaths ?? [],
    readonlyPaths: context.readonlyPaths ?? [],
    seccompFilter: seccompFilter(context, record.process.capabilities),
    privileged: context.privileged ?? false,
  });
}

/** The disk of an image, added to a VM once however many containers use it. */
async function imageDisk(pod: Pod, vm: Vm, image: ImageInUse): Promise<number> {
  const { chainId } = image;
  let shared = pod.images.get(chainId);
  if (!shared) {
    shared = { lun: vm.addDisk({ path: image.file, readonly: true }), users: 0 };
    pod.images.set(chainId, shared);
  }
  shared.users++;
  try {
    return await shared.lun;
  } catch (error) {
    pod.images.delete(chainId);
    throw error;
  }
}

async function writableDisk(runtime: Runtime, vm: Vm, path: string): Promise<number> {
  await makeWritableDisk(runtime.records.podsDir, path);
  return vm.addDisk({ path, readonly: false });
}

async function deviceDisk(
  vm: Vm,
  device: ContainerConfig['devices'][number],
): Promise<{ lun: number; path: string; mode: number }> {
  const { hostPath, containerPath, permissions } = device;
  if (hostKind(hostPath) !== 'block')
    throw new RuntimeError(
      'Unknown',
      `device ${hostPath}: only block devices can be given to a microVM`,
    );
  const readonly = !permissions.includes('w');
  const lun = await vm.addDisk({ path: hostPath, readonly });
  return { lun, path: containerPath, mode: readonly ? 0o440 : 0o660 };
}

export async function startContainer(runtime: Runtime, { pod, entry }: Found): Promise<void> {
  const { record } = entry;
  const { vm } = pod;
  if (record.state !== 'created' || !vm)
    throw new RuntimeError(
      'Unknown',
      `container ${record.id} cannot be started: it is ${record.state}`,
    );
  try {
    const streams = await vm.guest.startContainer(record.id);
    record.startedAtMs = runtime.clock.now();
    record.state = 'running';
    runtime.records.saveContainer(record);
    follow(runtime, { pod, entry }, streams);
    tell(runtime, 'started', record);
  } catch (error) {
    record.startedAtMs = runtime.clock.now();
    const failed = { code: 128, reason: 'StartError', message: errorText(error) };
    markExited(runtime, entry, failed);
    throw asRuntimeError(error);
  }
}

/** Takes a container's streams into its log, and its exit into its record. */
export function follow(
  runtime: Runtime,
  { entry }: Found,
  streams: ContainerOutput['streams'],
): void {
  const { record } = entry;
  const { clock, log } = runtime;
  const positionPath = runtime.records.positionPath(record);
  const earlier = readPosition(positionPath);
  if (earlier && record.logPath) cutTo(earlier, record.logPath);
  const file = openLogFile(record.logPath, {
    clock,
    onError: (error) =>
      log.warn('cannot write a log', { path: record.logPath, error: errorText(error) }),
  });
  const output = new ContainerOutput(
    streams,
    { file, position: openPosition(positionPath), earlier },
    runtime,
  );
  entry.output = output;
  void streams.exit.then(
    async (exit: GuestExit) => {
      const limit = new AbortController();
      await Promise.race([
        output.done,
        clock.sleep(DRAIN_MS, { signal: limit.signal }).catch(() => undefined),
      ]);
      limit.abort();
      if (runtime.signal.aborted) return;
      const reason = exit.oomKilled ? 'OOMKilled' : exit.code === 0 ? 'Completed' : 'Error';
      markExited(runtime, entry, { code: exit.code, reason, message: '' }, exit.finishedAtMs);
    },
    // The VM is gone; watchVm tells how.
    () => undefined,
  );
}

export function markExited(
  runtime: Runtime,
  entry: ContainerEntry,
  exit: { code: number; reason: string; message: string },
  finishedAtMs = runtime.clock.now(),
): void {
  const { record } = entry;
  if (record.state === 'exited') return;
  record.state = 'exited';
  record.exitCode = exit.code;
  record.reason = exit.reason;
  record.message = exit.message;
  // A guest's clock may be a little behind.
  record.finishedAtMs = Math.max(finishedAtMs, record.startedAtMs);
  runtime.records.saveContainer(record);
  entry.exited.resolve();
  tell(runtime, 'stopped', record);
}

/** Asks it to end, and kills it when the time is over; several may ask at once. */
export async function stopContainer(
  runtime: Runtime,
  found: Found,
  timeoutMs: number,
): Promise<void> {
  const { pod, entry } = found;
  const { record } = entry;
  if (record.state !== 'running' || !pod.vm) return;
  if (timeoutMs > 0) {
    await pod.vm.guest.signal(record.id, record.stopSignal, { all: false }).catch(ifOver(entry));
    if (await exitedWithin(runtime, entry, timeoutMs)) return;
  }
  await killContainer(runtime, found);
}

export async function killContainer(runtime: Runtime, { pod, entry }: Found): Promise<void> {
  const { record } = entry;
  if (record.state !== 'running' || !pod.vm) return;
  await pod.vm.guest.signal(record.id, SIGKILL, { all: true }).catch(ifOver(entry));
  if (await exitedWithin(runtime, entry, KILL_WAIT_MS)) return;
  throw new RuntimeError('DeadlineExceeded', `container ${record.id} does not end after SIGKILL`);
}

/** A process that has just ended cannot be signalled; that is no failure. */
const ifOver =
  ({ record }: ContainerEntry) =>
  (error: unknown): void => {
    if (
      record.state === 'running' &&
      !/no such process|not running|not found/i.test(errorText(error))
    )
      throw asRuntimeError(error);
  };

async function exitedWithin(
  { clock }: Runtime,
  entry: ContainerEntry,
  timeoutMs: number,
): Promise<boolean> {
  const limit = new AbortController();
  await Promise.race([
    entry.exited.promise,
    clock.sleep(timeoutMs, { signal: limit.signal }).catch(() => undefined),
  ]);
  limit.abort();
  return entry.record.state !== 'running';
}

/** Removes a container, a running one by force. */
export async function removeContainer(
  runtime: Runtime,
  pod: Pod,
  entry: ContainerEntry,
): Promise<void> {
  await killContainer(runtime, { pod, entry });
  await takeApart(runtime, pod, entry);
  runtime.records.removeContainer(entry.record);
  pod.containers.delete(entry.record.id);
  runtime.images.collect();
  tell(runtime, 'deleted', entry.record);
}

async function takeApart(runtime: Runtime, pod: Pod, { record }: ContainerEntry): Promise<void> {
  const { share, disks } = podDirs(runtime.records.podsDir, pod.record.id);
  const { vm } = pod;
  if (vm) {
    await vm.guest
      .removeContainer(record.id)
      .catch((error: unknown) =>
        runtime.log.debug('the guest cannot remove a container', { error: errorText(error) }),
      );
    const own = [record.writableLun, ...(record.devices ?? []).map(({ lun }) => lun)];
    for (const lun of own) if (lun !== undefined) await vm.removeDisk(lun).catch(() => undefined);
    await releaseImage(pod, vm, record);
  }
  await unbind(join(share, record.id));
  rmSync(join(disks, `${record.id}.ext4`), { force: true });
}

async function releaseImage(pod: Pod, vm: Vm, { imageLun, image }: ContainerRecord): Promise<void> {
  const shared = pod.images.get(image.chainId);
  if (imageLun === undefined || !shared) return;
  shared.users--;
  if (shared.users > 0) return;
  pod.images.delete(image.chainId);
  await vm.removeDisk(imageLun).catch(() => undefined); // the VM may be going
}

/** In place, within what the VM was given. */
export async function updateResources(
  runtime: Runtime,
  { pod, entry }: Found,
  change: LinuxContainerResources,
): Promise<void> {
  checkMemory(pod, change);
  const { record } = entry;
  const given = Object.fromEntries(
    Object.entries(change).filter(([, value]) => typeof value !== 'number' || value !== 0),
  );
  const resources = { ...record.resources, ...given };
  if (record.state !== 'exited' && pod.vm)
    await pod.vm.guest.update(record.id, limitsOf(resources));
  record.resources = resources;
  runtime.records.saveContainer(record);
}

function checkMemory({ record }: Pod, { memoryLimitInBytes = 0 }: LinuxContainerResources): void {
  const { memoryMib } = record.size;
  if (memoryLimitInBytes > memoryMib * MIB)
    throw new RuntimeError(
      'Unknown',
      `a memory limit of ${Math.ceil(memoryLimitInBytes / MIB)} MiB is more than the ` +
        `${memoryMib} MiB that the pod's microVM was started with; delete the pod to get a larger one`,
    );
}

/** CRI's zero means "not said"; a negative number is "no limit". */
export function limitsOf(resources: LinuxContainerResources): GuestLimits {
  const { cpuShares, cpuQuota, cpuPeriod, memoryLimitInBytes } = resources;
  return {
    ...(cpuShares ? { cpuShares } : {}),
    ...(cpuQuota ? { cpuQuota } : {}),
    ...(cpuPeriod ? { cpuPeriod } : {}),
    ...(memoryLimitInBytes ? { memoryBytes: memoryLimitInBytes } : {}),
    pids: MAX_PROCESSES,
  };
}

const sameName = (a: ContainerConfig, b: ContainerConfig): boolean =>
  a.metadata.name === b.metadata.name && a.metadata.attempt === b.metadata.attempt;

function asRuntimeError(error: unknown): RuntimeError {
  if (error instanceof RuntimeError) return error;
  return new RuntimeError('Unknown', errorText(error), { cause: error });
}
