import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { processStat } from '#base/process-stat.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { JAILED } from './qemu-command.ts';
import { connectIn, type QemuProcess } from './qemu-process.ts';
import type { Qmp } from './qmp.ts';

/**
 * Emulation keeps the code that it translated: 28 MB from a pod's start alone, most of which never
 * runs again. A smaller buffer would be thrown away in the middle of a start, so it is large, and
 * emptied when the guest is calm.
 */
const WORTH_BYTES = 12 * 1024 * 1024;
const LOOK_MS = 5_000;
/** A guest that uses more of a core is at work; what it runs would be translated again at once. */
const CALM_SHARE = 0.1;
/** A program that runs once in a while should not pay for it each time. */
const FIRST_PAUSE_MS = 60_000;
const MAX_PAUSE_MS = 30 * 60_000;
/** A halted processor steps when its next interrupt comes, for which the guest is poked. */
const STEP_TIMEOUT_MS = 5_000;
const POLL_MS = 2;
const MAX_ANSWER_CHARS = 1_000;

const run = promisify(execFile);

export type TranslatedCode = {
  process: QemuProcess;
  /** `GuestFiles.jail`. */
  jail: string;
  /** How many containers have been started: before the first a VM only waits to be used. */
  starts: () => number;
  /** Has something arrive at the guest. */
  poke: () => void;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
};

/** Frees translated code of a VM whenever it is calm, until the signal aborts. */
export async function tendTranslatedCode(code: TranslatedCode): Promise<void> {
  const { process, starts, clock, log, signal } = code;
  let known = 0;
  let pauseMs = FIRST_PAUSE_MS;
  let notBefore = 0;
  let used = cpuMs(process.pid);
  while (!signal.aborted) {
    await clock.sleep(LOOK_MS, { signal }).catch(() => {});
    const now = cpuMs(process.pid);
    const calm = now - used < LOOK_MS * CALM_SHARE;
    used = now;
    if (starts() !== known) {
      known = starts();
      notBefore = 0;
    }
    if (signal.aborted || known === 0 || !calm || clock.now() < notBefore) continue;
    try {
      if ((await codeState(process.qmp)).bytes < WORTH_BYTES) continue;
      notBefore = clock.now() + FIRST_PAUSE_MS; // also after a failure
      await forget(code);
      notBefore = clock.now() + pauseMs;
      pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    } catch (error) {
      if (signal.aborted) return;
      log.debug('translated code stays', { pid: process.pid, error: errorText(error) });
    }
  }
}

/**
 * QEMU has no command for it, but empties the buffer when its debugger stub stops after a step (the
 * guest stands still for some 10 ms). Only then, and only if QEMU counts one more flush, the memory is
 * given back.
 */
async function forget({ process, jail, poke, clock }: TranslatedCode): Promise<void> {
  const { qmp, dir, pid } = process;
  await monitor(qmp, `gdbserver unix:${JAILED.vm}/debug.sock,server=on,wait=off`);
  try {
    const alive = (): boolean => cpuMs(pid) > 0;
    const socket = await connectIn(dir, 'debug.sock', { clock, alive });
    let answers = '';
    socket.on('error', () => {});
    socket.on('data', (bytes) => (answers = (answers + String(bytes)).slice(-MAX_ANSWER_CHARS)));
    const until = async (done: () => Promise<boolean> | boolean): Promise<void> => {
      const deadline = clock.now() + STEP_TIMEOUT_MS;
      while (!(await done())) {
        if (clock.now() > deadline) throw new Error('QEMU does not empty its translated code');
        await clock.sleep(POLL_MS);
      }
    };
    const { flushes } = await codeState(qmp);
    try {
      socket.write(packet('Qqemu.sstep=1')); // a step with interrupts
      socket.write(packet('s'));
      await until(async () => {
        if ((await statusOf(qmp)) === 'debug' && (await codeState(qmp)).flushes > flushes)
          return true;
        poke();
        return false;
      });
      await run(jail, ['--forget-code', String(pid)]);
    } finally {
      answers = '';
      socket.write(`+${INTERRUPT}${packet('D')}`); // stops it if it runs, ends stepping
      await until(() => answers.includes('$OK'));
      socket.destroy();
    }
  } finally {
    await goOn(qmp);
  }
}

/** A guest that was left standing, perhaps by an earlier life of the runtime, goes on. */
export async function goOn(qmp: Qmp): Promise<void> {
  await monitor(qmp, 'gdbserver none');
  if (['debug', 'paused'].includes(await statusOf(qmp))) await qmp.execute('cont');
}

const INTERRUPT = '\x03';

/** Source: GDB's remote serial protocol, "Overview". */
function packet(text: string): string {
  const sum = Buffer.from(text).reduce((total, byte) => (total + byte) & 0xff, 0);
  return `$${text}#${sum.toString(16).padStart(2, '0')}`;
}

const monitor = (qmp: Qmp, line: string): Promise<unknown> =>
  qmp.execute('human-monitor-command', { 'command-line': line });

async function statusOf(qmp: Qmp): Promise<string> {
  return ((await qmp.execute('query-status')) as { status?: string }).status ?? '';
}

async function codeState(qmp: Qmp): Promise<{ bytes: number; flushes: number }> {
  const answer = (await qmp.execute('x-query-jit')) as { 'human-readable-text'?: string };
  const text = answer['human-readable-text'] ?? '';
  const [, bytes] = /^gen code size\s+(\d+)/m.exec(text) ?? [];
  const [, flushes] = /^TB flush count\s+(\d+)/m.exec(text) ?? [];
  if (!bytes || !flushes) throw new Error('QEMU does not tell how much code it has translated');
  return { bytes: Number(bytes), flushes: Number(flushes) };
}

/** All that a process has used; 0 when it is gone. */
const cpuMs = (pid: number): number => processStat(pid)?.cpuMs ?? 0;
