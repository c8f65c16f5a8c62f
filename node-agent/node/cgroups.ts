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
import { namesIn } from '#base/files.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { PodLimits } from '#node-agent/containers/container-resources.ts';
import type { QosClass } from '#node-agent/containers/qos.ts';
import { type CgroupDriver, cgroupLayout } from '#node-agent/node/cgroup-layout.ts';
import {
  ACCOUNTING,
  type GroupLimits,
  hugepageFiles,
  limitFiles,
  sharesOfWeight,
  sliceProperties,
} from '#node-agent/node/cgroup-limits.ts';
import { systemdUnits, type SystemdUnits } from '#node-agent/node/systemd-units.ts';

const CGROUP2_MAGIC = 0x63677270;
/** v1 hierarchies in which pods have limits of their own; the runtime makes the others itself. */
const V1_LIMITED = ['cpu', 'memory', 'pids', 'hugetlb'];
const V2_CONTROLLERS = ['cpu', 'memory', 'pids', 'cpuset', 'io', 'hugetlb'];
const CLASSES: readonly QosClass[] = ['Guaranteed', 'Burstable', 'BestEffort'];
/** What the kernel takes as shares. */
const MIN_SHARES = 2;
const MAX_SHARES = 262_144;
/** A slice is there in milliseconds; a machine that only just boots takes longer. */
const SLICE_POLL_MS = 5;
const SLICE_WAIT_MS = 10_000;

export type Cgroups = {
  version: 1 | 2;
  driver: CgroupDriver;
  /** Where a pod's group is, below each hierarchy. */
  podPath(uid: string, qos: QosClass): string;
  /** The parent to give the runtime for a pod's sandbox. */
  sandboxParent(uid: string, qos: QosClass): string;
  /** Bounds all pods together; makes the groups of the classes. */
  setNode(limits: GroupLimits): Promise<void>;
  /** Makes the pod's groups with its limits. What the host does not allow is left out, once logged. */
  create(uid: string, qos: QosClass, limits: PodLimits): Promise<void>;
  update(uid: string, qos: QosClass, limits: PodLimits): Promise<void>;
  /** Processes and threads of a pod; 0 where the host does not count them. */
  processes(uid: string, qos: QosClass): number;
  /** Some process of a pod's containers; undefined when none runs. */
  aProcess(uid: string, qos: QosClass): number | undefined;
  /** Removes a pod's groups everywhere. False while a process still lives in them. */
  remove(uid: string): Promise<boolean>;
  /** Kills what still lives in a pod's groups; how many processes that were. */
  killLeft(uid: string): number;
  /** uids of all pods that have groups. */
  pods(): string[];
  /** Removes the node's own groups, for a node that is taken down; pods' groups must be gone. */
  removeAll(): Promise<void>;
};

export type CgroupOptions = {
  /** Default cgroupfs. */
  driver?: CgroupDriver;
  /** Own to each node, so that two agents on a machine don't touch each other's: `gantry/n1`. */
  root: string;
  mount?: string;
  /** Default: what is mounted there. */
  version?: 1 | 2;
  units?: SystemdUnits;
  clock?: Clock;
  log: Log;
};

/** Pods' control groups as `cgroupLayout` names them, on cgroup v1 or v2. */
export function openCgroups(options: CgroupOptions): Cgroups {
  const { driver = 'cgroupfs', root, mount = '/sys/fs/cgroup', log } = options;
  const { clock = systemClock } = options;
  const version = options.version ?? (statfsSync(mount).type === CGROUP2_MAGIC ? 2 : 1);
  const layout = cgroupLayout(driver, root);
  const maker = { mount, version, clock, log };
  const groups =
    driver === 'systemd'
      ? sliceGroups(maker, options.units ?? systemdUnits())
      : folderGroups(maker);
  const hierarchies = (): string[] =>
    version === 2
      ? [mount]
      : readdirSync(mount)
          .map((name) => join(mount, name))
          .filter((dir) => existsSync(join(dir, 'cgroup.procs')));
  const parents = [...new Set(CLASSES.map((qos) => layout.parentOf(qos)))];
  const counted = join(mount, version === 1 ? 'pids' : '');
  const podDirs = (uid: string): string[] =>
    hierarchies().flatMap((hierarchy) =>
      CLASSES.map((qos) => join(hierarchy, layout.pod(uid, qos))),
    );

  /** CPU shares of the Burstable pods: their class has the sum. */
  const burstable = new Map<string, number>();
  let told: number | undefined;
  async function tellClass(): Promise<void> {
    const sum = [...burstable.values()].reduce((total, shares) => total + shares, 0);
    const cpuShares = Math.min(MAX_SHARES, Math.max(MIN_SHARES, sum));
    if (cpuShares === told) return;
    told = cpuShares;
    await groups.limit(layout.parentOf('Burstable'), { cpuShares });
  }
  /** Pods that were here before this process. */
  function readBurstable(): void {
    const dir = join(mount, version === 1 ? 'cpu' : '', layout.parentOf('Burstable'));
    for (const name of namesIn(dir)) {
      const uid = layout.uidOf(name);
      if (uid === undefined) continue;
      const shares = readNumber(join(dir, name, version === 1 ? 'cpu.shares' : 'cpu.weight'));
      if (shares) burstable.set(uid, version === 1 ? shares : sharesOfWeight(shares));
    }
  }

  /** A pod has these shares now. */
  async function count(uid: string, qos: QosClass, { cpuShares }: PodLimits): Promise<void> {
    if (qos !== 'Burstable') return;
    burstable.set(uid, cpuShares);
    await tellClass();
  }

  return {
    version,
    driver,
    podPath: (uid, qos) => layout.pod(uid, qos),
    sandboxParent: (uid, qos) => layout.sandboxParent(uid, qos),
    async setNode(limits) {
      await groups.make(layout.node, limits);
      readBurstable();
      await groups.make(layout.parentOf('Burstable'), {});
      await groups.make(layout.parentOf('BestEffort'), { cpuShares: MIN_SHARES });
      await tellClass();
    },
    async create(uid, qos, limits) {
      await groups.make(layout.pod(uid, qos), limits);
      await count(uid, qos, limits);
    },
    async update(uid, qos, limits) {
      await groups.limit(layout.pod(uid, qos), limits);
      await count(uid, qos, limits);
    },
    processes: (uid, qos) => readNumber(join(counted, layout.pod(uid, qos), 'pids.current')),
    aProcess(uid, qos) {
      const dir = join(counted, layout.pod(uid, qos));
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
    async remove(uid) {
      const dirs = podDirs(uid).filter(existsSync);
      if (dirs.some((dir) => collectPids(dir).size > 0)) return false;
      for (const qos of CLASSES) {
        if (dirs.some((dir) => dir.endsWith(layout.pod(uid, qos))))
          await groups.end(layout.pod(uid, qos));
      }
      const gone = dirs.map(removeTree).every(Boolean);
      if (gone && burstable.delete(uid)) await tellClass();
      return gone;
    },
    killLeft(uid) {
      const dirs = podDirs(uid).filter(existsSync);
      const pids = new Set(dirs.flatMap((dir) => [...collectPids(dir)]));
      for (const dir of pids.size > 0 ? dirs : []) killAll(dir);
      return pids.size;
    },
    pods() {
      const found = new Set<string>();
      for (const hierarchy of hierarchies()) {
        for (const dir of parents.map((path) => join(hierarchy, path)).filter(existsSync)) {
          for (const name of readdirSync(dir)) {
            const uid = layout.uidOf(name);
            if (uid !== undefined) found.add(uid);
          }
        }
      }
      return [...found];
    },
    async removeAll() {
      await groups.end(layout.node);
      // Never the mount itself: what is empty in it belongs to others.
      const isOwn = driver === 'cgroupfs' && /[^/]/.test(root);
      const above = isOwn ? `/${root}` : layout.node;
      for (const hierarchy of hierarchies()) {
        removeTree(join(hierarchy, above));
        // The folder all nodes of the machine share goes with the last of them.
        const shared = join(hierarchy, dirname(above));
        const isLast =
          dirname(above) !== '/' &&
          existsSync(shared) &&
          !readdirSync(shared, { withFileTypes: true }).some((entry) => entry.isDirectory());
        if (isLast) removeTree(shared);
      }
    },
  };
}

type Maker = { mount: string; version: 1 | 2; clock: Clock; log: Log };

/** How groups come, change and go: one implementation for each driver. */
type Groups = {
  /** Makes a group and those above it. */
  make(path: string, limits: GroupLimits): Promise<void>;
  limit(path: string, limits: GroupLimits): Promise<void>;
  /** Tells whoever made it that a group goes; its folders are removed by the caller. */
  end(path: string): Promise<void>;
};

type Write = (file: string, value: string) => void;

/** Makes a group's folders, and those above with the controllers they pass on. */
function makeFolders({ mount, version }: Maker, path: string, write: Write): void {
  if (version === 1) {
    for (const name of V1_LIMITED) {
      if (existsSync(join(mount, name))) mkdirSync(join(mount, name, path), { recursive: true });
    }
    return;
  }
  // In v2 a controller works in a group only when every group above passes it on.
  let dir = mount;
  for (const part of path.split('/').filter(Boolean)) {
    passOn(dir, write);
    dir = join(dir, part);
    mkdirSync(dir, { recursive: true });
  }
  passOn(dir, write);
}

function passOn(dir: string, write: Write): void {
  if (!existsSync(join(dir, 'cgroup.controllers'))) return;
  const available = readFileSync(join(dir, 'cgroup.controllers'), 'utf8').trim().split(' ');
  const wanted = V2_CONTROLLERS.filter((c) => available.includes(c)).map((c) => `+${c}`);
  write(join(dir, 'cgroup.subtree_control'), wanted.join(' '));
}

function folderGroups(maker: Maker): Groups {
  const { mount, version } = maker;
  const write = fileWriter(maker);
  const limit = (path: string, limits: GroupLimits): void => {
    for (const one of limitFiles(version, limits))
      write(join(mount, version === 1 ? one.controller : '', path, one.file), one.value);
  };
  return {
    async make(path, limits) {
      makeFolders(maker, path, write);
      limit(path, limits);
    },
    limit: async (path, limits) => limit(path, limits),
    end: async () => {},
  };
}

function sliceGroups(maker: Maker, units: SystemdUnits): Groups {
  const { mount, version, clock } = maker;
  const write = fileWriter(maker);
  const nameOf = (path: string): string => path.split('/').at(-1) ?? '';
  const dirOf = (path: string): string => join(mount, version === 1 ? 'memory' : '', path);
  /** Slices that this process has made. */
  const known = new Set<string>();

  async function set(path: string, limits: GroupLimits): Promise<void> {
    const name = nameOf(path);
    const properties = [...ACCOUNTING, ...sliceProperties(version, limits)];
    await units.ensureSlice(name, `Kubernetes pods: ${name}`, properties);
    known.add(path);
  }
  async function limitPages(path: string, limits: GroupLimits): Promise<void> {
    const files = hugepageFiles(version, limits);
    if (files.length === 0) return;
    // systemd has only taken the job when it answers, and does not know this controller.
    for (let waitedMs = 0; !existsSync(dirOf(path)); waitedMs += SLICE_POLL_MS) {
      if (waitedMs >= SLICE_WAIT_MS)
        throw new Error(`systemd has not started ${nameOf(path)} within ${SLICE_WAIT_MS} ms`);
      await clock.sleep(SLICE_POLL_MS);
    }
    makeFolders(maker, path, write);
    for (const one of files)
      write(join(mount, version === 1 ? one.controller : '', path, one.file), one.value);
  }
  async function limit(path: string, limits: GroupLimits): Promise<void> {
    await set(path, limits);
    await limitPages(path, limits);
  }
  return {
    async make(path, limits) {
      // Those above would come by themselves, but without their controllers.
      const names = path.split('/').filter(Boolean);
      for (let i = 1; i < names.length; i++) {
        const above = `/${names.slice(0, i).join('/')}`;
        if (!known.has(above)) await set(above, {});
      }
      await limit(path, limits);
    },
    limit,
    async end(path) {
      known.delete(path);
      await units.stop(nameOf(path));
    },
  };
}

/** Writes what the host allows, and says once of each kind of file what it does not. */
function fileWriter({ log }: Maker): Write {
  const complained = new Set<string>();
  return (file, value) => {
    try {
      writeFileSync(file, value);
    } catch (error) {
      const name = file.split('/').at(-1) ?? file;
      if (complained.has(name)) return;
      complained.add(name);
      log.warn('the host does not allow a pod limit', { file: name, error: errorText(error) });
    }
  };
}

function readNumber(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return 0; // gone, or no such controller
  }
}

/** The processes of a group and of those below it. */
function collectPids(dir: string, into = new Set<number>()): Set<number> {
  for (const entry of readdirSync(dir, { withFileTypes: true }))
    if (entry.isDirectory()) collectPids(join(dir, entry.name), into);
  for (const pid of readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n'))
    if (pid !== '') into.add(Number(pid));
  return into;
}

/** Ends all processes of a group: v2 does it at once, also those that are just being made. */
function killAll(dir: string): void {
  const atOnce = join(dir, 'cgroup.kill');
  if (existsSync(atOnce)) return writeFileSync(atOnce, '1');
  for (const pid of collectPids(dir)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has just ended
    }
  }
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
