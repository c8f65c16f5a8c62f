import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Starts programs in vmm/jail.c's jail: own user, namespaces, files, and a tap. */
export type JailedProgram = {
  /** `GuestFiles.jail`. */
  jail: string;
  /** The VM's folder; the program sees it as /vm. Becomes a mount of its own. */
  vmDir: string;
  /** Seen as /guest, read-only. */
  filesDir?: string | undefined;
  /** cgroup.procs files to join. */
  cgroupFiles: readonly string[];
  uid: number;
  /** Gives the program new memory of this size as descriptor 3. */
  newMemoryMib?: number | undefined;
  /** Descriptors to hand over as 3 and 4. */
  memoryFd?: number | undefined;
  stateFd?: number | undefined;
  /** Shared object below /guest that the program is loaded with. */
  preload?: string | undefined;
  program: readonly string[];
};

/** Resolves to the pid once the program runs; it outlives this process. */
export async function startJailed(options: JailedProgram): Promise<number> {
  const given: [string, string | undefined][] = [
    ...options.cgroupFiles.map((file): [string, string] => ['cgroup', file]),
    ['vm', options.vmDir],
    ['files', options.filesDir],
    ['uid', String(options.uid)],
    ['memory', options.newMemoryMib?.toString()],
    ['preload', options.preload],
  ];
  const words = given.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
  const child = spawn(options.jail, ['--run', ...words, '--', ...options.program], {
    detached: true,
    cwd: '/',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['ignore', 'pipe', 'pipe', options.memoryFd ?? 'ignore', options.stateFd ?? 'ignore'],
  });
  const failed = Promise.withResolvers<never>();
  child.once('error', failed.reject);
  const [output, errors, [code]] = await Promise.race([
    Promise.all([said(child.stdout), said(child.stderr), once(child, 'close')]),
    failed.promise,
  ]);
  const pid = Number(output.trim());
  if (code !== 0 || !(pid > 1)) throw new Error(errors.trim() || `the jail ended with ${code}`);
  return pid;
}

/** What a pod has, for a jailed program that runs. */
export type PodGround = {
  netnsPath: string;
  /** Interface in the namespace that the tap is joined to. */
  interfaceName: string;
  /** Seen as `share/pod` in the VM's folder, with what is mounted below it later. */
  shareDir: string;
  /** cgroup.procs files to join. */
  cgroupFiles: readonly string[];
};

/** Gives a program that `startJailed` started to a pod, once. */
export async function giveJailed(jail: string, pid: number, pod: PodGround): Promise<void> {
  const words = [
    ...pod.cgroupFiles.map((file) => `cgroup=${file}`),
    ...[`netns=${pod.netnsPath}`, `interface=${pod.interfaceName}`, `share=${pod.shareDir}`],
  ];
  try {
    await run(jail, ['--give', String(pid), ...words]);
  } catch (cause) {
    const words = (cause as { stderr?: string }).stderr?.trim() || String(cause);
    throw new Error(`the VM cannot join its pod: ${words}`, { cause });
  }
}

const said = (stream: Readable | null): Promise<string> =>
  stream ? text(stream) : Promise.resolve('');

/** Makes a memory file unchangeable for everyone; it can be mapped copy on write only. */
export async function sealMemory(jail: string, fd: number): Promise<void> {
  const child = spawn(jail, ['--seal', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd] });
  const [errors, [code]] = await Promise.all([said(child.stderr), once(child, 'close')]);
  if (code !== 0) throw new Error(`the template's memory cannot be sealed: ${errors.trim()}`);
}

/** The rate of this machine's time stamp counter. */
export async function measureTscKhz(jail: string): Promise<number> {
  const khz = Number((await run(jail, ['--tsc'])).stdout.trim());
  if (!(khz > 1000)) throw new Error(`the time stamp counter runs at ${khz} kHz: not believable`);
  return khz;
}
