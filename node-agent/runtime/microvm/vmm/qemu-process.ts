import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { processStat } from '#base/process-stat.ts';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import {
  mountsBelow,
  readProcess,
  signalProcess,
  unmountBelow,
} from '../../containerd-processes.ts';
import { openQmp, type Qmp } from './qmp.ts';
import { CONSOLE_BYTES } from './qemu-command.ts';

/** QEMU opens its sockets within 50 ms of its start on an idle machine. */
const SOCKET_TIMEOUT_MS = 30_000;
const POLL_MS = 2;
/** From SIGKILL to the end of the process; its memory has to be given back. */
const KILL_TIMEOUT_MS = 10_000;
/** QEMU's own complaints are a line or two. */
const MAX_LOG_CHARS = 4_000;

/** A QEMU that runs in `dir` (its folder outside the jail), and answers on its sockets. */
export type QemuProcess = {
  readonly dir: string;
  readonly pid: number;
  readonly qmp: Qmp;
  openAgent(): Promise<Socket>;
  /** Resolves when the process is gone. A guest that ended is noted, then its QEMU ended too. */
  readonly ended: Promise<{ reason: string; kernelLog: string }>;
  /** The guest's newest kernel messages, as far as they were read by now. */
  kernelLog(): Promise<string>;
  kill(reason: string): Promise<void>;
  /** Lets go of a QEMU that runs on: it can be held again, `ended` never settles. */
  release(): void;
};

/** Why a guest ended. Source: QEMU's qapi/run-state.json, ShutdownCause. */
const SHUTDOWN_REASONS: Readonly<Record<string, string>> = {
  'guest-shutdown': 'the guest powered off',
  'guest-reset': "the guest's kernel restarted itself, as it does after a panic",
  'guest-panic': "the guest's kernel panicked",
  'host-qmp-quit': 'the VM was stopped',
  'host-signal': 'QEMU was told to end by a signal',
};

/**
 * Connects to a Unix socket by way of its folder's descriptor: a socket's path may have 107 bytes,
 * which a folder below a data directory soon exceeds. Tries until `alive` is false.
 */
export async function connectIn(
  dir: string,
  name: string,
  options: { clock: Clock; alive: () => boolean; signal?: AbortSignal | undefined },
): Promise<Socket> {
  const { clock, alive, signal } = options;
  const deadline = clock.now() + SOCKET_TIMEOUT_MS;
  const fd = openSync(dir, 'r');
  try {
    for (;;) {
      signal?.throwIfAborted();
      const result = await tryConnect(`/proc/self/fd/${fd}/${name}`);
      if (!(result instanceof Error)) return result;
      if (!alive()) throw new Error(`QEMU ended at its start: ${readLog(dir)}`);
      if (clock.now() > deadline)
        throw new Error(`QEMU opens no ${name} within ${SOCKET_TIMEOUT_MS / 1000} s`, {
          cause: result,
        });
      await clock.sleep(POLL_MS, { signal });
    }
  } finally {
    closeSync(fd);
  }
}

function tryConnect(path: string): Promise<Socket | Error> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', resolve);
  });
}

const readLog = (dir: string): string => {
  const file = join(dir, 'qemu.log');
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text.slice(-MAX_LOG_CHARS).trim() || 'it said nothing';
};

/** Takes hold of a QEMU that was started in `dir`. */
export async function holdQemu(
  { dir, pid }: { dir: string; pid: number },
  { clock, signal }: { clock: Clock; signal?: AbortSignal | undefined },
): Promise<QemuProcess> {
  const alive = (): boolean => readProcess(pid) !== undefined;
  const qmp = await openQmp(await connectIn(dir, 'qmp.sock', { clock, alive, signal }));
  let reason: string | undefined;
  let log = '';
  let released = false;

  /** Reading empties QEMU's buffer, so what was read is kept. */
  async function kernelLog(): Promise<string> {
    const args = { device: 'console', size: CONSOLE_BYTES, format: 'utf8' };
    const text = await qmp.execute('ringbuf-read', args).catch(() => '');
    log = (log + String(text)).slice(-CONSOLE_BYTES);
    return log;
  }

  async function watch(): Promise<{ reason: string; kernelLog: string }> {
    const never = new AbortController().signal;
    const shutdown = qmp
      .event(({ event }) => event === 'SHUTDOWN', { signal: never })
      .then(async ({ data }) => {
        reason ??= SHUTDOWN_REASONS[String(data['reason'])] ?? `QEMU: ${String(data['reason'])}`;
        await kernelLog();
        await qmp.execute('quit');
      })
      .catch(() => {}); // QEMU is gone without a word
    // A guest that ended before this process took hold of it waits, and sends no event any more.
    const status = await qmp.execute('query-status').catch(() => undefined);
    if (isEnded(status)) {
      reason ??= 'the guest had ended';
      await kernelLog();
      await qmp.execute('quit').catch(() => {});
    }
    await qmp.closed;
    if (released) return new Promise(() => {});
    await shutdown;
    await untilGone(pid, clock);
    const said = readLog(dir);
    reason ??= `QEMU (pid ${pid}) ended without a word; it may have been killed. Its log: ${said}`;
    return { reason, kernelLog: log };
  }

  return {
    dir,
    pid,
    qmp,
    kernelLog,
    openAgent: () => connectIn(dir, 'agent.sock', { clock, alive }),
    ended: watch(),
    release() {
      released = true;
      qmp.close();
    },
    async kill(why) {
      reason ??= why;
      signalProcess(pid, 'SIGKILL');
      await untilGone(pid, clock);
    },
  };
}

const isEnded = (status: unknown): boolean =>
  typeof status === 'object' &&
  status !== null &&
  'status' in status &&
  ['shutdown', 'guest-panicked', 'internal-error', 'io-error'].includes(String(status.status));

/** A process whose first thread has ended holds its memory and files until the others have too. */
function isRunning(pid: number): boolean {
  if (readProcess(pid)) return true;
  try {
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

export async function untilGone(pid: number, clock: Clock): Promise<void> {
  const deadline = clock.now() + KILL_TIMEOUT_MS;
  while (isRunning(pid)) {
    if (clock.now() > deadline) signalProcess(pid, 'SIGKILL');
    await clock.sleep(POLL_MS);
  }
}

/** Ticks since boot at which a process started: with its pid, who it is. Undefined when gone. */
export const processStart = (pid: number): string | undefined => processStat(pid)?.startTicks;

export function makeVmDir(dir: string): void {
  mkdirSync(join(dir, 'disks'), { recursive: true, mode: 0o700 });
  // The pod's files come below it (vmm/jail.c) when the VM is given to one.
  mkdirSync(join(dir, 'share/pod'), { recursive: true, mode: 0o755 });
}

/** Unmounts and removes a VM's folder. Files that were mounted into it are not touched. */
export async function removeVmDir(dir: string): Promise<void> {
  await unmountBelow([dir]);
  const left = mountsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), [dir]);
  if (left.length > 0) throw new Error(`${left.join(', ')} cannot be unmounted`);
  rmSync(dir, { recursive: true, force: true });
}

/** Folders of VMs below `stateDir`. */
export const listVmDirs = (stateDir: string): string[] =>
  existsSync(stateDir)
    ? readdirSync(stateDir)
        .filter((name) => name.startsWith('vm-'))
        .map((name) => join(stateDir, name))
    : [];

/** Says what a failure was, with QEMU's own log where it has one. */
export const withQemuLog = (dir: string, error: unknown): Error =>
  new Error(`${errorText(error)} (QEMU: ${readLog(dir)})`, { cause: error });
