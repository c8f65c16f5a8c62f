import { existsSync, statSync } from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';

/** Source: kubelet's containerLogMaxSize and containerLogMaxFiles. */
const MAX_BYTES = 10 * 1024 * 1024;
const MAX_FILES = 5;
const CHECK_MS = 10_000;

export type RotationOptions = { services: NodeServices; clock: Clock; signal: AbortSignal };

/** Keeps the logs of running containers from growing without end. */
export async function rotateLogs({ services, clock, signal }: RotationOptions): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(CHECK_MS, { signal }).catch(() => undefined);
    for (const { state } of services.runtimes.pods()) {
      for (const { id, logPath, state: running } of state.containers) {
        if (signal.aborted || running !== 'running' || !isLarge(logPath)) continue;
        await rotate(logPath, () => services.runtime.reopenContainerLog(id)).catch(
          (error: unknown) =>
            services.log.warn('could not rotate a log', { logPath, error: errorText(error) }),
        );
      }
    }
  }
}

function isLarge(path: string): boolean {
  try {
    return path !== '' && statSync(path).size > MAX_BYTES;
  } catch {
    return false; // not written yet
  }
}

/**
 * Sets the log aside as `<log>.<time>` and has the runtime open a new one; the oldest beyond the
 * bound are removed. When the runtime cannot, the name is given back, so that no line is lost.
 */
export async function rotate(
  path: string,
  reopen: () => Promise<void>,
  now: Date = new Date(),
): Promise<void> {
  const stamp = now
    .toISOString()
    .replace(/[-:]|\.\d+Z/g, '')
    .replace('T', '-');
  const aside = `${path}.${stamp}`;
  await rename(path, aside);
  try {
    await reopen();
  } catch (error) {
    if (!existsSync(path)) await rename(aside, path);
    throw error;
  }
  const old = await rotatedLogs(path);
  for (const name of old.slice(0, Math.max(0, old.length - (MAX_FILES - 1)))) await rm(name);
}

/** Earlier parts of a log, oldest first. */
export async function rotatedLogs(path: string): Promise<string[]> {
  const prefix = `${basename(path)}.`;
  const names = await readdir(dirname(path)).catch((): string[] => []);
  return names
    .filter((name) => name.startsWith(prefix))
    .sort()
    .map((name) => join(dirname(path), name));
}
