import * as grpc from '@grpc/grpc-js';
import { type Clock, systemClock } from '#base/clock.ts';
import { type Log, silentLog } from '#base/log.ts';
import { grpcCalls, grpcClient, isServiceError } from '#node-agent/grpc-calls.ts';
import { containerdEvents } from '#node-agent/runtime/containerd-events.ts';
import {
  type Container,
  type ContainerStats,
  type ContainerStatus,
  type FilesystemUsage,
  type Image,
  type ImageService,
  isRuntimeError,
  type PodSandbox,
  type PodSandboxStatus,
  type RuntimeCondition,
  RuntimeError,
  type RuntimeErrorCode,
  type RuntimeFeatures,
  type RuntimeHandler,
  type RuntimeVersion,
  MICROVM_RUNTIME,
  type RuntimeService,
  type SelectorFilter,
  type UsageValue,
} from '#node-agent/runtime/service.ts';

/** Deadlines, milliseconds. A runtime that hangs shows as an error, never as a stuck pod. */
const QUICK_MS = 10_000;
const WORK_MS = 2 * 60_000;
const SANDBOX_MS = 4 * 60_000;
const PULL_MS = 15 * 60_000;
/** Time beyond a command's or a stop's own timeout before the client gives up. */
const GRACE_MS = 10_000;
/** Stats and images of a full node fit in this with room to spare. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export type RuntimeClient = RuntimeService & ImageService & { close(): void };

export type ContainerdOptions = {
  /** `unix:///path/containerd.sock`, or a bare path. */
  endpoint: string;
  clock?: Clock;
  log?: Log;
};

type Call = <Response>(
  method: string,
  request: object,
  deadlineMs: number,
  signal?: AbortSignal,
) => Promise<Response>;

/** Connects to a CRI socket. Connecting is lazy: the first call tells whether someone is there. */
export function connectContainerd(options: ContainerdOptions): RuntimeClient {
  const { clock = systemClock, log = silentLog } = options;
  const client = grpcClient(options.endpoint, { maxMessageBytes: MAX_MESSAGE_BYTES });
  const runtime = unaryCalls(client, 'runtime.v1.RuntimeService');
  const images = unaryCalls(client, 'runtime.v1.ImageService');
  return {
    ...sandboxCalls(runtime),
    ...containerCalls(runtime),
    signalContainer: signalCall(client),
    ...streamCalls(runtime),
    ...imageCalls(images),
    events: (signal) => containerdEvents(client, { signal, clock, log }),
    close: () => client.close(),
  };
}

function unaryCalls(client: grpc.Client, service: string): Call {
  const call = grpcCalls(client, 'cri.proto', service);
  return async <Response>(
    name: string,
    request: object,
    deadlineMs: number,
    signal?: AbortSignal,
  ) => {
    try {
      return await call<Response>(name, request, { deadlineMs, ...(signal ? { signal } : {}) });
    } catch (error) {
      throw isServiceError(error) ? runtimeError(name, error) : error;
    }
  };
}

/** Containers of CRI live in this namespace of containerd. */
const NAMESPACE = 'k8s.io';

function signalCall(client: grpc.Client): NonNullable<RuntimeService['signalContainer']> {
  const call = grpcCalls(client, 'containerd-tasks.proto', 'containerd.services.tasks.v1.Tasks');
  return async (containerId, signal) => {
    const metadata = { 'containerd-namespace': NAMESPACE };
    try {
      await call('Kill', { containerId, signal }, { deadlineMs: QUICK_MS, metadata });
    } catch (error) {
      throw isServiceError(error) ? runtimeError('Kill', error) : error;
    }
  };
}

const CODES: Partial<Record<grpc.status, RuntimeErrorCode>> = {
  [grpc.status.NOT_FOUND]: 'NotFound',
  [grpc.status.DEADLINE_EXCEEDED]: 'DeadlineExceeded',
  [grpc.status.UNIMPLEMENTED]: 'Unimplemented',
  [grpc.status.UNAVAILABLE]: 'Unavailable',
  [grpc.status.ALREADY_EXISTS]: 'AlreadyExists',
  [grpc.status.CANCELLED]: 'Cancelled',
};

function runtimeError(method: string, error: grpc.ServiceError): RuntimeError {
  const code = CODES[error.code] ?? 'Unknown';
  const text = error.details || error.message;
  const message =
    code === 'Unavailable'
      ? `container runtime is not reachable (${method}): ${text}`
      : code === 'DeadlineExceeded'
        ? `container runtime did not finish ${method} in time: ${text}`
        : text;
  return new RuntimeError(code, message, { cause: error });
}

/** Makes a call that has nothing left to do succeed. */
async function unlessGone(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!isRuntimeError(error, 'NotFound')) throw error;
  }
}

const criFilter = (filter: SelectorFilter | undefined): object => ({ filter: filter ?? {} });

function sandboxCalls(
  call: Call,
): Pick<
  RuntimeService,
  | 'version'
  | 'handlers'
  | 'cgroupDriver'
  | 'status'
  | 'runPodSandbox'
  | 'stopPodSandbox'
  | 'removePodSandbox'
  | 'podSandboxStatus'
  | 'listPodSandboxes'
> {
  return {
    async version() {
      const answer = await call<{ runtimeName: string; runtimeVersion: string }>(
        'Version',
        {},
        QUICK_MS,
      );
      return {
        name: answer.runtimeName,
        version: answer.runtimeVersion,
        features: featuresOf(answer.runtimeName, answer.runtimeVersion),
      };
    },
    async handlers() {
      return (await call<{ runtimeHandlers: RuntimeHandler[] }>('Status', {}, QUICK_MS))
        .runtimeHandlers;
    },
    async cgroupDriver() {
      try {
        type Answer = { linux: { cgroupDriver: 'SYSTEMD' | 'CGROUPFS' } | null };
        const { linux } = await call<Answer>('RuntimeConfig', {}, QUICK_MS);
        return linux ? (linux.cgroupDriver === 'SYSTEMD' ? 'systemd' : 'cgroupfs') : undefined;
      } catch (error) {
        if (isRuntimeError(error, 'Unimplemented')) return undefined;
        throw error;
      }
    },
    async status() {
      const answer = await call<{ status: { conditions: RuntimeCondition[] } | null }>(
        'Status',
        {},
        QUICK_MS,
      );
      return answer.status?.conditions ?? [];
    },
    async runPodSandbox(config, runtimeHandler) {
      const request = { config, runtimeHandler };
      return (await call<{ podSandboxId: string }>('RunPodSandbox', request, SANDBOX_MS))
        .podSandboxId;
    },
    stopPodSandbox: (podSandboxId) => unlessGone(call('StopPodSandbox', { podSandboxId }, WORK_MS)),
    removePodSandbox: (podSandboxId) =>
      unlessGone(call('RemovePodSandbox', { podSandboxId }, WORK_MS)),
    async podSandboxStatus(podSandboxId) {
      const answer = await call<{ status: PodSandboxStatus | null }>(
        'PodSandboxStatus',
        { podSandboxId },
        QUICK_MS,
      );
      if (!answer.status) throw new RuntimeError('NotFound', `sandbox ${podSandboxId} not found`);
      return answer.status;
    },
    listPodSandboxes: async (filter) =>
      (await call<{ items: PodSandbox[] }>('ListPodSandbox', criFilter(filter), QUICK_MS)).items,
  };
}

function containerCalls(
  call: Call,
): Pick<
  RuntimeService,
  | 'createContainer'
  | 'startContainer'
  | 'stopContainer'
  | 'removeContainer'
  | 'listContainers'
  | 'containerStatus'
  | 'updateContainerResources'
  | 'checkpointContainer'
  | 'reopenContainerLog'
  | 'listContainerStats'
> {
  return {
    async createContainer(podSandboxId, config, sandboxConfig) {
      const request = { podSandboxId, config, sandboxConfig };
      return (await call<{ containerId: string }>('CreateContainer', request, WORK_MS)).containerId;
    },
    startContainer: async (containerId) => {
      await call('StartContainer', { containerId }, WORK_MS);
    },
    stopContainer: (containerId, timeoutSeconds, options) =>
      unlessGone(
        call(
          'StopContainer',
          { containerId, timeout: Math.max(0, Math.round(timeoutSeconds)) },
          timeoutSeconds * 1000 + WORK_MS,
          options?.signal,
        ),
      ),
    removeContainer: (containerId) => unlessGone(call('RemoveContainer', { containerId }, WORK_MS)),
    listContainers: async (filter) =>
      (await call<{ containers: Container[] }>('ListContainers', criFilter(filter), QUICK_MS))
        .containers,
    async containerStatus(containerId) {
      const answer = await call<{ status: ContainerStatus | null }>(
        'ContainerStatus',
        { containerId },
        QUICK_MS,
      );
      if (!answer.status) throw new RuntimeError('NotFound', `container ${containerId} not found`);
      return answer.status;
    },
    updateContainerResources: async (containerId, linux) => {
      await call('UpdateContainerResources', { containerId, linux }, QUICK_MS);
    },
    checkpointContainer: async (containerId, location, timeoutSeconds) => {
      const request = { containerId, location, timeout: timeoutSeconds };
      await call('CheckpointContainer', request, timeoutSeconds * 1000 + WORK_MS);
    },
    reopenContainerLog: async (containerId) => {
      await call('ReopenContainerLog', { containerId }, QUICK_MS);
    },
    listContainerStats: async (filter) =>
      (await call<{ stats: ContainerStats[] }>('ListContainerStats', criFilter(filter), QUICK_MS))
        .stats,
  };
}

function streamCalls(
  call: Call,
): Pick<RuntimeService, 'execSync' | 'exec' | 'attach' | 'portForward'> {
  const url = async (method: string, request: object): Promise<string> =>
    (await call<{ url: string }>(method, request, QUICK_MS)).url;
  return {
    async execSync(containerId, command, timeoutMs, options) {
      // The runtime counts whole seconds and may wait for a background child that holds the output
      // open, so the client's own deadline decides.
      const request = { containerId, cmd: [...command], timeout: Math.ceil(timeoutMs / 1000) };
      const deadlineMs = timeoutMs > 0 ? timeoutMs : PULL_MS;
      return call('ExecSync', request, deadlineMs, options?.signal);
    },
    exec: ({ command, ...rest }) =>
      url('Exec', { ...rest, cmd: [...command], stderr: rest.stderr && !rest.tty }),
    attach: (request) => url('Attach', { ...request, stderr: request.stderr && !request.tty }),
    portForward: (podSandboxId, ports) => url('PortForward', { podSandboxId, port: [...ports] }),
  };
}

type CriFilesystem = {
  fsId: { mountpoint: string } | null;
  usedBytes: UsageValue;
  inodesUsed: UsageValue;
};

function imageCalls(call: Call): ImageService {
  return {
    listImages: async () => (await call<{ images: Image[] }>('ListImages', {}, QUICK_MS)).images,
    imageStatus: async (image) =>
      (await call<{ image: Image | null }>('ImageStatus', { image: { image } }, QUICK_MS)).image,
    async pullImage(image, auth, options) {
      const request = { image: { image }, ...(auth ? { auth } : {}) };
      return (await call<{ imageRef: string }>('PullImage', request, PULL_MS, options?.signal))
        .imageRef;
    },
    removeImage: async (image) => {
      await call('RemoveImage', { image: { image } }, WORK_MS);
    },
    async imageFsInfo() {
      const answer = await call<{ imageFilesystems: CriFilesystem[] }>(
        'ImageFsInfo',
        {},
        QUICK_MS + GRACE_MS,
      );
      return answer.imageFilesystems.map(
        (fs): FilesystemUsage => ({
          mountpoint: fs.fsId?.mountpoint ?? '',
          usedBytes: fs.usedBytes?.value ?? 0,
          inodesUsed: fs.inodesUsed?.value ?? 0,
        }),
      );
    },
  };
}

/** What one handler honours: what the runtime says of it counts more than its version. */
export function handlerFeatures(
  name: string,
  { features }: Pick<RuntimeVersion, 'features'>,
  handlers: readonly RuntimeHandler[],
): RuntimeFeatures {
  const told = handlers.find((handler) => handler.name === name)?.features;
  return told ? { ...features, ...told } : features;
}

/**
 * What a runtime honours, by name and version. Old runtimes ignore unknown request fields without an
 * error, and do not report features, hence a table.
 */
export function featuresOf(name: string, version = ''): RuntimeFeatures {
  const [major = 0, minor = 0] = version
    .replace(/^v/, '')
    .split('.')
    .map((part) => Number.parseInt(part, 10) || 0);
  const atLeast = (a: number, b: number): boolean => major > a || (major === a && minor >= b);
  const containerd = name === 'containerd';
  const crio = name === 'cri-o';
  const microvm = name === MICROVM_RUNTIME;
  return {
    // Needs a new enough containerd, runc and kernel together: only the runtime itself can tell.
    userNamespaces: false,
    recursiveReadOnlyMounts: microvm || (containerd && atLeast(2, 0)) || (crio && atLeast(1, 30)),
    imageVolumes: (containerd && atLeast(2, 1)) || (crio && atLeast(1, 31)),
    supplementalGroupsPolicy: microvm || (containerd && atLeast(2, 0)) || (crio && atLeast(1, 31)),
    stopSignal: microvm || (containerd && atLeast(2, 2)) || (crio && atLeast(1, 34)),
  };
}
