import { readFileSync } from 'node:fs';

/** What Linux calls a second's hundredth, for every program. Source: proc(5), sysconf(_SC_CLK_TCK). */
const MS_PER_TICK = 10;

/** One process as the kernel counts it. */
export type ProcessStat = {
  /** One letter; `Z` has ended and waits for its parent to look. */
  state: string;
  parent: number;
  /** CPU that it has used, in user and kernel mode, milliseconds. */
  cpuMs: number;
  /** Ticks since boot at which it started: with its pid, who it is. */
  startTicks: string;
};

/** Undefined when there is no such process. Source: proc(5), /proc/PID/stat. */
export function processStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name in parentheses may hold anything, so the fields are counted from its end.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    state: fields[0] ?? '',
    parent: Number(fields[1]),
    cpuMs: (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK,
    startTicks: fields[19] ?? '',
  };
}
