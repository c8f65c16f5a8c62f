import { accessSync, constants, existsSync, mkdirSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { networkHolder } from '#cli/network-claim.ts';

/** What a node needs from this machine. */
export type Requirement = {
  /** A program looked up in PATH and the sbin folders, or the first file of `anyOf`. */
  program?: string;
  anyOf?: readonly string[];
  /** Debian's package that brings it. */
  package: string;
  why: string;
};

export const requirements: readonly Requirement[] = [
  { program: 'containerd', package: 'containerd', why: 'runs the containers' },
  { program: 'runc', package: 'runc', why: 'starts container processes' },
  { program: 'nft', package: 'nftables', why: 'programs Services' },
  { program: 'ip', package: 'iproute2', why: 'sets up pod networks' },
  {
    anyOf: ['/usr/lib/cni/bridge', '/opt/cni/bin/bridge'],
    package: 'containernetworking-plugins',
    why: 'gives pods their addresses',
  },
];

/** Besides, when it plays several nodes. */
const forSeveralNodes: Requirement = {
  program: 'nsenter',
  package: 'util-linux',
  why: 'puts each further node into its own network namespace',
};

/** Less than this much free space and images or the store would soon fill the disk. */
const MIN_FREE_BYTES = 512 * 1024 * 1024;

export type PreflightOptions = {
  dataDir: string;
  ports: readonly { port: number; flag: string; use: string }[];
  networkName: string;
  nodes: number;
  /** The runtime is somebody else's: no containerd of our own is needed. */
  ownRuntime: boolean;
  env: Record<string, string | undefined>;
  platform: string;
  uid: number;
};

/** Everything that stands in the way, each with its way out. Empty when the machine is ready. */
export async function preflight(options: PreflightOptions): Promise<string[]> {
  const { dataDir, ports, networkName, nodes, ownRuntime, env, platform, uid } = options;
  if (platform !== 'linux') {
    return [
      `pods run on Linux; this is ${platform}. The API server alone works here: ./gantry apiserver`,
    ];
  }
  const problems: string[] = [];
  if (uid !== 0) {
    problems.push(
      'a node needs root (namespaces, cgroups, network): run as root or with sudo. ' +
        'The API server alone needs none: ./gantry apiserver --data-dir DIR',
    );
  }
  const needed = nodes > 1 ? [...requirements, forSeveralNodes] : requirements;
  const missing = needed.filter(
    (r) => (ownRuntime || r.package !== 'containerd') && !isThere(r, env),
  );
  if (missing.length > 0) {
    const list = missing.map((r) => `${r.package} (${r.why})`).join(', ');
    problems.push(
      `missing packages: ${list}. Run "make setup", or: apt-get install ${missing.map((r) => r.package).join(' ')}`,
    );
  }
  problems.push(...checkDisk(dataDir));
  const holder = networkHolder(networkName, dataDir);
  if (holder) {
    problems.push(
      `the network name ${networkName} is used by the cluster in ${holder}; stop that one ` +
        '("gantry down --data-dir ..."), or choose other --network-name, --cluster-cidr and ports',
    );
  }
  for (const { port, flag, use } of ports) {
    const inUse = await portProblem(port);
    if (inUse)
      problems.push(`port ${port} (${use}) ${inUse}; free it or choose another with ${flag}`);
  }
  return problems;
}

function isThere(requirement: Requirement, env: Record<string, string | undefined>): boolean {
  if (requirement.anyOf) return requirement.anyOf.some((file) => existsSync(file));
  const folders = [
    ...(env['PATH'] ?? '').split(delimiter),
    '/usr/sbin',
    '/sbin',
    '/usr/local/sbin',
  ];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, requirement.program ?? ''), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function checkDisk(dataDir: string): string[] {
  try {
    mkdirSync(dataDir, { recursive: true });
    accessSync(dataDir, constants.W_OK);
    const { bavail, bsize } = statfsSync(dataDir);
    const free = bavail * bsize;
    if (free >= MIN_FREE_BYTES) return [];
    return [
      `only ${Math.floor(free / 1048576)} MiB are free at ${dataDir}; ` +
        `at least ${MIN_FREE_BYTES / 1048576} MiB are needed. Free some, or choose another --data-dir`,
    ];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return [`the data directory cannot be written: ${reason}. Choose another with --data-dir`];
  }
}

function portProblem(port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'EADDRINUSE' ? 'is in use' : `cannot be used: ${error.message}`),
    );
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () =>
      server.close(() => resolve(null)),
    );
  });
}
