import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { sha256 } from '#base/sha256.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import { productBuild } from './product-build.ts';
import { criVersion, removeSandboxes } from '#node-agent/runtime/containerd-probe.ts';
import {
  listProcesses,
  readProcess,
  signalProcess,
  unmountBelow,
} from '#node-agent/runtime/containerd-processes.ts';

/** The first start on a machine builds the guest and finds out whether KVM works. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const DRAIN_TIMEOUT_MS = 30_000;
const POLL_MS = 50;
const MAX_LOG_BYTES = 8 * 1024 * 1024;
/** `gantry microvm-runtime`; the command line is where every component has its name. */
const WORD = 'microvm-runtime';
/** Tells an upgraded agent whose code a running runtime is. */
const BUILD_FLAG = '--build';
const LAUNCHER = resolve(import.meta.dirname, '../../../gantry');

/** Of the files as this process found them: it cannot start what it is not. */
let knownBuild: string | undefined;
const ownBuild = (): string => (knownBuild ??= productBuild());

export type EnsureMicrovmOptions = {
  /** Own to this node: images, pods, log. */
  dir: string;
  /** The guest's kernel and what was found out about the machine; shared by its nodes. */
  cacheDir: string;
  certsDir: string;
  cniConfDir: string;
  cniBinDir: string;
  /** A runtime of another build is replaced; default: this product's. */
  build?: string;
  clock?: Clock;
  log?: Log;
  signal: AbortSignal;
};

/** Where an instance keeps what; live state goes below /run, because socket paths are short. */
export function microvmPaths(dir: string) {
  const id = sha256(resolve(dir)).slice(0, 12);
  const runDir = `/run/gantry/${id}`;
  return {
    runDir,
    socket: join(runDir, 'cri.sock'),
    stateDir: join(runDir, 'vms'),
    podsDir: join(dir, 'pods'),
    logFile: join(dir, 'runtime.log'),
  };
}

/**
 * Starts the microVM runtime as a process of its own, or finds the one that runs, and resolves to
 * its endpoint once it answers. It outlives the caller, and the VMs outlive it: one of another build
 * of the product is replaced while its pods run on.
 */
export async function ensureMicrovmRuntime(
  options: EnsureMicrovmOptions,
): Promise<{ endpoint: string }> {
  const { clock = systemClock, log = silentLog, build = ownBuild(), signal } = options;
  const paths = microvmPaths(options.dir);
  const endpoint = `unix://${paths.socket}`;
  mkdirSync(paths.runDir, { recursive: true, mode: 0o711 });
  mkdirSync(options.dir, { recursive: true, mode: 0o711 });
  const running = findDaemon(options.dir);
  const replaced = running !== undefined && running.build !== build;
  if (replaced) {
    log.info('ending the microVM runtime of another build; its pods run on', { pid: running.pid });
    await endDaemon(running.pid, clock);
  }
  let pid = replaced ? undefined : running?.pid;
  if (pid === undefined) {
    pid = await launch(options, paths, build);
    log.info('started the microVM runtime', { pid, endpoint, build });
  }
  const deadline = clock.now() + START_TIMEOUT_MS;
  for (;;) {
    signal.throwIfAborted();
    if (await criVersion(endpoint, 1_000).catch(() => undefined)) return { endpoint };
    if (!readProcess(pid))
      throw new Error(`the microVM runtime ended at its start; see ${paths.logFile}`);
    if (clock.now() > deadline)
      throw new Error(
        `the microVM runtime does not answer on ${paths.socket}; see ${paths.logFile}`,
      );
    await clock.sleep(POLL_MS, { signal });
  }
}

async function launch(
  options: EnsureMicrovmOptions,
  paths: ReturnType<typeof microvmPaths>,
  build: string,
): Promise<number> {
  const { dir, cacheDir, certsDir, cniConfDir, cniBinDir } = options;
  if (existsSync(paths.logFile) && statSync(paths.logFile).size > MAX_LOG_BYTES)
    renameSync(paths.logFile, `${paths.logFile}.1`);
  const fd = openSync(paths.logFile, 'a', 0o640);
  try {
    const child = spawn(
      LAUNCHER,
      [
        ...[WORD, '--root-dir', dir, '--cache-dir', cacheDir],
        ...['--state-dir', paths.stateDir, '--socket', paths.socket, '--certs-dir', certsDir],
        ...['--cni-conf-dir', cniConfDir, '--cni-bin-dir', cniBinDir, BUILD_FLAG, build],
      ],
      { detached: true, stdio: ['ignore', fd, fd], cwd: '/' },
    );
    await new Promise<void>((done, fail) => {
      child.once('spawn', done);
      child.once('error', (cause) =>
        fail(new Error('cannot start the microVM runtime', { cause })),
      );
    });
    child.unref();
    return child.pid ?? 0;
  } finally {
    closeSync(fd);
  }
}

function findDaemon(dir: string): { pid: number; build: string | undefined } | undefined {
  const found = listProcesses().find(
    ({ command }) => command.includes(WORD) && flagOf(command, '--root-dir') === dir,
  );
  return found && { pid: found.pid, build: flagOf(found.command, BUILD_FLAG) };
}

function flagOf(command: readonly string[], flag: string): string | undefined {
  const at = command.indexOf(flag);
  return at < 0 ? undefined : command[at + 1];
}

async function endDaemon(pid: number, clock: Clock): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  const deadline = clock.now() + STOP_TIMEOUT_MS;
  while (readProcess(pid) && clock.now() < deadline) await clock.sleep(POLL_MS);
  signalProcess(pid, 'SIGKILL');
}

/** True when pods of an earlier start are remembered: they may still run. */
export const hasMicrovmPods = (dir: string): boolean =>
  existsSync(microvmPaths(dir).podsDir) && readdirSync(microvmPaths(dir).podsDir).length > 0;

/**
 * Ends the instance with all its pods; images stay. `revive` starts it for that when it was killed
 * before: only the runtime knows what its pods have. Nothing to stop is no error.
 */
export async function stopMicrovmRuntime(
  dir: string,
  options: { revive: () => Promise<unknown>; clock?: Clock; log?: Log },
): Promise<void> {
  const { clock = systemClock, log = silentLog } = options;
  const paths = microvmPaths(dir);
  try {
    if (hasMicrovmPods(dir)) {
      if (findDaemon(dir) === undefined) await options.revive();
      await removeSandboxes(`unix://${paths.socket}`, DRAIN_TIMEOUT_MS);
    }
  } catch (error) {
    log.warn('could not remove every microVM', { error: errorText(error) });
  }
  const running = findDaemon(dir);
  if (running) await endDaemon(running.pid, clock);
  await unmountBelow([dir, paths.runDir]);
  rmSync(paths.runDir, { recursive: true, force: true });
}
