import {
  type AuthConfig,
  type ContainerConfig,
  type LinuxContainerResources,
  MICROVM_RUNTIME,
  type PodSandboxConfig,
  RuntimeError,
} from '#node-agent/runtime/service.ts';
import {
  containerItem,
  containerStatus,
  type Filter,
  filterContainers,
  filterPods,
  sandboxItem,
  sandboxStatus,
} from './answers.ts';
import {
  createContainer,
  removeContainer,
  startContainer,
  stopContainer,
  updateResources,
} from './containers.ts';
import type { PodEvent } from './events.ts';
import { execSync } from './exec.ts';
import type { Methods, Streams } from './grpc-server.ts';
import { findContainer, type Pod, requireContainer, requirePod, type Runtime } from './pod.ts';
import { removePodSandbox, runPodSandbox, stopPodSandbox } from './sandboxes.ts';
import { containerStats, podStats } from './stats.ts';
import type { StreamingServer } from './streaming-server.ts';

export const RUNTIME_VERSION = '0.1.0';

type PodId = { podSandboxId: string };
type ContainerId = { containerId: string };

/** Messages as protobuf gives them: what was not sent is null. */
function sandboxConfigOf(config: PodSandboxConfig | null): PodSandboxConfig {
  if (!config?.metadata) throw new RuntimeError('Unknown', 'the sandbox has no metadata');
  const linux = config.linux ?? {};
  return {
    ...config,
    linux: { ...linux, securityContext: linux.securityContext ?? { namespaceOptions: {} } },
  };
}

function containerConfigOf(config: ContainerConfig | null): ContainerConfig {
  if (!config?.metadata || !config.image)
    throw new RuntimeError('Unknown', 'the container has no metadata or no image');
  const { resources, securityContext } = config.linux ?? {};
  return {
    ...config,
    linux: {
      resources: resources ?? {},
      securityContext: securityContext ?? { namespaceOptions: {} },
    },
  };
}

export function sandboxMethods(runtime: Runtime): Methods {
  return {
    async RunPodSandbox(request: { config: PodSandboxConfig | null; runtimeHandler: string }) {
      const config = sandboxConfigOf(request.config);
      return { podSandboxId: await runPodSandbox(runtime, config, request.runtimeHandler) };
    },
    async StopPodSandbox({ podSandboxId }: PodId) {
      await stopPodSandbox(runtime, podSandboxId);
      return {};
    },
    async RemovePodSandbox({ podSandboxId }: PodId) {
      await removePodSandbox(runtime, podSandboxId);
      return {};
    },
    async PodSandboxStatus({ podSandboxId, verbose }: PodId & { verbose: boolean }) {
      const pod = requirePod(runtime, podSandboxId);
      const { record, vm } = pod;
      const info = {
        size: record.size,
        pid: vm?.pid,
        startedBy: vm?.startedBy,
        vmm: runtime.vmm.name,
        accelerator: runtime.vmm.accelerator,
        reason: record.reason,
      };
      return {
        status: sandboxStatus(pod),
        info: verbose ? { info: JSON.stringify(info) } : {},
        containersStatuses: await containerStatuses(runtime, pod),
        timestamp: runtime.clock.now() * 1e6,
      };
    },
    async ListPodSandbox({ filter }: { filter: Filter }) {
      return { items: filterPods(runtime, filter).map(sandboxItem) };
    },
    async PodSandboxStats({ podSandboxId }: PodId) {
      return { stats: await podStats(runtime, requirePod(runtime, podSandboxId)) };
    },
    async ListPodSandboxStats({ filter }: { filter: Filter }) {
      const pods = filterPods(runtime, filter).filter(({ vm }) => vm);
      return { stats: await Promise.all(pods.map((pod) => podStats(runtime, pod))) };
    },
  };
}

const containerStatuses = (runtime: Runtime, pod: Pod): Promise<object[]> =>
  Promise.all([...pod.containers.values()].map((entry) => containerStatus(runtime, entry)));

export function containerMethods(runtime: Runtime): Methods {
  return {
    async CreateContainer(request: PodId & { config: ContainerConfig | null }) {
      const pod = requirePod(runtime, request.podSandboxId);
      const containerId = await createContainer(runtime, pod, containerConfigOf(request.config));
      return { containerId };
    },
    async StartContainer({ containerId }: ContainerId) {
      await startContainer(runtime, requireContainer(runtime, containerId));
      return {};
    },
    async StopContainer({ containerId, timeout }: ContainerId & { timeout: number }) {
      const found = findContainer(runtime, containerId);
      if (found) await stopContainer(runtime, found, timeout * 1000);
      return {};
    },
    async RemoveContainer({ containerId }: ContainerId) {
      const found = findContainer(runtime, containerId);
      if (found)
        await found.pod.serial(async () => {
          if (found.pod.containers.has(found.entry.record.id))
            await removeContainer(runtime, found.pod, found.entry);
        });
      return {};
    },
    async ListContainers({ filter }: { filter: Filter }) {
      return {
        containers: filterContainers(runtime, filter).map(({ entry }) => containerItem(entry)),
      };
    },
    async ContainerStatus({ containerId, verbose }: ContainerId & { verbose: boolean }) {
      const { entry } = requireContainer(runtime, containerId);
      const { process, writableLun } = entry.record;
      const info = verbose ? { info: JSON.stringify({ process, writableLun }) } : {};
      return { status: await containerStatus(runtime, entry), info };
    },
    async UpdateContainerResources(
      request: ContainerId & { linux: LinuxContainerResources | null },
    ) {
      const found = requireContainer(runtime, request.containerId);
      await updateResources(runtime, found, request.linux ?? {});
      return {};
    },
    async ReopenContainerLog({ containerId }: ContainerId) {
      const { entry } = requireContainer(runtime, containerId);
      if (entry.record.state !== 'running' || !entry.output)
        throw new RuntimeError('Unknown', `container ${containerId} is not running`);
      entry.output.reopenLog();
      return {};
    },
    async ExecSync(request: ContainerId & { cmd: string[]; timeout: number }) {
      const found = requireContainer(runtime, request.containerId);
      return execSync(runtime, found, request.cmd, request.timeout * 1000);
    },
    async ContainerStats({ containerId }: ContainerId) {
      const stats = await containerStats(runtime, requireContainer(runtime, containerId));
      return { stats: stats ?? null };
    },
    async ListContainerStats({ filter }: { filter: Filter }) {
      const all = filterContainers(runtime, filter);
      const stats = await Promise.all(all.map((found) => containerStats(runtime, found)));
      return { stats: stats.filter((one) => one !== undefined) };
    },
  };
}

type StreamFlags = { tty: boolean; stdin: boolean; stdout: boolean; stderr: boolean };

export function streamMethods(runtime: Runtime, streaming: StreamingServer): Methods {
  return {
    async Exec({ containerId, cmd, ...flags }: ContainerId & { cmd: string[] } & StreamFlags) {
      const { entry } = requireContainer(runtime, containerId);
      return { url: streaming.url({ kind: 'exec', id: entry.record.id, command: cmd, ...flags }) };
    },
    async Attach({ containerId, ...flags }: ContainerId & StreamFlags) {
      const { entry } = requireContainer(runtime, containerId);
      // A container's own terminal decides, not what the client believes.
      const { tty } = entry.record.config;
      return { url: streaming.url({ kind: 'attach', id: entry.record.id, ...flags, tty }) };
    },
    async PortForward({ podSandboxId, port }: PodId & { port: number[] }) {
      const { record } = requirePod(runtime, podSandboxId);
      return { url: streaming.url({ kind: 'portforward', id: record.id, ports: port }) };
    },
  };
}

export function statusMethods(runtime: Runtime): Methods {
  return {
    async Version() {
      return {
        version: '0.1.0',
        runtimeName: MICROVM_RUNTIME,
        runtimeVersion: RUNTIME_VERSION,
        runtimeApiVersion: 'v1',
      };
    },
    async Status({ verbose }: { verbose: boolean }) {
      const problem = runtime.network.problem();
      const { name, accelerator } = runtime.vmm;
      return {
        status: {
          conditions: [
            {
              type: 'RuntimeReady',
              status: true,
              reason: 'RuntimeIsReady',
              message: `microVMs run under ${accelerator.kind}: ${accelerator.reason}`,
            },
            {
              type: 'NetworkReady',
              status: problem === undefined,
              reason: problem === undefined ? '' : 'NetworkPluginNotReady',
              message: problem ?? '',
            },
          ],
        },
        info: verbose ? { config: JSON.stringify({ vmm: name, accelerator }) } : {},
        runtimeHandlers: [{ name: '' }, { name: 'microvm' }],
        features: { supplementalGroupsPolicy: true },
      };
    },
    async RuntimeConfig() {
      return { linux: { cgroupDriver: 'CGROUPFS' } };
    },
    async UpdateRuntimeConfig() {
      return {}; // the pod range comes with the CNI configuration
    },
  };
}

export function imageMethods({ images }: Runtime): Methods {
  type Spec = { image: { image: string } | null };
  return {
    async ListImages({ filter }: { filter: Spec | null }) {
      const wanted = filter?.image?.image;
      const found = wanted ? await images.imageStatus(wanted) : undefined;
      if (wanted) return { images: found ? [found] : [] };
      return { images: await images.listImages() };
    },
    async ImageStatus({ image }: Spec) {
      return { image: await images.imageStatus(image?.image ?? '') };
    },
    async PullImage({ image, auth }: Spec & { auth: AuthConfig | null }, { signal }) {
      const name = image?.image ?? '';
      return { imageRef: await images.pullImage(name, auth ?? undefined, { signal }) };
    },
    async RemoveImage({ image }: Spec) {
      await images.removeImage(image?.image ?? '');
      return {};
    },
    async ImageFsInfo() {
      const all = (await images.imageFsInfo()).map(({ mountpoint, usedBytes, inodesUsed }) => ({
        timestamp: Date.now() * 1e6,
        fsId: { mountpoint },
        usedBytes: { value: usedBytes },
        inodesUsed: { value: inodesUsed },
      }));
      return { imageFilesystems: all, containerFilesystems: all };
    },
  };
}

const EVENT_TYPES: Record<PodEvent['type'], string> = {
  created: 'CONTAINER_CREATED_EVENT',
  started: 'CONTAINER_STARTED_EVENT',
  stopped: 'CONTAINER_STOPPED_EVENT',
  deleted: 'CONTAINER_DELETED_EVENT',
};

export function eventStreams(runtime: Runtime): Streams {
  return {
    async *GetContainerEvents(_request: object, { signal }) {
      for await (const event of runtime.events.follow(signal)) {
        const pod = runtime.pods.get(event.podId);
        yield {
          containerId: event.containerId,
          containerEventType: EVENT_TYPES[event.type],
          createdAt: event.atMs * 1e6,
          podSandboxStatus: pod ? sandboxStatus(pod) : null,
          containersStatuses: pod ? await containerStatuses(runtime, pod) : [],
        };
      }
    },
  };
}
