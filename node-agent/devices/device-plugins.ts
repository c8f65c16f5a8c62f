import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { writeAtomic } from '#base/files.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Container, Pod } from '#api/types.ts';
import { serviceDefinition } from '#proto/load.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { assignDevices, type Devices, type Holding } from '#node-agent/devices/device-pool.ts';
import { grpcCalls, grpcClient } from '#node-agent/grpc-calls.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import type { Device, Mount } from '#node-agent/runtime/service.ts';

/** What plugins look for and what they are called by. Source: kubelet deviceplugin v1beta1. */
const SOCKET = 'kubelet.sock';
const VERSION = 'v1beta1';
const HELD_FILE = 'gantry-devices.json';
const FILE = 'device-plugin.proto';
const CALL_MS = 30_000;
/** Plugins of a node; more is a mistake somewhere. */
const MAX_PLUGINS = 100;

/** What a container gets for its devices. */
export type ContainerDevices = {
  envs: { key: string; value: string }[];
  mounts: Mount[];
  devices: Device[];
  annotations: Record<string, string>;
};

type Plugin = { client: grpc.Client; devices: Devices; preStart: boolean };
type Registration = {
  version: string;
  endpoint: string;
  resourceName: string;
  options: { preStartRequired: boolean } | null;
};
type Allocation = {
  envs: Record<string, string>;
  mounts: { containerPath: string; hostPath: string; readOnly: boolean }[];
  devices: { containerPath: string; hostPath: string; permissions: string }[];
  annotations: Record<string, string>;
  cdiDevices: { name: string }[];
};

export type DevicePluginsOptions = {
  /** Where plugins and this agent have their sockets. */
  dir: string;
  log: Log;
  /** The node has other devices now. */
  onChange: () => void;
};

/**
 * The devices that plugins offer: registers plugins, counts their devices into the node, and gives
 * them to containers. Who holds what outlives the agent in a file.
 */
export class DevicePlugins {
  readonly #options: DevicePluginsOptions;
  readonly #plugins = new Map<string, Plugin>();
  #held: Holding[];

  constructor(options: DevicePluginsOptions) {
    this.#options = options;
    this.#held = readHeld(join(options.dir, HELD_FILE));
  }

  /** Takes registrations until `signal`. Plugins come anew when the socket is made anew. */
  async serve(signal: AbortSignal): Promise<void> {
    const { dir, log } = this.#options;
    mkdirSync(dir, { recursive: true, mode: 0o750 });
    const path = join(dir, SOCKET);
    rmSync(path, { force: true });
    const server = new grpc.Server();
    server.addService(serviceDefinition(FILE, `${VERSION}.Registration`), {
      Register: (
        call: grpc.ServerUnaryCall<Registration, object>,
        done: grpc.sendUnaryData<object>,
      ) => {
        const problem = this.#register(call.request);
        if (!problem) return done(null, {});
        log.warn('a device plugin was not taken in', { ...call.request, problem });
        done({ code: grpc.status.INVALID_ARGUMENT, details: problem });
      },
    });
    const problem = await new Promise<Error | null>((resolve) =>
      server.bindAsync(`unix://${path}`, grpc.ServerCredentials.createInsecure(), resolve),
    );
    // A node without device plugins is still a node.
    if (problem)
      log.warn('device plugins cannot register here', { path, error: errorText(problem) });
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    server.forceShutdown();
    for (const { client } of this.#plugins.values()) client.close();
    rmSync(path, { force: true });
  }

  /** What the node has by its plugins, as quantities. */
  amounts(): { capacity: Record<string, string>; allocatable: Record<string, string> } {
    const capacity: Record<string, string> = {};
    const allocatable: Record<string, string> = {};
    for (const [resource, { devices }] of this.#plugins) {
      capacity[resource] = String(devices.size);
      allocatable[resource] = String([...devices.values()].filter(Boolean).length);
    }
    return { capacity, allocatable };
  }

  /** Keeps devices for a pod that comes; says why it cannot come when there are too few. */
  reserve(pod: Pod): Refusal | undefined {
    const offered = new Map([...this.#plugins].map(([name, { devices }]) => [name, devices]));
    const found = assignDevices(pod, offered, this.#held);
    if (Array.isArray(found)) {
      if (found.length > 0) this.#keep([...this.#held, ...found]);
      return undefined;
    }
    const { resource, requested, available } = found;
    return {
      reason: 'UnexpectedAdmissionError',
      message:
        `Allocate failed due to requested number of devices unavailable for ${resource}. ` +
        `Requested: ${requested}, Available: ${available}, which is unexpected`,
    };
  }

  /** Gives a container its devices, each time it starts. Throws ConfigError while it cannot. */
  async allocate(pod: Pod, { name }: Container): Promise<ContainerDevices> {
    const mine = this.#held.filter((h) => h.uid === pod.metadata.uid && h.container === name);
    const all: ContainerDevices = { envs: [], mounts: [], devices: [], annotations: {} };
    for (const { resource, ids } of mine) {
      const answer = await this.#ask(resource, ids);
      if (answer.cdiDevices.length > 0)
        throw new ConfigError(
          `the plugin of ${resource} answers with CDI devices, not supported here`,
        );
      all.envs.push(...Object.entries(answer.envs).map(([key, value]) => ({ key, value })));
      all.mounts.push(
        ...answer.mounts.map(({ readOnly, ...paths }) => ({ ...paths, readonly: readOnly })),
      );
      all.devices.push(...answer.devices);
      Object.assign(all.annotations, answer.annotations);
    }
    return all;
  }

  /** A pod has ended: its devices are free again. */
  forget(uid: string): void {
    const left = this.#held.filter((h) => h.uid !== uid);
    if (left.length < this.#held.length) this.#keep(left);
  }

  #keep(held: Holding[]): void {
    this.#held = held;
    const { dir } = this.#options;
    mkdirSync(dir, { recursive: true, mode: 0o750 });
    writeAtomic(join(dir, HELD_FILE), JSON.stringify(held));
  }

  async #ask(resource: string, ids: readonly string[]): Promise<Allocation> {
    const plugin = this.#plugins.get(resource);
    if (!plugin) throw new ConfigError(`no device plugin offers ${resource} now`);
    const call = grpcCalls(plugin.client, FILE, `${VERSION}.DevicePlugin`);
    const options = { deadlineMs: CALL_MS };
    try {
      const request = { containerRequests: [{ devicesIds: ids }] };
      type Answer = { containerResponses: Allocation[] };
      const { containerResponses } = await call<Answer>('Allocate', request, options);
      const [answer] = containerResponses;
      if (!answer) throw new Error('an empty answer');
      if (plugin.preStart) await call('PreStartContainer', { devicesIds: ids }, options);
      return answer;
    } catch (error) {
      throw new ConfigError(`the plugin of ${resource} did not allocate: ${errorText(error)}`);
    }
  }

  /** Why a plugin is not taken in; undefined when it is. */
  #register({ version, endpoint, resourceName, options }: Registration): string | undefined {
    if (version !== VERSION) return `the version is "${version}", and only ${VERSION} is spoken`;
    if (!/^[^/\s]+\/[^/\s]+$/.test(resourceName) || /kubernetes\.io\//.test(resourceName))
      return `the resource name "${resourceName}" is no extended resource, such as vendor.com/name`;
    if (endpoint === '' || endpoint.includes('/'))
      return `the endpoint "${endpoint}" is no file name`;
    const before = this.#plugins.get(resourceName);
    if (!before && this.#plugins.size >= MAX_PLUGINS) return `there are ${MAX_PLUGINS} plugins`;
    before?.client.close();
    const client = grpcClient(join(this.#options.dir, endpoint));
    const devices = before?.devices ?? new Map<string, boolean>();
    const plugin = { client, devices, preStart: options?.preStartRequired === true };
    this.#plugins.set(resourceName, plugin);
    this.#follow(resourceName, plugin);
    this.#options.log.info('a device plugin has come', { resource: resourceName, endpoint });
    return undefined;
  }

  #follow(resource: string, plugin: Plugin): void {
    const method = serviceDefinition(FILE, `${VERSION}.DevicePlugin`)['ListAndWatch'];
    if (!method) throw new Error(`${FILE} lacks ListAndWatch`);
    const stream = plugin.client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      {},
    );
    stream.on('data', ({ devices }: { devices: { id: string; health: string }[] }) => {
      plugin.devices = new Map(devices.map(({ id, health }) => [id, health === 'Healthy']));
      this.#options.onChange();
    });
    stream.on('error', (error: unknown) => {
      if (this.#plugins.get(resource) !== plugin) return; // it has come anew
      this.#options.log.warn('a device plugin has left', { resource, error: errorText(error) });
    });
    stream.on('close', () => {
      if (this.#plugins.get(resource) !== plugin) return;
      // Its devices stay known, and nobody new gets one.
      plugin.devices = new Map([...plugin.devices.keys()].map((id) => [id, false]));
      this.#options.onChange();
    });
  }
}

function readHeld(file: string): Holding[] {
  if (!existsSync(file)) return [];
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Holding[];
  } catch {
    return []; // cut off by a full disk: containers that run keep what they have
  }
}
