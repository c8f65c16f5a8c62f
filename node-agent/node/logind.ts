import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Clock } from '#base/clock.ts';
import { missingForSystemd } from '#node-agent/node/systemd-units.ts';

const run = promisify(execFile);

const LOGIND = [
  'org.freedesktop.login1',
  '/org/freedesktop/login1',
  'org.freedesktop.login1.Manager',
] as const;
/** Longest wait for logind to answer, or to have read its configuration again. */
const TIMEOUT_MS = 30_000;
const POLL_MS = 200;
/** Below /run: what is asked for holds until the next boot, and the next start asks again. */
const CONFIG_DIR = '/run/systemd/logind.conf.d';
const CONFIG_FILE = `${CONFIG_DIR}/99-gantry.conf`;

/** What is missing for waiting with a shutdown; undefined when nothing is. */
export function missingForLogind(): string | undefined {
  const missing = missingForSystemd();
  if (missing) return missing;
  return existsSync('/run/systemd/seats')
    ? undefined
    : 'systemd-logind does not run (packages dbus and libpam-systemd)';
}

/** Lets logind wait at least so long for whoever holds a lock. */
export async function allowDelay(seconds: number, clock: Clock): Promise<void> {
  if ((await delaySeconds()) >= seconds) return;
  mkdirSync(CONFIG_DIR, { recursive: true });
  writeFileSync(CONFIG_FILE, `[Login]\nInhibitDelayMaxSec=${seconds}\n`);
  await run('systemctl', ['kill', '-s', 'HUP', 'systemd-logind.service'], { timeout: TIMEOUT_MS });
  for (let waitedMs = 0; (await delaySeconds()) < seconds; waitedMs += POLL_MS) {
    if (waitedMs >= TIMEOUT_MS)
      throw new Error(
        `systemd-logind waits ${await delaySeconds()} s at most, ${seconds} s are needed: another ` +
          `file sets InhibitDelayMaxSec after ${CONFIG_FILE}`,
      );
    await clock.sleep(POLL_MS);
  }
}

async function delaySeconds(): Promise<number> {
  const args = ['--system', 'get-property', ...LOGIND, 'InhibitDelayMaxUSec'];
  const { stdout } = await run('busctl', args, { timeout: TIMEOUT_MS });
  return Number(stdout.trim().split(' ')[1]) / 1e6;
}

/**
 * Holds up shutdowns, until `release` or the end of this process; the lock is a descriptor, which
 * Node cannot be given, so a program of systemd's keeps it.
 */
export async function holdShutdowns(signal: AbortSignal): Promise<{ release(): void }> {
  const child = spawn(
    'systemd-inhibit',
    [
      ...['--what=shutdown', '--mode=delay', '--who=gantry'],
      ...['--why=pods have to end first', 'sh', '-c', 'echo held; exec cat'],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const release = (): void => void child.stdin.end();
  signal.addEventListener('abort', release, { once: true });
  child.once('exit', () => signal.removeEventListener('abort', release));
  child.stdin.on('error', () => undefined); // it has ended already
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('error', (cause) => reject(new Error('cannot run systemd-inhibit', { cause })));
    child.once('exit', (code) => reject(new Error(`systemd-inhibit ended with code ${code}`)));
  });
  return { release };
}

/** Says true when the machine begins to go down, and false when that was called off; until `signal`. */
export async function* shutdowns(signal: AbortSignal): AsyncGenerator<boolean> {
  const match =
    "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'";
  const child = spawn('busctl', ['--system', '--json=short', `--match=${match}`, 'monitor'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    signal,
  });
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  failed.catch(() => undefined);
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const found = isShutdownLine(line);
      if (found !== undefined) yield found;
    }
    await Promise.race([failed, Promise.resolve()]);
  } finally {
    child.kill();
  }
}

/** What a line of `busctl monitor` says of a shutdown; undefined for all other lines. */
export function isShutdownLine(line: string): boolean | undefined {
  try {
    const { member, payload } = JSON.parse(line) as {
      member?: string;
      payload?: { data?: unknown[] };
    };
    const [data] = payload?.data ?? [];
    return member === 'PrepareForShutdown' && typeof data === 'boolean' ? data : undefined;
  } catch {
    return undefined; // half a line of a monitor that was ended
  }
}
