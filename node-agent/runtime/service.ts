/**
 * The boundary between the agent and whatever runs pods: the words of the Container Runtime
 * Interface (proto/cri.proto, runtime.v1) in camelCase. Implementations: containerd.ts (any CRI
 * socket); one suite (suite.ts) holds for all of them.
 *
 * Every call fails with RuntimeError. Times are nanoseconds since the epoch unless a name says else.
 */

/** Labels by which everything of a pod is found again, as the kubelet writes them. */
export const LABEL = {
  podName: 'io.kubernetes.pod.name',
  podNamespace: 'io.kubernetes.pod.namespace',
  podUid: 'io.kubernetes.pod.uid',
  containerName: 'io.kubernetes.container.name',
} as const;

/** The handler of RuntimeClasses whose pods are microVMs. */
export const MICROVM_HANDLER = 'microvm';
/** How our runtime for it names itself. */
export const MICROVM_RUNTIME = 'gantry-microvm';

export type RuntimeErrorCode =
  | 'NotFound'
  | 'DeadlineExceeded'
  | 'Unimplemented'
  | 'Unavailable'
  | 'AlreadyExists'
  | 'Cancelled'
  | 'Unknown';

export class RuntimeError extends Error {
  readonly code: RuntimeErrorCode;
  constructor(code: RuntimeErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'RuntimeError';
    this.code = code;
  }
}

export const isRuntimeError = (error: unknown, code?: RuntimeErrorCode): error is RuntimeError =>
  error instanceof RuntimeError && (code === undefined || error.code === code);

export type Labels = Record<string, string>;
export type NamespaceMode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET';
export type NamespaceOption = {
  network?: NamespaceMode;
  pid?: NamespaceMode;
  ipc?: NamespaceMode;
  targetId?: string;
  /** Absent: the ids of the host. */
  usernsOptions?: UserNamespace;
};
/** Ids inside, and whose they are on the host. */
export type IdMapping = { hostId: number; containerId: number; length: number };
export type UserNamespace = { mode: 'POD'; uids: IdMapping[]; gids: IdMapping[] };
export type SecurityProfile = {
  profileType: 'RuntimeDefault' | 'Unconfined' | 'Localhost';
  /** Absolute path, for Localhost. */
  localhostRef?: string;
};
export type Int64Value = { value: number };

export type LinuxContainerResources = {
  cpuPeriod?: number;
  cpuQuota?: number;
  cpuShares?: number;
  memoryLimitInBytes?: number;
  memorySwapLimitInBytes?: number;
  oomScoreAdj?: number;
  hugepageLimits?: { pageSize: string; limit: number }[];
  unified?: Record<string, string>;
};

export type PodSandboxMetadata = { name: string; uid: string; namespace: string; attempt: number };
export type PortMapping = {
  protocol: 'TCP' | 'UDP' | 'SCTP';
  containerPort: number;
  hostPort: number;
  hostIp: string;
};
export type DnsConfig = { servers: string[]; searches: string[]; options: string[] };

export type PodSandboxConfig = {
  metadata: PodSandboxMetadata;
  /** Empty for pods on the host's network. */
  hostname: string;
  logDirectory: string;
  dnsConfig?: DnsConfig;
  portMappings: PortMapping[];
  labels: Labels;
  annotations: Labels;
  linux: {
    cgroupParent?: string;
    sysctls?: Record<string, string>;
    overhead?: LinuxContainerResources;
    resources?: LinuxContainerResources;
    securityContext: {
      namespaceOptions: NamespaceOption;
      runAsUser?: Int64Value;
      runAsGroup?: Int64Value;
      readonlyRootfs?: boolean;
      supplementalGroups?: number[];
      privileged?: boolean;
      seccomp?: SecurityProfile;
      apparmor?: SecurityProfile;
    };
  };
};

export type PodSandbox = {
  id: string;
  metadata: PodSandboxMetadata;
  state: 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
  createdAt: number;
  labels: Labels;
  annotations: Labels;
  runtimeHandler: string;
};

export type PodSandboxStatus = PodSandbox & {
  network: { ip: string; additionalIps: { ip: string }[] } | null;
};

export type ImageSpec = { image: string; userSpecifiedImage?: string };
export type Mount = {
  containerPath: string;
  hostPath: string;
  readonly?: boolean;
  propagation?:
    | 'PROPAGATION_PRIVATE'
    | 'PROPAGATION_HOST_TO_CONTAINER'
    | 'PROPAGATION_BIDIRECTIONAL';
  recursiveReadOnly?: boolean;
  /** Who owns the files, seen from a pod with ids of its own. */
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
  image?: ImageSpec;
  imageSubPath?: string;
};
export type Device = { containerPath: string; hostPath: string; permissions: string };
export type ContainerMetadata = { name: string; attempt: number };

export type ContainerSecurityContext = {
  capabilities?: { addCapabilities: string[]; dropCapabilities: string[] };
  privileged?: boolean;
  namespaceOptions: NamespaceOption;
  runAsUser?: Int64Value;
  runAsGroup?: Int64Value;
  runAsUsername?: string;
  readonlyRootfs?: boolean;
  supplementalGroups?: number[];
  supplementalGroupsPolicy?: 'Merge' | 'Strict';
  noNewPrivs?: boolean;
  maskedPaths?: string[];
  readonlyPaths?: string[];
  seccomp?: SecurityProfile;
  apparmor?: SecurityProfile;
};

export type ContainerConfig = {
  metadata: ContainerMetadata;
  image: ImageSpec;
  command: string[];
  args: string[];
  workingDir: string;
  envs: { key: string; value: string }[];
  mounts: Mount[];
  devices: Device[];
  labels: Labels;
  annotations: Labels;
  /** Relative to the sandbox's logDirectory. */
  logPath: string;
  stdin: boolean;
  stdinOnce: boolean;
  tty: boolean;
  linux: { resources: LinuxContainerResources; securityContext: ContainerSecurityContext };
  /** Number of the published Signal enumeration; runtimes before it existed ignore it. */
  stopSignal?: number;
};

export type ContainerState =
  | 'CONTAINER_CREATED'
  | 'CONTAINER_RUNNING'
  | 'CONTAINER_EXITED'
  | 'CONTAINER_UNKNOWN';

export type Container = {
  id: string;
  podSandboxId: string;
  metadata: ContainerMetadata;
  image: ImageSpec | null;
  imageRef: string;
  state: ContainerState;
  createdAt: number;
  labels: Labels;
  annotations: Labels;
};

export type ContainerStatus = {
  id: string;
  metadata: ContainerMetadata;
  state: ContainerState;
  createdAt: number;
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  image: ImageSpec | null;
  imageRef: string;
  reason: string;
  message: string;
  labels: Labels;
  annotations: Labels;
  /** Absolute. */
  logPath: string;
  resources: { linux: LinuxContainerResources | null } | null;
  user: { linux: { uid: number; gid: number; supplementalGroups: number[] } | null } | null;
};

export type ExecResult = { stdout: Uint8Array; stderr: Uint8Array; exitCode: number };
export type StreamRequest = {
  containerId: string;
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
};

export type UsageValue = { value: number } | null;
export type ContainerStats = {
  attributes: { id: string; metadata: ContainerMetadata; labels: Labels; annotations: Labels };
  cpu: {
    timestamp: number;
    usageCoreNanoSeconds: UsageValue;
    usageNanoCores: UsageValue;
  } | null;
  memory: {
    timestamp: number;
    workingSetBytes: UsageValue;
    availableBytes: UsageValue;
    usageBytes: UsageValue;
    rssBytes: UsageValue;
    pageFaults: UsageValue;
    majorPageFaults: UsageValue;
  } | null;
  writableLayer: { timestamp: number; usedBytes: UsageValue; inodesUsed: UsageValue } | null;
};

export type RuntimeCondition = { type: string; status: boolean; reason: string; message: string };

/** What this runtime honours; what it would silently ignore, the agent refuses instead. */
export type RuntimeFeatures = {
  userNamespaces: boolean;
  recursiveReadOnlyMounts: boolean;
  imageVolumes: boolean;
  supplementalGroupsPolicy: boolean;
  stopSignal: boolean;
};

/** What the runtime says of one handler; the default one is named ''. */
export type RuntimeHandler = {
  name: string;
  features: { recursiveReadOnlyMounts: boolean; userNamespaces: boolean } | null;
};

export type RuntimeVersion = { name: string; version: string; features: RuntimeFeatures };

/** Something happened to a sandbox or a container: read it again. */
export type RuntimeEvent =
  | { type: 'started' | 'exited' | 'deleted' | 'oom'; containerId: string }
  /** Events may have been lost: read everything again. */
  | { type: 'resync'; reason: string };

export type CallOptions = { signal?: AbortSignal | undefined };
export type SelectorFilter = { labelSelector?: Labels; id?: string; podSandboxId?: string };

export type RuntimeService = {
  version(): Promise<RuntimeVersion>;
  status(): Promise<RuntimeCondition[]>;
  /** Empty from a runtime that does not tell (containerd 1). */
  handlers?(): Promise<RuntimeHandler[]>;
  /** Who makes the groups it puts containers into; undefined from a runtime that does not tell. */
  cgroupDriver?(): Promise<'cgroupfs' | 'systemd' | undefined>;
  /** Returns the sandbox's id. */
  runPodSandbox(config: PodSandboxConfig, runtimeHandler: string): Promise<string>;
  /** Kills what still runs in it and tears the network down. Idempotent. */
  stopPodSandbox(id: string): Promise<void>;
  /** Removes it with its containers. Idempotent. */
  removePodSandbox(id: string): Promise<void>;
  podSandboxStatus(id: string): Promise<PodSandboxStatus>;
  listPodSandboxes(filter?: Omit<SelectorFilter, 'podSandboxId'>): Promise<PodSandbox[]>;
  /** Returns the container's id. */
  createContainer(
    sandboxId: string,
    config: ContainerConfig,
    sandbox: PodSandboxConfig,
  ): Promise<string>;
  startContainer(id: string): Promise<void>;
  /** Resolves when it has stopped; 0 kills at once. A container that is gone counts as stopped. */
  stopContainer(id: string, timeoutSeconds: number, options?: CallOptions): Promise<void>;
  /**
   * Sends a signal, by the kernel's number, to the first process of a container. Beyond CRI: absent
   * or Unimplemented where the runtime cannot.
   */
  signalContainer?(id: string, signal: number): Promise<void>;
  removeContainer(id: string): Promise<void>;
  listContainers(filter?: SelectorFilter): Promise<Container[]>;
  containerStatus(id: string): Promise<ContainerStatus>;
  updateContainerResources(id: string, resources: LinuxContainerResources): Promise<void>;
  reopenContainerLog(id: string): Promise<void>;
  /**
   * Writes a running container's state into an archive at `location`; 0 seconds leave the time to
   * the runtime. Unimplemented where the runtime cannot.
   */
  checkpointContainer(id: string, location: string, timeoutSeconds: number): Promise<void>;
  /** DeadlineExceeded when the command outlives `timeoutMs`, whatever the runtime does then. */
  execSync(
    id: string,
    command: readonly string[],
    timeoutMs: number,
    options?: CallOptions,
  ): Promise<ExecResult>;
  /** Each returns a one-time URL of the runtime's streaming server. */
  exec(request: StreamRequest & { command: readonly string[] }): Promise<string>;
  attach(request: StreamRequest): Promise<string>;
  portForward(sandboxId: string, ports: readonly number[]): Promise<string>;
  listContainerStats(filter?: SelectorFilter): Promise<ContainerStats[]>;
  /** Never ends before `signal`; starts over by itself, saying `resync`. */
  events(signal: AbortSignal): AsyncIterable<RuntimeEvent>;
};

export type Image = {
  id: string;
  repoTags: string[];
  repoDigests: string[];
  /** Bytes. */
  size: number;
  uid: Int64Value | null;
  username: string;
  pinned: boolean;
};

export type AuthConfig = {
  username?: string;
  password?: string;
  auth?: string;
  serverAddress?: string;
  identityToken?: string;
  registryToken?: string;
};

export type FilesystemUsage = { mountpoint: string; usedBytes: number; inodesUsed: number };

export type ImageService = {
  listImages(): Promise<Image[]>;
  imageStatus(image: string): Promise<Image | null>;
  /** Returns the reference to create containers with. */
  pullImage(image: string, auth: AuthConfig | undefined, options?: CallOptions): Promise<string>;
  removeImage(image: string): Promise<void>;
  imageFsInfo(): Promise<FilesystemUsage[]>;
};
