import { processStat } from '#base/process-stat.ts';
import type { Clock } from '#base/clock.ts';

/**
 * Start time of a process in clock ticks since boot; null when there is no such process (or only
 * its zombie). Together with the pid it names one process for good. Source: proc(5), field 22.
 */
export function startTicks(pid: number): string | null {
  const stat = processStat(pid);
  return stat && stat.state !== 'Z' ? stat.startTicks : null;
}

export const isSameProcess = (of: { pid: number; startTicks: string }): boolean =>
  startTicks(of.pid) === of.startTicks;

/** Asks with SIGTERM, insists with SIGKILL after `graceMs`; resolves when the process is gone. */
export async function endProcess(
  of: { pid: number; startTicks: string },
  graceMs: number,
  clock: Clock,
): Promise<'gone' | 'ended' | 'killed'> {
  if (!isSameProcess(of)) return 'gone';
  process.kill(of.pid, 'SIGTERM');
  const deadline = clock.now() + graceMs;
  while (isSameProcess(of)) {
    if (clock.now() > deadline) {
      process.kill(of.pid, 'SIGKILL');
      while (isSameProcess(of)) await clock.sleep(20);
      return 'killed';
    }
    await clock.sleep(20);
  }
  return 'ended';
}
