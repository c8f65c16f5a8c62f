import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeAtomic } from '#base/files.ts';
import { isSameProcess, startTicks } from '#cli/process.ts';

/** Who uses a network name of this machine (bridge, nftables table, pod addresses). */
type Claim = { pid: number; startTicks: string; dataDir: string };

/** Below /run, because a claim must not outlive a boot. */
const CLAIMS = '/run/gantry/networks';
const fileOf = (name: string): string => join(CLAIMS, `${name}.json`);

/** The data directory of a running cluster that has this name already; null when it is free. */
export function networkHolder(name: string, dataDir: string): string | null {
  try {
    const claim = JSON.parse(readFileSync(fileOf(name), 'utf8')) as Claim;
    return isSameProcess(claim) && claim.dataDir !== dataDir ? claim.dataDir : null;
  } catch {
    // No claim, or one torn by a crash: nobody holds the name.
    return null;
  }
}

/** Notes that a process uses the name; by default this one. */
export function claimNetwork(
  name: string,
  dataDir: string,
  by = { pid: process.pid, startTicks: startTicks(process.pid) ?? '' },
): void {
  mkdirSync(CLAIMS, { recursive: true });
  const claim: Claim = { ...by, dataDir };
  writeAtomic(fileOf(name), JSON.stringify(claim));
}

export function releaseNetwork(name: string): void {
  rmSync(fileOf(name), { force: true });
}
