import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { processStat } from '#base/process-stat.ts';

/** The machine a table was measured on, and how busy it was: figures mean little without. */
export function machineLine(): string {
  const [cpu] = cpus();
  const gib = (totalmem() / 1024 ** 3).toFixed(0);
  return [
    `${cpus().length} × ${cpu?.model ?? 'unknown cpu'}`,
    `${gib} GiB`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
    `load ${loadavg()[0]?.toFixed(2)}`,
  ].join(', ');
}

/** Rows under headers, columns aligned, numbers to the right. */
export function printTable(
  title: string,
  headers: readonly string[],
  rows: readonly (readonly string[])[],
): void {
  const all = [headers, ...rows];
  const widths = headers.map((_, i) => Math.max(...all.map((row) => (row[i] ?? '').length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  console.log(`\n${title}\n${machineLine()}\n`);
  console.log(line(headers));
  console.log(widths.map((width) => '-'.repeat(width)).join('  '));
  for (const row of rows) console.log(line(row));
}

/** The value below which `share` (0..1) of the sorted values lie. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** 1234.5 → `1,235`; below ten with one decimal. */
export const figure = (value: number): string =>
  value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en-US');

/** Memory of a process that is in RAM now, its share of libraries included, MiB. */
export const residentMib = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** CPU that a process takes while `seconds` go by, percent of one core. */
export async function cpuPercent(pid: number, seconds: number): Promise<number> {
  const used = (): number => processStat(pid)?.cpuMs ?? Number.NaN;
  const before = used();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return (used() - before) / 10 / seconds;
}
