import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const DEFAULT_DATA_DIR = '/var/lib/gantry';

/** Where everything of one machine lies. The order of precedence: flag, $GANTRY_DATA_DIR, default. */
export function dataDirOf(
  flag: string | undefined,
  env: Record<string, string | undefined>,
): string {
  return flag ?? env['GANTRY_DATA_DIR'] ?? DEFAULT_DATA_DIR;
}

/** Paths below the data directory that the command line itself reads and writes. */
export const paths = (dataDir: string) => ({
  adminKubeconfig: join(dataDir, 'admin.kubeconfig'),
  /** Process record of the running single-machine cluster. */
  record: join(dataDir, 'run', 'gantry.json'),
  log: join(dataDir, 'log', 'gantry.log'),
  node: (name: string) => join(dataDir, 'node', name),
});

/** Kubeconfig of a client verb: flag, $KUBECONFIG, the local cluster's, then the user's own. */
export function kubeconfigCandidates(
  flag: string | undefined,
  env: Record<string, string | undefined>,
  dataDir: string,
): string[] {
  if (flag !== undefined) return [flag];
  const fromEnv = env['KUBECONFIG']?.split(':').filter(Boolean) ?? [];
  if (fromEnv.length > 0) return fromEnv;
  return [paths(dataDir).adminKubeconfig, join(homedir(), '.kube', 'config')];
}

/** What `up` leaves for `down` and `status`: enough to find the processes again, and to be sure. */
export type ClusterRecord = {
  pid: number;
  /** Start time of the process in clock ticks since boot, so that a reused pid is not mistaken. */
  startTicks: string;
  server: string;
  nodeName: string;
  startedAt: string;
  /** Set when this cluster runs its own containerd. */
  containerdDir?: string;
};

export function writeRecord(dataDir: string, record: ClusterRecord): void {
  const file = paths(dataDir).record;
  mkdirSync(join(dataDir, 'run'), { recursive: true });
  writeFileSync(`${file}.tmp`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${file}.tmp`, file);
}

export function readRecord(dataDir: string): ClusterRecord | null {
  try {
    return JSON.parse(readFileSync(paths(dataDir).record, 'utf8')) as ClusterRecord;
  } catch {
    // Absent or torn by a crash: either way nothing is known to run.
    return null;
  }
}

export function removeRecord(dataDir: string): void {
  rmSync(paths(dataDir).record, { force: true });
}
