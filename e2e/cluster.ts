import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { defaultNodeIp } from '#cli/cluster.ts';
import { writeSettings } from '#cli/data-dir.ts';
import { dataDirPrefix, type Output, run, type RunOptions } from '#e2e/processes.ts';

const root = join(import.meta.dirname, '..');
export const gantryProgram = join(root, 'gantry');

/** A real single-machine cluster with a data directory and ports of its own. */
export type TestCluster = {
  dataDir: string;
  kubeconfig: string;
  server: string;
  nodeName: string;
  /** Real kubectl against this cluster; throws when it fails, unless `mayFail`. */
  kubectl(args: string, options?: KubectlOptions): Promise<string>;
  /** `gantry` with this cluster's data directory. */
  gantry(args: readonly string[], options?: RunOptions): Promise<Output>;
  /** Pid of the running single-process cluster. */
  pid(): Promise<number>;
  /** Flags of a node agent in a process of its own, with credentials freshly issued. */
  agentFlags(): Promise<string[]>;
  up(): Promise<Output>;
  down(): Promise<Output>;
  /** Stops everything and removes the data: nothing of the cluster is left. */
  destroy(): Promise<void>;
};

export type KubectlOptions = { input?: string; mayFail?: boolean; timeoutMs?: number };

/** Why a real cluster cannot run here, or null when it can. */
export function cannotRun(): string | null {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  for (const program of ['containerd', 'runc', 'nft']) {
    const found = ['/usr/bin', '/usr/sbin', '/usr/local/bin', '/sbin', '/bin'].some((dir) =>
      existsSync(join(dir, program)),
    );
    if (!found) return `needs ${program}; run "make setup"`;
  }
  return null;
}

/** A port nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return address.port;
}

/** Apart from a cluster that the machine's user may have running. */
export const NETWORK_NAME = 'gantry-e2e';
export const CLUSTER_CIDR = '10.245.0.0/16';
export const SERVICE_CIDR = '10.97.0.0/16';
const NODE_NETWORK = [
  ...['--cluster-cidr', CLUSTER_CIDR, '--service-cidr', SERVICE_CIDR],
  ...['--cluster-dns', '10.97.0.10', '--network-name', NETWORK_NAME],
];

/** Lays out a cluster without starting it; `upFlags` are added to those of `gantry up`. */
export async function layOutCluster(
  options: { upFlags?: readonly string[]; microvms?: 'auto' | 'off' } = {},
): Promise<TestCluster> {
  const dataDir = mkdtempSync(join('/tmp', dataDirPrefix(process.pid)));
  writeSettings(dataDir, { networkName: NETWORK_NAME });
  const [apiPort, agentPort] = [await freePort(), await freePort()];
  const kubeconfig = join(dataDir, 'admin.kubeconfig');
  const nodeName = 'e2e-node';
  const nodeIp = defaultNodeIp();
  const gantry: TestCluster['gantry'] = (args, options) =>
    run(gantryProgram, args, { ...options, env: { GANTRY_DATA_DIR: dataDir, ...options?.env } });
  return {
    dataDir,
    kubeconfig,
    nodeName,
    server: `https://127.0.0.1:${apiPort}`,
    gantry,
    async kubectl(args, options = {}) {
      const { mayFail = false, ...rest } = options;
      const words = splitWords(args);
      const result = await run('kubectl', ['--kubeconfig', kubeconfig, ...words], rest);
      if (result.code !== 0 && !mayFail) {
        throw new Error(`kubectl ${args}: exit ${result.code}\n${result.stderr}${result.stdout}`);
      }
      return result.stdout + (mayFail ? result.stderr : '');
    },
    pid: async () => {
      const record = readFileSync(join(dataDir, 'run', 'gantry.json'), 'utf8');
      return (JSON.parse(record) as { pid: number }).pid;
    },
    async agentFlags() {
      const server = `https://${nodeIp}:${apiPort}`;
      const issued = await gantry([
        ...['node-credentials', nodeName, '--node-ip', nodeIp, '--server', server],
      ]);
      if (issued.code !== 0) throw new Error(issued.stderr);
      return [
        ...issued.stdout.trim().split(' '),
        ...['--data-dir', dataDir, '--port', String(agentPort), ...NODE_NETWORK],
      ];
    },
    up: () =>
      gantry([
        'up',
        ...['--secure-port', String(apiPort), '--kubelet-port', String(agentPort)],
        ...['--node-name', nodeName],
        ...['--cluster-cidr', CLUSTER_CIDR, '--service-cluster-ip-range', SERVICE_CIDR],
        ...['--network-name', NETWORK_NAME],
        // Their guest is built per data directory: only tests that use microVMs pay for it.
        ...['--microvms', options.microvms ?? 'off'],
        ...(options.upFlags ?? []),
      ]),
    down: () => gantry(['down']),
    async destroy() {
      const result = await gantry(['down', '--remove-data']);
      if (result.code !== 0) throw new Error(`gantry down failed: ${result.stderr}`);
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** Starts a cluster and waits until its node is Ready. */
export async function startCluster(): Promise<TestCluster> {
  const cluster = await layOutCluster();
  const result = await cluster.up();
  if (result.code === 0) return cluster;
  await cluster.destroy().catch(() => {});
  throw new Error(`gantry up failed:\n${result.stdout}${result.stderr}`);
}

/** Splits like a shell: quotes keep blanks together and are taken off. */
function splitWords(text: string): string[] {
  const words = text.match(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g) ?? [];
  return words.map((word) => word.replace(/'([^']*)'|"([^"]*)"/g, (_, a, b) => a ?? b));
}

/** What must be the same before and after a test: whatever a cluster could leave on the machine. */
export function machineTraces(dataDir: string): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(dataDir));
  return mounts;
}
