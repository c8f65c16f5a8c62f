import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { sha256 } from '#base/sha256.ts';
import { readIfThere, writeAtomic } from '#base/files.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import {
  type ContainerdConfig,
  containerdConfig,
  defaultRuntime,
  detectHost,
  type HostFacts,
  hostsToml,
  missingForContainerd,
} from './containerd-config.ts';
import {
  listProcesses,
  readProcess,
  signalProcess,
  unmountBelow,
  withDescendants,
} from './containerd-processes.ts';
import { criVersion, removeSandboxes } from './containerd-probe.ts';

/**
 * containerd answers in 0.3 s on an idle machine; a full disk check or a cold cache takes longer, and
 * an emulated machine took 40 s. One that has ended is noticed at once.
 */
const START_TIMEOUT_MS = 120_000;
/** Time for containerd to end after SIGTERM before it is killed. */
const STOP_TIMEOUT_MS = 5_000;
/** Time for all sandboxes to be removed through CRI before their processes are killed. */
const DRAIN_TIMEOUT_MS = 20_000;
/** Stands for all hosts without an entry of their own. */
const ANY_HOST = '_default';
const POLL_MS = 20;
/** The log is set aside at start when larger, so that it cannot grow without end. */
const MAX_LOG_BYTES = 8 * 1024 * 1024;
const LOG_TAIL_LINES = 8;

export type EnsureContainerdOptions = {
  /** Root of this instance: images, metadata, configuration, log. */
  dir: string;
  cniConfDir: string;
  /** The image of pods' sandboxes; pulled through `registries` when absent. */
  sandboxImage: string;
  /** True when the agent makes pods' groups through systemd. */
  systemdCgroup?: boolean;
  /** Registry host name → URL that its pulls go to (see `setRegistries`). */
  registries?: Readonly<Record<string, string>>;
  host?: HostFacts;
  clock?: Clock;
  log?: Log;
  signal?: AbortSignal;
};

/** `defaultRuntime` is the handler of pods that name none. */
export type Containerd = { endpoint: string; pid: number; defaultRuntime: 'runc' | 'crun' };

/** Where an instance keeps what. */
export type ContainerdPaths = Omit<ContainerdConfig, 'cniConfDir' | 'sandboxImage'> & {
  configFile: string;
  pidFile: string;
  bootFile: string;
  lockFile: string;
  logFile: string;
  runDir: string;
};

/**
 * The folders of the instance whose root is `dir`. Live state goes below /run, in a folder named
 * after `dir`, because socket paths are short and state must not outlive a boot.
 */
export function containerdPaths(dir: string): ContainerdPaths {
  const root = resolve(dir);
  const id = sha256(root).slice(0, 12);
  const runDir = `/run/gantry/${id}`;
  return {
    rootDir: join(root, 'root'),
    stateDir: join(runDir, 'state'),
    socket: join(runDir, 'containerd.sock'),
    certsDir: join(root, 'certs.d'),
    configFile: join(root, 'config.toml'),
    pidFile: join(runDir, 'containerd.pid'),
    bootFile: join(runDir, 'boot-id'),
    lockFile: join(runDir, 'start.lock'),
    logFile: join(root, 'containerd.log'),
    runDir,
  };
}

/**
 * Starts Gantry's own containerd, or finds the one that runs already, and resolves once its CRI
 * service answers. The daemon has a session of its own and outlives the caller. When the wanted
 * configuration differs from the running one, it is restarted; containers run on meanwhile.
 *
 * Throws an Error that names all that is missing, or why the daemon ended (with its last log lines).
 */
export async function ensureContainerd(options: EnsureContainerdOptions): Promise<Containerd> {
  const { signal, clock = systemClock, log = silentLog, host = detectHost() } = options;
  const missing = missingForContainerd(host);
  if (missing.length > 0) throw new Error(`cannot run containers: ${missing.join('; ')}`);
  signal?.throwIfAborted();

  const paths = containerdPaths(options.dir);
  const { cniConfDir, sandboxImage, systemdCgroup = false } = options;
  const config = containerdConfig({ ...paths, cniConfDir, sandboxImage, systemdCgroup }, host);
  await forgetEarlierBoot(paths);
  for (const dir of [paths.rootDir, paths.stateDir, paths.certsDir, cniConfDir])
    mkdirSync(dir, { recursive: true, mode: 0o711 });
  if (options.registries) tryRegistries(options.dir, options.registries, log);

  const unlock = await lockStart(paths, clock, signal);
  try {
    return await ensureLocked(paths, config, { host, clock, log, signal });
  } finally {
    unlock();
  }
}

type StartContext = {
  host: HostFacts;
  clock: Clock;
  log: Log;
  signal: AbortSignal | undefined;
};

async function ensureLocked(
  paths: ContainerdPaths,
  config: string,
  { host, clock, log, signal }: StartContext,
): Promise<Containerd> {
  const endpoint = `unix://${paths.socket}`;
  let pid = findDaemon(paths);
  if (pid !== undefined && readIfThere(paths.configFile) !== config) {
    log.info('restarting containerd: its configuration changed', { pid });
    await endDaemon(pid, clock);
    pid = undefined;
  }
  if (pid === undefined) {
    writeFileSync(paths.configFile, config);
    pid = await launch(paths, host);
    log.info('started containerd', { pid, endpoint, runtime: defaultRuntime(host) });
  }
  await untilReady(paths, pid, clock, signal);
  return { endpoint, pid, defaultRuntime: defaultRuntime(host) };
}

/** A full disk must not keep the agent from what runs already: only pulls have to wait for room. */
function tryRegistries(dir: string, registries: Readonly<Record<string, string>>, log: Log): void {
  try {
    setRegistries(dir, registries);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    log.error("the node's disk is full: free space, or its own images cannot be pulled", { dir });
  }
}

/**
 * Of two that start at once, the second finds what the first has started. Otherwise it would leave
 * a daemon behind that waits for the first one's database.
 */
async function lockStart(
  { lockFile }: ContainerdPaths,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<() => void> {
  const deadline = clock.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      writeFileSync(lockFile, `${process.pid}`, { flag: 'wx' });
      return () => rmSync(lockFile, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = Number(readIfThere(lockFile) ?? '');
    // An empty file is one that is just being written.
    if (holder > 0 && !readProcess(holder)) rmSync(lockFile, { force: true });
    else if (clock.now() > deadline)
      throw new Error(`process ${holder} is starting the same containerd (${lockFile})`);
    else await clock.sleep(POLL_MS, { signal });
  }
}

/**
 * Ends the instance of `dir` with all its pods: sandboxes are removed through CRI (which runs CNI's
 * DEL and frees addresses); whatever still lives or is mounted afterwards, and belongs to this
 * instance, is killed and unmounted. Images stay. Nothing to stop is no error.
 */
export async function stopContainerd(
  dir: string,
  options: { clock?: Clock; log?: Log } = {},
): Promise<void> {
  const { clock = systemClock, log = silentLog } = options;
  const paths = containerdPaths(dir);
  const pid = findDaemon(paths);
  if (pid !== undefined) {
    await removeSandboxes(`unix://${paths.socket}`, DRAIN_TIMEOUT_MS).catch((error: unknown) =>
      log.warn('could not remove every pod sandbox; killing what is left', {
        error: errorText(error),
      }),
    );
    await endDaemon(pid, clock);
  }
  await killShims(paths.socket, clock);
  await unmountBelow([paths.runDir, paths.rootDir]);
  rmSync(paths.runDir, { recursive: true, force: true });
}

/** Ends some pods of the instance of `dir`, by uid. No daemon, no pods. */
export async function stopPods(dir: string, uids: ReadonlySet<string>): Promise<void> {
  const paths = containerdPaths(dir);
  if (uids.size === 0 || findDaemon(paths) === undefined) return;
  await removeSandboxes(`unix://${paths.socket}`, DRAIN_TIMEOUT_MS, (uid) => uids.has(uid));
}

/** Where a containerd of ours keeps what it has pulled: files named by their digests. */
export const contentDir = (dir: string): string =>
  join(containerdPaths(dir).rootDir, 'io.containerd.content.v1.content', 'blobs', 'sha256');

/**
 * Sends pulls of images named `<host>/…` to a URL: one hosts.toml per registry host. Read by
 * containerd at each pull, so no restart is needed when a port changes. `_default` stands for all hosts
 * without an entry: the URL is asked first, then the host itself.
 */
export function setRegistries(dir: string, registries: Readonly<Record<string, string>>): void {
  const { certsDir } = containerdPaths(dir);
  for (const [host, url] of Object.entries(registries)) {
    const hostDir = join(certsDir, host);
    const file = join(hostDir, 'hosts.toml');
    const text = hostsToml(url, { mirror: host === ANY_HOST });
    if (readIfThere(file) === text) continue;
    mkdirSync(hostDir, { recursive: true });
    writeAtomic(file, text);
  }
}

/** The port that pulls of all images are sent to since the last `setRegistries`; 0 when there is none. */
export function registryPort(dir: string): number {
  const text = readIfThere(join(containerdPaths(dir).certsDir, ANY_HOST, 'hosts.toml')) ?? '';
  return Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1] ?? 0);
}

/** The daemon's pid: by the pid file, else by looking through all processes; both are verified. */
function findDaemon(paths: ContainerdPaths): number | undefined {
  const noted = Number(readIfThere(paths.pidFile) ?? '');
  if (noted > 1 && isDaemon(readProcess(noted)?.command, paths.configFile)) return noted;
  return listProcesses().find(({ command }) => isDaemon(command, paths.configFile))?.pid;
}

/** A pid may be another process's by now; the command line says whose daemon it is. */
function isDaemon(command: readonly string[] | undefined, configFile: string): boolean {
  return (command?.[0]?.endsWith('containerd') && command.includes(configFile)) ?? false;
}

/** State of an earlier boot names processes and namespaces that are gone. */
async function forgetEarlierBoot(paths: ContainerdPaths): Promise<void> {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  if (readIfThere(paths.bootFile) === boot) return;
  if (existsSync(paths.runDir) && findDaemon(paths) === undefined) {
    await unmountBelow([paths.runDir]);
    rmSync(paths.runDir, { recursive: true, force: true });
  }
  mkdirSync(paths.runDir, { recursive: true, mode: 0o711 });
  writeFileSync(paths.bootFile, boot);
}

async function launch(paths: ContainerdPaths, host: HostFacts): Promise<number> {
  if (existsSync(paths.logFile) && statSync(paths.logFile).size > MAX_LOG_BYTES)
    renameSync(paths.logFile, `${paths.logFile}.1`);
  const logFd = openSync(paths.logFile, 'a', 0o640);
  try {
    const child = spawn(host.containerd ?? 'containerd', ['--config', paths.configFile], {
      detached: true,
      stdio: ['ignore', logFd, logFd],
      cwd: '/',
    });
    await new Promise<void>((done, fail) => {
      child.once('spawn', done);
      child.once('error', (cause) => fail(new Error('cannot start containerd', { cause })));
    });
    child.unref();
    const pid = child.pid ?? 0;
    writeFileSync(paths.pidFile, `${pid}`);
    return pid;
  } finally {
    closeSync(logFd);
  }
}

async function untilReady(
  paths: ContainerdPaths,
  pid: number,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = clock.now() + START_TIMEOUT_MS;
  let last: unknown;
  while (clock.now() < deadline) {
    signal?.throwIfAborted();
    try {
      await criVersion(`unix://${paths.socket}`, 1_000);
      return;
    } catch (error) {
      last = error;
    }
    if (!readProcess(pid)) throw new Error(`containerd ended at its start: ${logTail(paths)}`);
    await clock.sleep(POLL_MS, { signal });
  }
  const seconds = START_TIMEOUT_MS / 1000;
  throw new Error(
    `containerd (pid ${pid}) does not answer CRI on ${paths.socket} within ${seconds} s: ${logTail(paths)}`,
    { cause: last },
  );
}

function logTail(paths: ContainerdPaths): string {
  const lines = (readIfThere(paths.logFile) ?? '').trim().split('\n');
  const telling = lines.filter((line) => /level=(error|fatal)|^containerd:/.test(line));
  const shown = (telling.length > 0 ? telling : lines).slice(-LOG_TAIL_LINES);
  return `${shown.join('\n')}\n(all of it: ${paths.logFile})`;
}

/** SIGTERM, then SIGKILL; returns when the process is gone. Shims are not its children. */
async function endDaemon(pid: number, clock: Clock): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  if (await gone([pid], clock, STOP_TIMEOUT_MS)) return;
  signalProcess(pid, 'SIGKILL');
  await gone([pid], clock, STOP_TIMEOUT_MS);
}

/** Kills each shim of this instance with all its containers' processes. */
async function killShims(socket: string, clock: Clock): Promise<void> {
  for (let round = 0; round < 10; round++) {
    const processes = listProcesses();
    const shims = processes.filter(
      ({ command }) =>
        command[0]?.includes('containerd-shim') &&
        command[command.indexOf('-address') + 1] === socket,
    );
    if (shims.length === 0) return;
    // Containers first: a shim takes over orphans, so that what forks meanwhile is found again.
    const pids = shims.flatMap(({ pid }) => withDescendants(pid, processes)).reverse();
    for (const pid of pids) signalProcess(pid, 'SIGKILL');
    await gone(pids, clock, STOP_TIMEOUT_MS);
  }
}

async function gone(pids: readonly number[], clock: Clock, timeoutMs: number): Promise<boolean> {
  const deadline = clock.now() + timeoutMs;
  while (pids.some((pid) => readProcess(pid))) {
    if (clock.now() >= deadline) return false;
    await clock.sleep(POLL_MS);
  }
  return true;
}

/** True when an instance of `dir` has left live state: something to stop. */
export function containerdLeftState(dir: string): boolean {
  const { runDir } = containerdPaths(dir);
  return existsSync(runDir) && readdirSync(runDir).length > 0;
}
