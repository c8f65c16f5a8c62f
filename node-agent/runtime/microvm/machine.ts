/**
 * The boundary inside the microVM runtime. Below it: virtual machine monitors, the guest's kernel and
 * its agent, templates and the pool (vmm/, guest/). Above it: the CRI server that makes pods of them
 * (cri/, images/). A VMM is one file that offers `Vmm`; a VM that answers offers `Guest`.
 */

/** What a VM is made of; sizes decide which template it can be restored from. */
export type VmSpec = {
  /** The pod sandbox's id; also names the VM's folder below the runtime's state directory. */
  id: string;
  memoryMib: number;
  vcpus: number;
  /** Network namespace that CNI fills; the VM's tap is joined to `interfaceName` in it. */
  netnsPath: string;
  interfaceName: string;
  /** Cgroup (path below each hierarchy) that the VMM's process joins; made by the caller. */
  cgroupPath: string;
  /** Host folder that the guest sees as its shared tree; mounts are bound below it. */
  shareDir: string;
};

export type Disk = { path: string; readonly: boolean };

/** A running VM. Everything it needs to be found again is in its folder. */
export type Vm = {
  readonly spec: VmSpec;
  readonly pid: number;
  readonly startedBy: 'pool' | 'template' | 'cold boot';
  readonly guest: Guest;
  /** Adds a block device; resolves to the LUN by which the guest finds it. */
  addDisk(disk: Disk): Promise<number>;
  removeDisk(lun: number): Promise<void>;
  /** Resolves when the VMM's process is gone, with the last of the guest's kernel messages. */
  readonly ended: Promise<{ reason: string; kernelLog: string }>;
  /** Asks the guest to power off, then kills what is left; idempotent. */
  stop(options: { graceMs: number }): Promise<void>;
};

export type StartOptions = {
  signal: AbortSignal;
  /**
   * Resolves when the pod's network namespace has its interface: a VM begins before that. Its
   * failure is that of the start. Absent: it has it.
   */
  ready?: Promise<unknown>;
};

export type Vmm = {
  readonly name: string;
  /** `KVM` or `TCG`, and why where it is the slower one. */
  readonly accelerator: { kind: 'KVM' | 'TCG'; reason: string };
  start(spec: VmSpec, options: StartOptions): Promise<Vm>;
  /** Every VM of an earlier life of the runtime that still runs. */
  findAll(): Promise<Vm[]>;
  /** Ends what belongs to no pod; VMs of pods run on. */
  close(): Promise<void>;
};

export type GuestNetwork = {
  hostname: string;
  mac: string;
  mtu: number;
  /** CIDR notation, IPv4 or IPv6. */
  addresses: string[];
  routes: { destination: string; gateway?: string }[];
  sysctls: Record<string, string>;
  /** Of all containers of the pod together; without, as many as the guest bears. */
  maxProcesses?: number;
};

export type GuestUser = { uid: number; gid: number; groups: number[] };

export type GuestProcess = {
  argv: string[];
  env: string[];
  cwd: string;
  user: GuestUser;
  /** Names like `NET_ADMIN`; the sets that execve sees. */
  capabilities: string[];
  noNewPrivileges: boolean;
  tty: boolean;
  stdin: boolean;
};

export type GuestMount = {
  /** Path below the shared tree (bound by the host), or a LUN for a block device, or a tmpfs. */
  source: { share: string } | { lun: number; filesystem: string } | { tmpfs: string };
  target: string;
  readonly: boolean;
};

export type GuestLimits = {
  cpuShares?: number;
  cpuQuota?: number;
  cpuPeriod?: number;
  memoryBytes?: number;
  pids?: number;
};

export type GuestContainer = {
  id: string;
  /** Read-only image base (LUN of a file system image), and where writes go. */
  rootfs: { lun: number; filesystem: string; writable: { lun: number } | 'memory' | 'none' };
  readonlyRootfs: boolean;
  process: GuestProcess;
  mounts: GuestMount[];
  devices: { lun: number; path: string; mode: number }[];
  limits: GuestLimits;
  /** `pod`: shared with the sandbox; a container id: that container's; `own`. */
  pidNamespace: 'pod' | 'own' | { container: string };
  maskedPaths: string[];
  readonlyPaths: string[];
  /** A BPF program that its processes run under; empty for none. */
  seccompFilter: Uint8Array;
  privileged: boolean;
};

export type GuestExit = { code: number; oomKilled: boolean; finishedAtMs: number };

export type GuestStats = {
  cpuNanoseconds: number;
  memoryUsageBytes: number;
  memoryWorkingSetBytes: number;
  memoryRssBytes: number;
  pids: number;
  /** Written layer. */
  filesystemBytes: number;
  filesystemInodes: number;
};

/** One process's streams. Output is resumable: what was not acknowledged comes again. */
export type GuestStreams = {
  /** In order; `from` the runtime's last acknowledged byte of each stream. Ends after the exit. */
  output(): AsyncIterable<{ stream: 'stdout' | 'stderr'; bytes: Uint8Array }>;
  /** Says that output so far is safe (in the log file); the guest may forget it. */
  acknowledge(): void;
  /** The number of the record that output() gave last; they count up from the process's start. */
  taken(): bigint;
  write(bytes: Uint8Array): Promise<void>;
  closeStdin(): Promise<void>;
  resize(size: { width: number; height: number }): Promise<void>;
  /** SIGKILL to the process and what it started; nothing to do when it has ended. */
  kill(): Promise<void>;
  readonly exit: Promise<GuestExit>;
};

/** The agent inside. Every call fails with RuntimeError; each has a deadline of its own. */
export type Guest = {
  configure(network: GuestNetwork): Promise<void>;
  createContainer(container: GuestContainer): Promise<void>;
  startContainer(id: string): Promise<GuestStreams>;
  /** The streams of a container that an earlier life of the runtime started. */
  reattach(id: string): Promise<GuestStreams>;
  exec(container: string, process: GuestProcess): Promise<GuestStreams>;
  signal(container: string, signal: number, options: { all: boolean }): Promise<void>;
  update(container: string, limits: GuestLimits): Promise<void>;
  removeContainer(id: string): Promise<void>;
  stats(container: string): Promise<GuestStats>;
  /** Reads a small file as the container sees it (the passwd file, a termination message). */
  readFile(container: string, path: string, maxBytes: number): Promise<Uint8Array | null>;
  /** A TCP connection to a port of the guest's loopback interface, for port-forward. */
  dial(port: number): Promise<GuestStreams>;
};
