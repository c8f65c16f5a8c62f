import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { sha256 } from '#base/sha256.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { orAborted } from '#base/running.ts';
import { listProcesses, signalProcess } from '../../containerd-processes.ts';
import { RuntimeError } from '../../service.ts';
import { buildGuest, type GuestFiles, KERNEL_PACKAGE_DIR } from '../guest/build.ts';
import { GuestConnection } from '../guest/connection.ts';
import { findKernelPackage } from '../guest/kernel.ts';
import type { StartOptions, Vm, Vmm, VmSpec } from '../machine.ts';
import { chooseAccelerator } from './accelerator.ts';
import { giveJailed, measureTscKhz, startJailed } from './jail.ts';
import { type Headroom, hostHeadroom, openPool, type WaitingVm } from './pool.ts';
import { JAILED, qemuArguments, type QemuCommand, templateMemoryMib } from './qemu-command.ts';
import {
  holdQemu,
  listVmDirs,
  makeVmDir,
  processStart,
  type QemuProcess,
  removeVmDir,
  untilGone,
  withQemuLog,
} from './qemu-process.ts';
import { createQemuVm, type QemuVm, type QemuVmOptions } from './qemu-vm.ts';
import {
  openTemplates,
  setShareIgnored,
  type Template,
  type Templates,
  type TemplateSize,
  templatesDir,
} from './templates.ts';
import { goOn } from './translated-code.ts';
import { warmImage, warmUp } from './warm-up.ts';

const run = promisify(execFile);

/** A cold boot takes 2 s emulated on an idle machine, a restore 0.1 s. */
const BOOT_TIMEOUT_MS = 60_000;
const RESTORE_TIMEOUT_MS = 30_000;
/** Whose QEMU does not answer is ended: no machine is so busy that it needs this long. */
const REATTACH_TIMEOUT_MS = 60_000;
/** Each VM runs as a user of its own, so that none can send signals to another. */
const FIRST_UID = 1_879_048_192;
const UIDS = 1 << 16;

export type QemuConfig = {
  /** VMs' folders, sockets and templates; goes with a reboot. */
  stateDir: string;
  /** Kernel, initramfs and what was found out about this machine. */
  cacheDir: string;
  log: Log;
  signal: AbortSignal;
  clock?: Clock;
  /** For tests and measurements: `cold` never uses templates. */
  start?: 'template' | 'cold';
  /** VMs that wait for pods at most, made when the machine is idle; none by default. */
  warmPoolSize?: number;
  /** What the machine has left for them. */
  headroom?: () => Headroom;
};

/** What this host lacks for microVMs, each with the way out; none: it can run them. */
export function missingForQemu(packageDir = KERNEL_PACKAGE_DIR): string[] {
  const missing: string[] = [];
  const need = (program: string, packageName: string): void => {
    if (!findProgram(program))
      missing.push(`no ${program} (./setup.sh, or apt-get install ${packageName})`);
  };
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return [`microVMs run on Linux on x86-64; this is ${process.platform} on ${process.arch}`];
  if (process.getuid?.() !== 0) missing.push('no root rights (run as root, or with sudo)');
  need('qemu-system-x86_64', 'qemu-system-x86');
  need('musl-gcc', 'musl-tools');
  need('dpkg-deb', 'dpkg');
  need('xz', 'xz-utils');
  need('lz4', 'lz4');
  if (!existsSync('/dev/net/tun')) missing.push('no /dev/net/tun (modprobe tun)');
  if (!findKernelPackage(packageDir))
    missing.push(`no kernel package in ${packageDir} (./setup.sh fetches it)`);
  return missing;
}

function findProgram(name: string): string | undefined {
  const dirs = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/bin'];
  return dirs.map((dir) => join(dir, name)).find((file) => existsSync(file));
}

type Setting = {
  config: QemuConfig;
  clock: Clock;
  files: GuestFiles;
  qemu: string;
  tscKhz: number;
  accelerator: Vmm['accelerator'];
  instance: Uint8Array;
  /** Those that this life of the runtime holds. */
  held: Set<QemuVm>;
};

/** What a VM's folder says about it. */
type VmRecord = { spec: VmSpec; pid: number; started: string; startedBy: Vm['startedBy'] };

/**
 * QEMU's `microvm` machine as VMM. The first start on a machine builds the guest (5 s) and finds out
 * whether KVM works (4 s at most). Fails with what is missing.
 */
export async function openQemu(config: QemuConfig): Promise<Vmm> {
  const { stateDir, cacheDir, log, clock = systemClock } = config;
  const missing = missingForQemu();
  if (missing.length > 0) throw new Error(`microVMs cannot run here: ${missing.join('; ')}`);
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  mkdirSync(cacheDir, { recursive: true });
  const files = await buildGuest(cacheDir);
  const qemu = findProgram('qemu-system-x86_64') ?? '';
  const version = (await run(qemu, ['--version'])).stdout.split('\n')[0] ?? '';
  const setting: Setting = {
    ...{ config, clock, files, qemu, instance: randomBytes(8), held: new Set<QemuVm>() },
    tscKhz: await measureTscKhz(files.jail),
    accelerator: { kind: 'TCG', reason: '' },
  };
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  setting.accelerator = await chooseAccelerator({
    ...{ cacheDir, log, key: `${bootId} ${files.hash} ${version}` },
    boot: ({ signal }) => probeKvm(setting, signal),
  });
  const templates = openTemplates({
    ...{ stateDir, jail: files.jail, log },
    boot: (size) => bootTemplate(setting, size, config.signal),
    discard: (qemuProcess) => discard(qemuProcess),
  });
  config.signal.addEventListener('abort', () => void templates.close(), { once: true });
  const pool = openPool({
    ...{ limit: config.warmPoolSize ?? 0, clock, log },
    headroom: config.headroom ?? hostHeadroom(),
    make: (size, { signal }) => makeWaiting(setting, { size, templates, signal }),
    discard: ({ dir }) => removeVm(setting, dir),
    signal: config.signal,
  });

  async function start(spec: VmSpec, options: StartOptions): Promise<Vm> {
    const { signal, ready = Promise.resolve() } = options;
    ready.catch(() => {}); // awaited below, after what needs no pod
    const size = { memoryMib: templateMemoryMib(spec.memoryMib), vcpus: spec.vcpus };
    if (existsSync(vmDirOf(stateDir, spec.id)))
      throw new RuntimeError('AlreadyExists', `a VM for pod sandbox ${spec.id} exists`);
    const place = { dir: vmDirOf(stateDir, spec.id), cgroupPath: spec.cgroupPath };
    const waiting = pool.take(size);
    if (waiting) {
      try {
        const qemuProcess = await holdQemu(waiting, { clock, signal });
        return await moveIn(setting, qemuProcess, { spec, startedBy: 'pool', ready, signal });
      } catch (error) {
        await removeVm(setting, waiting.dir);
        signal.throwIfAborted();
        await ready; // not the VM's fault
        log.warn('a microVM that waited is of no use', { error: errorText(error) });
      }
    }
    if (config.start !== 'cold') {
      try {
        const qemuProcess = await restore(setting, place, { size, templates, signal });
        return await moveIn(setting, qemuProcess, { spec, startedBy: 'template', ready, signal });
      } catch (error) {
        signal.throwIfAborted();
        await ready; // not the VM's fault
        log.warn('a microVM cannot be restored from a template; it boots cold', {
          vm: spec.id,
          error: errorText(error),
        });
      }
    }
    return bootCold(setting, { ...place, spec, size, ready, signal });
  }

  return {
    name: `QEMU (${version.replace('QEMU emulator version ', '')})`,
    accelerator: setting.accelerator,
    start,
    findAll: () => findAll(setting),
    async close() {
      await pool.close();
      await Promise.all([...setting.held].map(({ left }) => left));
    },
  };
}

/** Takes hold of a VM until it ends or the runtime does. */
function hold(
  setting: Setting,
  options: Pick<QemuVmOptions, 'process' | 'spec' | 'startedBy' | 'luns'>,
): QemuVm {
  const { clock, instance, config } = setting;
  const { log, signal } = config;
  const own = { instance, clock, log, signal, emulatedBy: emulatedBy(setting) };
  const vm = createQemuVm({ ...options, ...own });
  setting.held.add(vm);
  void vm.left.then(() => setting.held.delete(vm));
  return vm;
}

const emulatedBy = ({ accelerator, files }: Setting): string | undefined =>
  accelerator.kind === 'TCG' ? files.jail : undefined;

/* --- starting ----------------------------------------------------------------------------------- */

const vmDirOf = (stateDir: string, id: string): string =>
  join(stateDir, `vm-${sha256(id).slice(0, 16)}`);

/** Shown in the process list; from it a VM is told from those of other runtimes. */
const processName = (dir: string): string => `gantry-${basename(dir)}`;

const uidOf = (dir: string): number =>
  FIRST_UID + (Number.parseInt(basename(dir).slice(3, 11), 16) % UIDS);

/** The cgroup.procs files of `path` in every hierarchy that has it. */
function cgroupFiles(path: string): string[] {
  if (path === '') return [];
  const mount = '/sys/fs/cgroup';
  const hierarchies = ['.', ...readdirSync(mount)];
  return hierarchies
    .filter((name) => existsSync(join(mount, name, 'cgroup.procs')))
    .map((name) => join(mount, name, path, 'cgroup.procs'))
    .filter((file) => existsSync(file));
}

type Launch = {
  dir: string;
  /** Empty: that of the runtime. */
  cgroupPath?: string;
  command: Omit<QemuCommand, 'name'>;
  template?: Template & { state: number };
};

/** Starts QEMU in its jail and takes hold of it. What it leaves on failure is removed. */
async function launch(
  setting: Setting,
  options: Launch,
  signal: AbortSignal,
): Promise<QemuProcess> {
  const { dir, command, cgroupPath = '', template } = options;
  makeVmDir(dir);
  const name = processName(dir);
  try {
    const pid = await startJailed({
      ...{ jail: setting.files.jail, vmDir: dir, uid: uidOf(dir) },
      filesDir: setting.files.dir,
      preload: `${JAILED.guest}/${basename(setting.files.preload)}`,
      cgroupFiles: cgroupFiles(cgroupPath),
      newMemoryMib: command.start.kind === 'template' ? command.memoryMib : undefined,
      memoryFd: template?.memory.fd,
      stateFd: template?.state,
      program: [setting.qemu, ...qemuArguments({ ...command, name })],
    });
    return await holdQemu({ dir, pid }, { clock: setting.clock, signal });
  } catch (error) {
    const told = withQemuLog(dir, error);
    await killByName(name, setting.clock);
    await removeVmDir(dir);
    throw told;
  }
}

/** By name: a process may run that nobody has noted yet. */
async function killByName(name: string, clock: Clock): Promise<void> {
  for (const { pid, command } of listProcesses()) {
    if (!command[0]?.includes('qemu') || !command.includes(name)) continue;
    signalProcess(pid, 'SIGKILL');
    await untilGone(pid, clock);
  }
}

async function discard(qemuProcess: QemuProcess): Promise<void> {
  await qemuProcess.kill('it was needed no longer');
  qemuProcess.qmp.close();
  await qemuProcess.ended;
  await removeVmDir(qemuProcess.dir);
}

/** Waits for the agent, then gives the VM; a guest that does not answer is ended and shown. */
async function welcome(
  setting: Setting,
  qemuProcess: QemuProcess,
  { spec, startedBy, signal }: Omit<Tenancy, 'ready'>,
): Promise<QemuVm> {
  const vm = hold(setting, { process: qemuProcess, spec, startedBy, luns: [] });
  try {
    await vm.connection.welcomed({ signal });
    return vm;
  } catch (error) {
    const kernelLog = (await qemuProcess.kernelLog()).trim().split('\n').slice(-10).join('\n');
    await vm.stop({ graceMs: 0 });
    if (signal.aborted) throw signal.reason;
    throw new Error(`the guest's agent does not answer; its kernel's last words: ${kernelLog}`, {
      cause: error,
    });
  }
}

function note(dir: string, vm: Vm): void {
  const { spec, pid, startedBy } = vm;
  const record: VmRecord = { spec, pid, startedBy, started: processStart(pid) ?? '' };
  writeFileSync(join(dir, 'vm.json'), JSON.stringify(record), { mode: 0o600 });
}

type Tenancy = {
  spec: VmSpec;
  startedBy: Vm['startedBy'];
  ready: Promise<unknown>;
  signal: AbortSignal;
};

/** Gives a QEMU that runs to its pod once that has a network, while the guest says hello. */
async function moveIn(
  setting: Setting,
  qemuProcess: QemuProcess,
  { spec, startedBy, ready, signal }: Tenancy,
): Promise<QemuVm> {
  const give = (): Promise<void> =>
    giveJailed(setting.files.jail, qemuProcess.pid, {
      ...spec,
      cgroupFiles: cgroupFiles(spec.cgroupPath),
    });
  const [welcomed, given] = await Promise.allSettled([
    welcome(setting, qemuProcess, { spec, startedBy, signal }),
    ready.then(give),
  ]);
  if (welcomed.status === 'rejected') throw welcomed.reason;
  const vm = welcomed.value;
  if (given.status === 'rejected') {
    await vm.stop({ graceMs: 0 });
    throw given.reason;
  }
  note(qemuProcess.dir, vm);
  return vm;
}

async function bootCold(
  setting: Setting,
  options: Place & Omit<Tenancy, 'startedBy'> & { size: TemplateSize },
): Promise<Vm> {
  const { size, dir, cgroupPath } = options;
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(BOOT_TIMEOUT_MS)]);
  const { tscKhz, accelerator } = setting;
  const start = { kind: 'cold', tscKhz } as const;
  const command = { ...size, accelerator: accelerator.kind, start };
  const qemuProcess = await launch(setting, { dir, cgroupPath, command }, signal);
  return moveIn(setting, qemuProcess, { ...options, startedBy: 'cold boot', signal });
}

/** Where a VM is made. */
type Place = { dir: string; cgroupPath: string };

/** A guest that goes on from a template, in nobody's name yet. */
async function restore(
  setting: Setting,
  { dir, cgroupPath }: Place,
  options: { size: TemplateSize; templates: Templates; signal: AbortSignal },
): Promise<QemuProcess> {
  const { size, templates } = options;
  const template = await templates.get(size);
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(RESTORE_TIMEOUT_MS)]);
  const command = {
    ...{ ...size, accelerator: setting.accelerator.kind },
    start: { kind: 'restore' },
  } as const;
  const state = openSync(template.stateFile, 'r');
  let qemuProcess: QemuProcess;
  try {
    const launching = { dir, cgroupPath, command, template: { ...template, state } };
    qemuProcess = await launch(setting, launching, signal);
  } finally {
    closeSync(state);
  }
  try {
    const resumed = qemuProcess.qmp.event(({ event }) => event === 'RESUME', { signal });
    resumed.catch(() => {}); // awaited below, unless QEMU refuses
    await setShareIgnored(qemuProcess.qmp, true);
    await qemuProcess.qmp.execute('migrate-incoming', { uri: 'fd:4' });
    await resumed;
    return qemuProcess;
  } catch (error) {
    const told = withQemuLog(dir, error);
    await discard(qemuProcess);
    throw told;
  }
}

/** Restores a VM for no pod, uses it once, and lets go of it. */
async function makeWaiting(
  setting: Setting,
  options: { size: TemplateSize; templates: Templates; signal: AbortSignal },
): Promise<WaitingVm> {
  const dir = join(setting.config.stateDir, `vm-${randomBytes(8).toString('hex')}`);
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(BOOT_TIMEOUT_MS)]);
  const holding = new AbortController();
  const { size } = options;
  const none = { netnsPath: '', interfaceName: '', cgroupPath: '', shareDir: '' };
  try {
    const qemuProcess = await restore(setting, { dir, cgroupPath: '' }, { ...options, signal });
    const spec = { id: basename(dir), ...size, ...none };
    const own = { ...setting, config: { ...setting.config, signal: holding.signal } };
    const vm = await welcome(own, qemuProcess, { spec, startedBy: 'template', signal });
    const image = await warmImage(templatesDir(setting.config.stateDir), setting.files.jail);
    await orAborted(warmUp(vm, { dir, image }), signal);
    holding.abort(new Error('the VM waits for a pod'));
    await vm.left;
    return { dir, pid: vm.pid };
  } catch (error) {
    await removeVm(setting, dir);
    holding.abort(error);
    throw error;
  }
}

/** Ends the VM of a folder, whatever it is in. */
async function removeVm({ clock }: Setting, dir: string): Promise<void> {
  await killByName(processName(dir), clock);
  await removeVmDir(dir);
}

/** Boots a guest without a pod until its agent has answered, and lets go of it again. */
async function bootAlone(
  setting: Setting,
  command: Omit<QemuCommand, 'name'>,
  signal: AbortSignal,
): Promise<QemuProcess> {
  const dir = join(setting.config.stateDir, `vm-${randomBytes(8).toString('hex')}`);
  const qemuProcess = await launch(setting, { dir, command }, signal);
  const end = new AbortController();
  const { clock, config, instance } = setting;
  const connection = new GuestConnection({
    ...{ clock, log: config.log, instance, entropy: randomBytes, signal: end.signal },
    open: () => qemuProcess.openAgent(),
    onViolation: (error) => void qemuProcess.kill(error.message),
  });
  try {
    const gone = qemuProcess.ended.then(({ reason }) => Promise.reject(new Error(reason)));
    await Promise.race([connection.welcomed({ signal }), gone]);
    return qemuProcess;
  } catch (error) {
    await discard(qemuProcess);
    throw error;
  } finally {
    end.abort(new Error('the guest has answered'));
    await connection.done;
  }
}

async function probeKvm(setting: Setting, signal: AbortSignal): Promise<void> {
  const size = { memoryMib: 256, vcpus: 1 };
  const start = { kind: 'cold', tscKhz: setting.tscKhz } as const;
  const command = { ...size, start, accelerator: 'KVM' } as const;
  await discard(await bootAlone(setting, command, signal));
}

function bootTemplate(
  setting: Setting,
  size: TemplateSize,
  parent: AbortSignal,
): Promise<QemuProcess> {
  const signal = AbortSignal.any([parent, AbortSignal.timeout(BOOT_TIMEOUT_MS)]);
  const { tscKhz, accelerator } = setting;
  const start = { kind: 'template', tscKhz } as const;
  return bootAlone(setting, { ...size, accelerator: accelerator.kind, start }, signal);
}

/* --- finding ------------------------------------------------------------------------------------ */

async function findAll(setting: Setting): Promise<Vm[]> {
  const found = await Promise.all(
    listVmDirs(setting.config.stateDir).map((dir) => findOne(setting, dir)),
  );
  return found.filter((vm) => vm !== undefined);
}

/** The VM of a folder; what no longer runs, or was cut off in starting, is removed. */
async function findOne(setting: Setting, dir: string): Promise<Vm | undefined> {
  const { clock, config } = setting;
  const { log } = config;
  const record = readRecord(dir);
  try {
    if (!record || processStart(record.pid) !== record.started) throw new Error('it ended');
    const signal = AbortSignal.timeout(REATTACH_TIMEOUT_MS);
    const qemuProcess = await holdQemu({ dir, pid: record.pid }, { clock, signal });
    await goOn(qemuProcess.qmp);
    const luns = await findLuns(qemuProcess);
    return hold(setting, { process: qemuProcess, ...record, luns });
  } catch (error) {
    log.info('removing what is left of a VM', { vm: record?.spec.id, why: errorText(error) });
    await removeVm(setting, dir);
    return undefined;
  }
}

function readRecord(dir: string): VmRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, 'vm.json'), 'utf8')) as VmRecord;
  } catch {
    return undefined; // it was cut off before it had answered
  }
}

async function findLuns({ qmp }: QemuProcess): Promise<number[]> {
  const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as {
    'node-name'?: string;
  }[];
  return nodes.flatMap((node) => {
    const match = /^disk(\d+)$/.exec(node['node-name'] ?? '');
    return match ? [Number(match[1])] : [];
  });
}
