import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { errorText, type Log } from '#base/log.ts';
import type { PodLimits } from '#node-agent/containers/container-resources.ts';
import type { QosClass } from '#node-agent/containers/qos.ts';

const CGROUP2_MAGIC = 0x63677270;
/** v1 hierarchies in which pods have limits of their own; the runtime makes the others itself. */
const V1_LIMITED = ['cpu', 'memory', 'pids'];
const V2_CONTROLLERS = ['cpu', 'memory', 'pids', 'cpuset', 'io'];

export type Cgroups = {
  version: 1 | 2;
  /** The parent to give the runtime for a pod's sandbox. */
  podPath(uid: string, qos: QosClass): string;
  /** Makes the pod's groups with its limits. What the host does not allow is left out, once logged. */
  create(uid: string, qos: QosClass, limits: PodLimits): void;
  update(uid: string, qos: QosClass, limits: PodLimits): void;
  /** Processes and threads of a pod; 0 where the host does not count them. */
  processes(uid: string, qos: QosClass): number;
  /** Some process of a pod's containers; undefined when none runs. */
  aProcess(uid: string, qos: QosClass): number | undefined;
  /** Removes a pod's groups everywhere. False while a process still lives in them. */
  remove(uid: string): boolean;
  /** Kills what still lives in a pod's groups; how many processes that were. */
  killLeft(uid: string): number;
  /** uids of all pods that have groups. */
  pods(): string[];
  /** Removes the node's own groups, for a node that is taken down; pods' groups must be gone. */
  removeAll(): void;
};

export type CgroupOptions = {
  /** Own to each node, so that two agents on a machine don't touch each other's: `gantry/n1`. */
  prefix: string;
  mount?: string;
  /** Default: what is mounted there. */
  version?: 1 | 2;
  log: Log;
};

/** Pods' control groups under `<prefix>/kubepods[/<qos>]/pod<uid>`, on cgroup v1 or v2. */
export function openCgroups(options: CgroupOptions): Cgroups {
  const { prefix, mount = '/sys/fs/cgroup', log } = options;
  const version = options.version ?? (statfsSync(mount).type === CGROUP2_MAGIC ? 2 : 1);
  const root = `${prefix}/kubepods`;
  const hierarchies = (): string[] =>
    version === 2
      ? [mount]
      : readdirSync(mount)
          .map((name) => join(mount, name))
          .filter((dir) => existsSync(join(dir, 'cgroup.procs')));
  const parent = (qos: QosClass): string =>
    qos === 'Guaranteed' ? root : `${root}/${qos.toLowerCase()}`;
  const podPath = (uid: string, qos: QosClass): string => `/${parent(qos)}/pod${uid}`;
  const complained = new Set<string>();

  function write(file: string, value: string): void {
    try {
      writeFileSync(file, value);
    } catch (error) {
      const name = file.split('/').at(-1) ?? file;
      if (complained.has(name)) return;
      complained.add(name);
      log.warn('the host does not allow a pod limit', { file: name, error: errorText(error) });
    }
  }

  function make(path: string): void {
    if (version === 1) {
      for (const name of V1_LIMITED) {
        if (existsSync(join(mount, name))) mkdirSync(join(mount, name, path), { recursive: true });
      }
      return;
    }
    // In v2 a controller works in a group only when every group above passes it on.
    let dir = mount;
    for (const part of path.split('/').filter(Boolean)) {
      passOn(dir);
      dir = join(dir, part);
      mkdirSync(dir, { recursive: true });
    }
    passOn(dir);
  }

  function passOn(dir: string): void {
    if (!existsSync(join(dir, 'cgroup.controllers'))) return;
    const available = readFileSync(join(dir, 'cgroup.controllers'), 'utf8').trim().split(' ');
    const wanted = V2_CONTROLLERS.filter((c) => available.includes(c)).map((c) => `+${c}`);
    write(join(dir, 'cgroup.subtree_control'), wanted.join(' '));
  }

  function limit(path: string, limits: PodLimits): void {
    const { cpuQuotaUs, cpuPeriodUs, memoryBytes, pids } = limits;
    if (version === 2) {
      const dir = join(mount, path);
      // The published conversion of v1 shares (2…262144) to v2 weight (1…10000).
      const weight = 1 + Math.floor(((limits.cpuShares - 2) * 9999) / 262142);
      write(join(dir, 'cpu.weight'), String(weight));
      write(join(dir, 'cpu.max'), `${cpuQuotaUs ?? 'max'} ${cpuPeriodUs}`);
      write(join(dir, 'memory.max'), String(memoryBytes ?? 'max'));
      if (pids) write(join(dir, 'pids.max'), String(pids));
      return;
    }
    write(join(mount, 'cpu', path, 'cpu.shares'), String(limits.cpuShares));
    write(join(mount, 'cpu', path, 'cpu.cfs_period_us'), String(cpuPeriodUs));
    write(join(mount, 'cpu', path, 'cpu.cfs_quota_us'), String(cpuQuotaUs ?? -1));
    write(join(mount, 'memory', path, 'memory.limit_in_bytes'), String(memoryBytes ?? -1));
    if (pids) write(join(mount, 'pids', path, 'pids.max'), String(pids));
  }

  const parents = [root, `${root}/burstable`, `${root}/besteffort`];
  return {
    version,
    podPath,
    create(uid, qos, limits) {
      make(podPath(uid, qos));
      limit(podPath(uid, qos), limits);
    },
    update: (uid, qos, limits) => limit(podPath(uid, qos), limits),
    processes(uid, qos) {
      const file = join(mount, version === 1 ? 'pids' : '', podPath(uid, qos), 'pids.current');
      try {
        return Number(readFileSync(file, 'utf8'));
      } catch {
        return 0; // gone, or no such controller
      }
    },
    aProcess(uid, qos) {
      const dir = join(mount, version === 1 ? 'pids' : '', podPath(uid, qos));
      try {
        for (const entry of readdirSync(dir, { withFileTypes: true })) {
          if (!entry.isDirectory()) continue;
          const [pid] = readFileSync(join(dir, entry.name, 'cgroup.procs'), 'utf8').split('\n');
          if (pid) return Number(pid);
        }
      } catch {
        // the pod is being made or taken down
      }
      return undefined;
    },
    remove(uid) {
      let gone = true;
      for (const hierarchy of hierarchies()) {
        for (const dir of parents) gone = removeTree(join(hierarchy, dir, `pod${uid}`)) && gone;
      }
      return gone;
    },
    killLeft(uid) {
      const pids = new Set<number>();
      for (const hierarchy of hierarchies())
        for (const dir of parents) collectPids(join(hierarchy, dir, `pod${uid}`), pids);
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // it has just ended
        }
      }
      return pids.size;
    },
    pods() {
      const found = new Set<string>();
      for (const hierarchy of hierarchies()) {
        for (const dir of parents.map((path) => join(hierarchy, path)).filter(existsSync)) {
          for (const name of readdirSync(dir)) if (name.startsWith('pod')) found.add(name.slice(3));
        }
      }
      return [...found];
    },
    removeAll() {
      for (const hierarchy of hierarchies()) {
        removeTree(join(hierarchy, prefix));
        // The folder all nodes of the machine share goes with the last of them.
        const shared = join(hierarchy, dirname(prefix));
        const isLast =
          dirname(prefix) !== '.' &&
          existsSync(shared) &&
          !readdirSync(shared, { withFileTypes: true }).some((entry) => entry.isDirectory());
        if (isLast) removeTree(shared);
      }
    },
  };
}

/** The processes of a group and of those below it. */
function collectPids(dir: string, into: Set<number>): void {
  if (!existsSync(dir)) return;
  for (const entry of readdirSync(dir, { withFileTypes: true }))
    if (entry.isDirectory()) collectPids(join(dir, entry.name), into);
  for (const pid of readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n'))
    if (pid !== '') into.add(Number(pid));
}

/** Removes a group and those below it, as far as they are empty. */
function removeTree(dir: string): boolean {
  if (!existsSync(dir)) return true;
  let gone = true;
  for (const entry of readdirSync(dir, { withFileTypes: true }))
    if (entry.isDirectory()) gone = removeTree(join(dir, entry.name)) && gone;
  try {
    if (gone) rmdirSync(dir);
    return gone;
  } catch {
    return false; // a process is still in it; the caller tries again
  }
}
