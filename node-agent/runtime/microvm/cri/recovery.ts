import { errorText } from '#base/log.ts';
import { follow, markExited } from './containers.ts';
import { createEntry, createPod, type Pod, type Runtime } from './pod.ts';
import { removePodSandbox, watchVm } from './sandboxes.ts';

/**
 * Takes up where an earlier life of the runtime was cut off: VMs that run are joined again with
 * their streams, ends that nobody saw are reported, and what was half made is taken away.
 */
export async function recover(runtime: Runtime): Promise<void> {
  const { records, vmm, log } = runtime;
  const vms = new Map((await vmm.findAll()).map((vm) => [vm.spec.id, vm]));
  for (const id of records.strays()) records.removeSandbox(id);
  for (const { sandbox, containers } of records.load()) {
    const pod = createPod(sandbox);
    for (const record of containers) pod.containers.set(record.id, createEntry(record));
    runtime.pods.set(sandbox.id, pod);
  }
  await Promise.all(
    [...runtime.pods.values()].map(async (pod) => {
      const { record } = pod;
      pod.vm = vms.get(record.id);
      vms.delete(record.id);
      if (record.state === 'creating') {
        await removePodSandbox(runtime, record.id).catch((error: unknown) =>
          log.warn('a half-made sandbox left something', {
            id: record.id,
            error: errorText(error),
          }),
        );
      } else if (record.state === 'ready') {
        await rejoin(runtime, pod);
      }
    }),
  );
  for (const [id, vm] of vms) {
    log.warn('stopping a microVM that belongs to no sandbox', { id });
    await vm.stop({ graceMs: 0 });
  }
}

async function rejoin(runtime: Runtime, pod: Pod): Promise<void> {
  const { vm, record } = pod;
  if (!vm) {
    record.state = 'stopped';
    record.reason = 'the microVM ended while its runtime was not running';
    for (const entry of pod.containers.values())
      markExited(runtime, entry, { code: 137, reason: 'Error', message: record.reason });
    runtime.records.saveSandbox(record);
    return;
  }
  for (const entry of pod.containers.values()) {
    const { image, imageLun, state, id } = entry.record;
    if (imageLun !== undefined) {
      const shared = pod.images.get(image.chainId);
      pod.images.set(image.chainId, {
        lun: Promise.resolve(imageLun),
        users: (shared?.users ?? 0) + 1,
      });
    }
    if (state !== 'running') continue;
    try {
      follow(runtime, { pod, entry }, await vm.guest.reattach(id));
    } catch (error) {
      runtime.log.warn('a container is lost', { id, error: errorText(error) });
      const message = `cannot be found again in its microVM: ${errorText(error)}`;
      markExited(runtime, entry, { code: 137, reason: 'Error', message });
    }
  }
  watchVm(runtime, pod);
}
