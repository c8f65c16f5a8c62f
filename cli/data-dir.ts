import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { namesIn, writeAtomic } from '#base/files.ts';

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
  settings: join(dataDir, 'cluster.json'),
  /** Of a machine that is a node of a cluster elsewhere. */
  joined: join(dataDir, 'node.json'),
  log: join(dataDir, 'log', 'gantry.log'),
  node: (name: string) => join(dataDir, 'node', name),
  /** Of the further nodes of this machine, which have processes of their own. */
  nodeRecord: (name: string) => join(dataDir, 'run', `node-${name}.json`),
  nodeLog: (name: string) => join(dataDir, 'log', `node-${name}.log`),
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
};

/** What `down` must know even after a crash: names of things outside the data directory. */
export type ClusterSettings = {
  networkName: string;
  /** Nodes besides the first that this machine runs or ran. */
  furtherNodes?: readonly string[];
};

/** One agent process: `startTicks` as in the cluster's record. */
export type AgentRecord = { pid: number; startTicks: string };

export const writeRecord = (dataDir: string, record: ClusterRecord): void =>
  writeJson(paths(dataDir).record, record);

export const readRecord = (dataDir: string): ClusterRecord | null =>
  readJson<ClusterRecord>(paths(dataDir).record);

export const writeSettings = (dataDir: string, settings: ClusterSettings): void =>
  writeJson(paths(dataDir).settings, settings);

export const readSettings = (dataDir: string): ClusterSettings | null =>
  readJson<ClusterSettings>(paths(dataDir).settings);

export const writeAgentRecord = (dataDir: string, name: string, record: AgentRecord): void =>
  writeJson(paths(dataDir).nodeRecord(name), record);

export const readAgentRecord = (dataDir: string, name: string): AgentRecord | null =>
  readJson<AgentRecord>(paths(dataDir).nodeRecord(name));

/** Names of the nodes that have a record. */
export function agentRecords(dataDir: string): string[] {
  const dir = dirname(paths(dataDir).record);
  const files = namesIn(dir);
  return files.flatMap((file) => /^node-(.+)\.json$/.exec(file)?.[1] ?? []);
}

export function removeAgentRecord(dataDir: string, name: string): void {
  rmSync(paths(dataDir).nodeRecord(name), { force: true });
}

/** What `gantry join` needs to start the agent again. */
export type JoinedNode = {
  server: string;
  nodeName: string;
  nodeIp: string;
  port: number;
  networkName: string;
  /** Of the agent, as the cluster's settings say. */
  flags: readonly string[];
};

export const writeJoinedNode = (dataDir: string, node: JoinedNode): void =>
  writeJson(paths(dataDir).joined, node);

/** The cluster that this machine has joined; null when it has not. */
export const joinedNode = (dataDir: string): JoinedNode | null =>
  readJson<JoinedNode>(paths(dataDir).joined);

function writeJson(file: string, value: unknown): void {
  mkdirSync(dirname(file), { recursive: true });
  writeAtomic(file, `${JSON.stringify(value, null, 2)}\n`);
}

function readJson<T>(file: string): T | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch {
    // Absent, or torn by a crash: either way it says nothing.
    return null;
  }
}

export function removeRecord(dataDir: string): void {
  rmSync(paths(dataDir).record, { force: true });
}
