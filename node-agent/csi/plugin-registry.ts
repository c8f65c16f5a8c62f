import { existsSync, type FSWatcher, mkdirSync, readdirSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { grpcCalls, grpcClient } from '#node-agent/grpc-calls.ts';

/** Sockets are found by the directory's own events; this look is the safety net. */
const LOOK_MS = 5_000;
const ASK_MS = 5_000;
const RETRY = { initialMs: 500, maxMs: 30_000 };
const CSI_PLUGIN = 'CSIPlugin';
/** Folders below the directory that are looked into. */
const MAX_DEPTH = 2;

export type PluginInfo = { name: string; endpoint: string; versions: readonly string[] };

export type PluginRegistryOptions = {
  /** `<root dir>/plugins_registry`. */
  dir: string;
  clock: Clock;
  log: Log;
  /** Takes a driver in; what it throws is told to the driver, and it is tried again. */
  register: (plugin: PluginInfo) => Promise<void>;
  /** The socket of a driver that was taken in is gone. */
  deregister: (name: string) => Promise<void>;
};

type Known = {
  /** Tells one socket from the next under the same name. */
  identity: string;
  name: string | undefined;
  failures: number;
  retryAtMs: number;
};

/**
 * Follows the directory where drivers put their registration sockets.
 * Source: Kubernetes "Device manager and plugin registration", pluginregistration v1.
 */
export async function followPlugins(
  options: PluginRegistryOptions,
  signal: AbortSignal,
): Promise<void> {
  const { dir, clock, log } = options;
  mkdirSync(dir, { recursive: true, mode: 0o750 });
  const known = new Map<string, Known>();
  let wake = (): void => {};
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(dir, () => wake());
    watcher.on('error', () => watcher?.close());
  } catch (error) {
    log.warn('cannot watch the plugin directory', { dir, error: errorText(error) });
  }
  try {
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => (wake = resolve));
      await look(options, known);
      const timer = new AbortController();
      const until = AbortSignal.any([signal, timer.signal]);
      const next = Math.min(...[...known.values()].map((k) => k.retryAtMs), clock.now() + LOOK_MS);
      const sleep = clock.sleep(Math.max(0, next - clock.now()), { signal: until });
      await Promise.race([woken, sleep.catch(() => undefined)]);
      timer.abort();
    }
  } finally {
    watcher?.close();
  }
}

async function look(options: PluginRegistryOptions, known: Map<string, Known>): Promise<void> {
  const { clock, log, deregister } = options;
  const sockets = socketsIn(options.dir, MAX_DEPTH);
  for (const [path, entry] of known) {
    if (sockets.get(path) === entry.identity) continue;
    known.delete(path);
    const moved = [...known.values()].some((other) => other.name === entry.name);
    if (!entry.name || moved || sockets.has(path)) continue;
    log.info('a CSI driver has left', { driver: entry.name });
    await deregister(entry.name).catch((error: unknown) =>
      log.warn('could not take a CSI driver out', { driver: entry.name, error: errorText(error) }),
    );
  }
  for (const [path, identity] of sockets) {
    const entry = known.get(path) ?? { identity, name: undefined, failures: 0, retryAtMs: 0 };
    known.set(path, entry);
    if (entry.name !== undefined || clock.now() < entry.retryAtMs) continue;
    try {
      entry.name = await take(options, path);
      entry.retryAtMs = Number.POSITIVE_INFINITY;
    } catch (error) {
      entry.failures++;
      entry.retryAtMs = clock.now() + backoffMs(entry.failures, RETRY);
      log.warn('could not register a plugin', { socket: path, error: errorText(error) });
    }
  }
}

type RawInfo = { type: string; name: string; endpoint: string; supportedVersions: string[] };

/** The drivers whose registration sockets in `dir` answer now; nothing is registered. */
export async function answeringDrivers(dir: string): Promise<{ name: string; endpoint: string }[]> {
  const asked = [...socketsIn(dir, MAX_DEPTH).keys()].map(async (path) => {
    const client = grpcClient(path);
    const call = grpcCalls(client, 'plugin-registration.proto', 'pluginregistration.Registration');
    try {
      const info = await call<RawInfo>('GetInfo', {}, { deadlineMs: ASK_MS });
      const { type, name, endpoint } = info;
      return type === CSI_PLUGIN ? [{ name, endpoint: endpoint || path }] : [];
    } catch {
      return []; // nobody serves it: the socket of a driver that has ended
    } finally {
      client.close();
    }
  });
  return (await Promise.all(asked)).flat();
}

/** Registers what answers on one socket; its name, or '' for a kind of plugin we have no use for. */
async function take({ register, log }: PluginRegistryOptions, path: string): Promise<string> {
  const client = grpcClient(path);
  try {
    const call = grpcCalls(client, 'plugin-registration.proto', 'pluginregistration.Registration');
    const info = await call<RawInfo>('GetInfo', {}, { deadlineMs: ASK_MS });
    const tell = (error: string): Promise<unknown> =>
      call(
        'NotifyRegistrationStatus',
        { pluginRegistered: error === '', error },
        { deadlineMs: ASK_MS },
      );
    if (info.type !== CSI_PLUGIN) {
      await tell(`plugins of type ${info.type} are not supported by this node`);
      return '';
    }
    try {
      checkVersions(info.name, info.supportedVersions);
      const { name, endpoint, supportedVersions } = info;
      await register({ name, endpoint: endpoint || path, versions: supportedVersions });
    } catch (error) {
      await tell(errorText(error)).catch(() => undefined); // the next try tells again
      throw error;
    }
    await tell('');
    log.info('a CSI driver is registered', { driver: info.name, endpoint: info.endpoint });
    return info.name;
  } finally {
    client.close();
  }
}

function checkVersions(name: string, versions: readonly string[]): void {
  if (versions.some((version) => /^v?1(\.|$)/.test(version))) return;
  throw new Error(
    `CSI driver ${name} supports versions ${versions.join(', ') || 'none'}; this node speaks CSI v1`,
  );
}

/** Sockets at or below a directory, with what tells each from an earlier one of its name. */
function socketsIn(dir: string, depth: number): Map<string, string> {
  const found = new Map<string, string>();
  if (!existsSync(dir)) return found;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue;
    const path = join(dir, entry.name);
    if (entry.isDirectory() && depth > 0) {
      for (const [inner, identity] of socketsIn(path, depth - 1)) found.set(inner, identity);
    } else if (entry.isSocket()) {
      const stats = statSync(path, { throwIfNoEntry: false });
      if (stats) found.set(path, `${stats.ino}:${stats.ctimeMs}`);
    }
  }
  return found;
}
