/** QEMU's command line as a function of what is wanted; paths are those inside its jail. */

/** Inside the jail (vmm/jail.c): the VM's own folder, what it shares, the guest's files. */
export const JAILED = { vm: '/vm', share: '/vm/share', guest: '/guest' } as const;
/** File descriptors that the jail gives to QEMU. */
export const JAIL_FD = { memory: 3, state: 4, tap: 5 } as const;

/** The last of the kernel's messages; a panic with its trace is about 6 KB. A power of two. */
export const CONSOLE_BYTES = 64 * 1024;

/**
 * Under emulation every feature can be had, so that any image's binaries run; five-level page tables
 * and nested virtualization would only cost. A processor with erms has the kernel clear and copy
 * memory byte by byte in one instruction, which emulated takes three times as long as a loop of words.
 */
const CPU = { KVM: 'host', TCG: 'max,la57=off,svm=off,vmx=off,erms=off,fsrm=off' } as const;

/**
 * Translated code is bounded: by default it may grow to 1 GiB, which would count as the pod's memory.
 * With 32 MB a warm start of Node in the guest took three times as long; 96 fits the class's overhead.
 * `split-wx` has it in a memory file, from which it can be given back (vmm/translated-code.ts).
 */
const ACCELERATOR = { KVM: 'kvm', TCG: 'tcg,tb-size=96,split-wx=on' } as const;

export type QemuCommand = {
  /** Shows in the process list; by it a VM of an earlier life is found. */
  name: string;
  accelerator: 'KVM' | 'TCG';
  memoryMib: number;
  vcpus: number;
  /**
   * `cold`: boots, memory of its own. `template`: boots with memory that stays when it ends.
   * `restore`: goes on from a template, with its memory copied on write.
   */
  start: { kind: 'cold' | 'template'; tscKhz: number } | { kind: 'restore' };
};

/**
 * - `tsc_early_khz`: without it an emulated guest hangs at random in measuring its clock.
 * - `reboot=t panic=-1`: a panic ends the VM at once.
 * - `cryptomgr.notests`: a quarter of a second of self tests.
 * - `init_on_alloc=0`: pages that were never written stay shared with the template (2 MB of each VM).
 * - `lsm`: nothing loads a policy for the others, and each has a word in every system call.
 * - Under emulation `mitigations=off`: there is no speculation to guard against. `rep_good`: see CPU.
 */
function kernelCommandLine(accelerator: 'KVM' | 'TCG', tscKhz: number): string {
  return [
    'console=ttyS0 loglevel=5 reboot=t panic=-1 oops=panic cryptomgr.notests random.trust_cpu=on',
    `rcupdate.rcu_expedited=1 tsc_early_khz=${tscKhz} init_on_alloc=0 lsm=landlock,yama`,
    ...(accelerator === 'TCG' ? ['mitigations=off clearcpuid=rep_good'] : []),
  ].join(' ');
}

const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

export function qemuArguments(command: QemuCommand): string[] {
  const { name, accelerator, memoryMib, vcpus, start } = command;
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-name', name],
    ...['-M', 'microvm,acpi=on,memory-backend=memory', '-accel', ACCELERATOR[accelerator]],
    ...['-cpu', CPU[accelerator], '-smp', String(vcpus), '-m', `${memoryMib}M`],
    ...['-object', memoryObject(memoryMib, start.kind)],
    ...startArguments(accelerator, start),
    ...['-chardev', `ringbuf,id=console,size=${CONSOLE_BYTES}`, '-serial', 'chardev:console'],
    ...['-qmp', `unix:${JAILED.vm}/qmp.sock,server=on,wait=off`],
    ...['-chardev', `socket,id=agent,path=${JAILED.vm}/agent.sock,server=on,wait=off`],
    ...['-device', 'virtio-serial-device,id=serial'],
    ...['-device', 'virtserialport,bus=serial.0,chardev=agent,name=agent.0'],
    ...['-device', 'virtio-scsi-device,id=scsi'],
    ...['-netdev', `tap,id=net,fd=${JAIL_FD.tap}`, '-device', 'virtio-net-device,netdev=net'],
    // The guest's owners and modes are the host's. Several mounts below one share: without remap two
    // files of different mounts could be taken for one.
    ...['-fsdev', `local,id=share,path=${JAILED.share},security_model=passthrough,multidevs=remap`],
    ...['-device', 'virtio-9p-device,fsdev=share,mount_tag=share'],
    // A guest that ends stays until its last messages are read.
    ...['-action', 'reboot=shutdown,shutdown=pause'],
    ...['-sandbox', SANDBOX],
  ];
}

function memoryObject(memoryMib: number, kind: QemuCommand['start']['kind']): string {
  if (kind === 'cold') return `memory-backend-ram,id=memory,size=${memoryMib}M`;
  const share = kind === 'template' ? 'on' : 'off';
  const path = `/proc/self/fd/${JAIL_FD.memory}`;
  return `memory-backend-file,id=memory,size=${memoryMib}M,mem-path=${path},share=${share}`;
}

function startArguments(accelerator: 'KVM' | 'TCG', start: QemuCommand['start']): string[] {
  if (start.kind === 'restore') return ['-incoming', 'defer'];
  return [
    ...['-kernel', `${JAILED.guest}/vmlinux`, '-initrd', `${JAILED.guest}/initramfs`],
    ...['-append', kernelCommandLine(accelerator, start.tscKhz)],
  ];
}

/** Few sizes, so that pods share templates; what a pod may use is limited inside the guest. */
const SMALL_SIZES_MIB = [128, 192, 256, 512];

/** The size of VM that is started for a pod that needs `memoryMib`. */
export function templateMemoryMib(memoryMib: number): number {
  const small = SMALL_SIZES_MIB.find((size) => size >= memoryMib);
  if (small !== undefined) return small;
  let size = SMALL_SIZES_MIB.at(-1) ?? 512;
  while (size < memoryMib) size *= 2;
  return size;
}
