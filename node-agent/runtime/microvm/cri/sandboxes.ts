import { writeFileSync } from 'node:fs';
import { errorText } from '#base/log.ts';
import { type PodSandboxConfig, RuntimeError } from '#node-agent/runtime/service.ts';
import { unmountBelow } from '#node-agent/runtime/containerd-processes.ts';
import { killContainer, markExited, removeContainer } from './containers.ts';
import { createPod, findPod, type Pod, type Runtime, tell } from './pod.ts';
import { INTERFACE, netnsPath } from './pod-network.ts';
import { podDirs, type SandboxRecord } from './records.ts';
import { makeVmCgroup, ranOutOfMemory, removeVmCgroup, vmCgroup } from './vm-cgroup.ts';
import { vmSize } from './vm-size.ts';

/** What a guest gets to power off by itself when its pod is stopped: its containers are gone. */
const POWER_OFF_MS = 500;
/** The last of the kernel log that a status shows. */
const KERNEL_LOG_CHARS = 2_000;

/** Makes the network and the VM of a pod; undoes everything when a step fails. */
export async function runPodSandbox(
  runtime: Runtime,
  config: PodSandboxConfig,
  handler: string,
): Promise<string> {
  checkSandbox(config);
  const key = reservedName(config);
  for (const { record } of runtime.pods.values())
    if (record.key === key)
      throw new RuntimeError('Unknown', `name "${key}" is reserved for "${record.id}"`);
  const id = runtime.newId();
  const record: SandboxRecord = {
    id,
    key,
    config,
    handler,
    createdAtMs: runtime.clock.now(),
    state: 'creating',
    netns: netnsPath(id),
    cgroupPath: vmCgroup(config.linux.cgroupParent, id),
    size: vmSize(config.linux.resources ?? {}, runtime.hostCpus),
    network: null,
    reason: '',
  };
  const pod = createPod(record);
  runtime.pods.set(id, pod);
  try {
    await pod.serial(() => bringUp(runtime, pod));
  } catch (error) {
    await dismantle(runtime, pod).catch((left: unknown) =>
      runtime.log.warn('a failed sandbox left something', { id, error: errorText(left) }),
    );
    runtime.records.removeSandbox(id);
    runtime.pods.delete(id);
    throw error;
  }
  tell(runtime, 'created', record);
  tell(runtime, 'started', record);
  return id;
}

async function bringUp(runtime: Runtime, pod: Pod): Promise<void> {
  const { records, network, vmm, signal } = runtime;
  const { record } = pod;
  records.saveSandbox(record);
  writePodFiles(runtime, record);
  makeVmCgroup(record.cgroupPath);
  const networked = network.setUp(record).then((result) => {
    record.network = result;
    records.saveSandbox(record);
    return network.guestNetwork(record);
  });
  try {
    pod.vm = await vmm.start(
      {
        id: record.id,
        ...record.size,
        netnsPath: record.netns,
        interfaceName: INTERFACE,
        cgroupPath: record.cgroupPath,
        shareDir: podDirs(records.podsDir, record.id).share,
      },
      { signal, ready: networked },
    );
  } catch (error) {
    await networked.catch(() => undefined); // what is half made cannot be taken away
    throw error;
  }
  await pod.vm.guest.configure(await networked);
  record.state = 'ready';
  records.saveSandbox(record);
  watchVm(runtime, pod);
}

/** A panic begins with its reason, and its trace is longer than what is shown. */
export function lastWords(kernelLog: string): string {
  const text = kernelLog.replaceAll('\r', '').trim();
  const panic = text.search(/^.*Kernel panic - not syncing/m);
  if (panic >= 0) return text.slice(panic, panic + KERNEL_LOG_CHARS).trim();
  return text.slice(-KERNEL_LOG_CHARS);
}

/** Reports a VM that ends by itself: its containers have ended with it. */
export function watchVm(runtime: Runtime, pod: Pod): void {
  const { vm, record } = pod;
  void vm?.ended.then(({ reason, kernelLog }) => {
    if (pod.stopping || pod.vm !== vm || runtime.signal.aborted) return;
    pod.vm = undefined;
    const oom =
      ranOutOfMemory(record.cgroupPath) ||
      /Kernel panic.*(Out of memory|deadlocked on memory)/is.test(kernelLog);
    const log = lastWords(kernelLog);
    record.reason = `the microVM ended: ${reason}${log ? `\nlast kernel messages:\n${log}` : ''}`;
    runtime.log.warn('a microVM ended by itself', { id: record.id, reason });
    for (const entry of pod.containers.values())
      markExited(runtime, entry, {
        code: 137,
        reason: oom ? 'OOMKilled' : 'Error',
        message: record.reason,
      });
    record.state = 'stopped';
    runtime.records.saveSandbox(record);
    tell(runtime, 'stopped', record);
  });
}

/** Kills what runs and takes VM and network away; the records stay until the removal. */
export async function stopPodSandbox(runtime: Runtime, id: string): Promise<void> {
  const pod = findPod(runtime, id);
  if (!pod) return;
  await pod.serial(async () => {
    const wasReady = pod.record.state === 'ready';
    await dismantle(runtime, pod);
    if (pod.record.state === 'stopped' && !wasReady) return;
    pod.record.state = 'stopped';
    runtime.records.saveSandbox(pod.record);
    tell(runtime, 'stopped', pod.record);
  });
}

export async function removePodSandbox(runtime: Runtime, id: string): Promise<void> {
  const pod = findPod(runtime, id);
  if (!pod) return;
  await pod.serial(async () => {
    await dismantle(runtime, pod);
    for (const entry of pod.containers.values()) await removeContainer(runtime, pod, entry);
    runtime.records.removeSandbox(pod.record.id);
    runtime.pods.delete(pod.record.id);
    tell(runtime, 'deleted', pod.record);
  });
}

/** Takes away all that a sandbox has outside its folder. Idempotent; throws after having tried all. */
async function dismantle(runtime: Runtime, pod: Pod): Promise<void> {
  const { record } = pod;
  const { share } = podDirs(runtime.records.podsDir, record.id);
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<unknown>): Promise<void> => {
    await work().catch((error: unknown) => failures.push(error));
  };
  pod.stopping = true;
  await Promise.all(
    [...pod.containers.values()].map((entry) =>
      killContainer(runtime, { pod, entry }).catch(() => undefined),
    ),
  );
  const { vm } = pod;
  if (vm) {
    await attempt(() => vm.stop({ graceMs: POWER_OFF_MS }));
    pod.vm = undefined;
    for (const entry of pod.containers.values())
      markExited(runtime, entry, { code: 137, reason: 'Error', message: '' });
  }
  await attempt(() => runtime.network.tearDown(record));
  await attempt(() => unmountBelow([share]));
  removeVmCgroup(record.cgroupPath);
  if (failures.length > 0)
    throw new RuntimeError(
      'Unknown',
      `cannot stop sandbox ${record.id}: ${errorText(failures[0])}`,
      {
        cause: failures[0],
      },
    );
}

/** Throws RuntimeError for what a VM cannot give a pod. */
export function checkSandbox({ metadata, linux }: PodSandboxConfig): void {
  const { network, pid, ipc } = linux.securityContext.namespaceOptions ?? {};
  const refuse = (field: string): never => {
    throw new RuntimeError(
      'Unknown',
      `pod ${metadata.namespace}/${metadata.name}: spec.${field} cannot be given to a microVM, ` +
        'which has a kernel of its own; leave it out or use runtimeClassName: container',
    );
  };
  if (network === 'NODE') refuse('hostNetwork');
  if (pid === 'NODE') refuse('hostPID');
  if (ipc === 'NODE') refuse('hostIPC');
}

const reservedName = ({ metadata }: PodSandboxConfig): string =>
  [metadata.name, metadata.namespace, metadata.uid, metadata.attempt].join('_');

/** The files that a pod's containers share, as container runtimes write them. */
function writePodFiles({ records }: Runtime, { id, config }: SandboxRecord): void {
  const { files } = podDirs(records.podsDir, id);
  const { servers = [], searches = [], options = [] } = config.dnsConfig ?? {};
  const lines = [
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
  ];
  writeFileSync(`${files}/resolv.conf`, lines.map((line) => `${line}\n`).join(''));
  writeFileSync(`${files}/hostname`, `${config.hostname}\n`);
}
