import { createInbox } from '#base/inbox.ts';
import type { RuntimeClient } from '#node-agent/runtime/containerd.ts';
import {
  type Image,
  type ImageService,
  isRuntimeError,
  RuntimeError,
  type RuntimeEvent,
} from '#node-agent/runtime/service.ts';

/** Several runtimes as one: a pod's handler chooses, its ids lead back. */
export type RuntimeRouter = {
  client: RuntimeClient;
  /** From now on pods with this handler run there. */
  add(handler: string, runtime: RuntimeClient): void;
  /** Where images for pods with this handler are pulled. */
  imagesFor(handler: string): ImageService;
};

/** Events of all runtimes that wait for their one reader. */
const MAX_EVENTS = 1_000;

/**
 * `main` has every pod whose handler is not in `reserved`. A pod for a reserved handler that has no
 * runtime (yet) is refused with `missing`, which says why.
 */
export function createRouter(
  main: RuntimeClient,
  { reserved, missing }: { reserved: readonly string[]; missing: (handler: string) => string },
): RuntimeRouter {
  const others = new Map<string, RuntimeClient>();
  /** Of sandboxes and containers that are not the main runtime's. */
  const known = new Map<string, RuntimeClient>();
  const added: ((runtime: RuntimeClient) => void)[] = [];

  function forHandler(handler: string): RuntimeClient {
    const runtime = others.get(handler);
    if (runtime) return runtime;
    if (reserved.includes(handler)) throw new RuntimeError('Unavailable', missing(handler));
    return main;
  }

  const all = (): RuntimeClient[] => [main, ...others.values()];

  /** Ids of an earlier life of the agent are asked for where they could be. */
  async function of(id: string): Promise<RuntimeClient> {
    const found = known.get(id);
    if (found || others.size === 0) return found ?? main;
    for (const runtime of others.values()) {
      const [pods, containers] = await Promise.all([
        runtime.listPodSandboxes({ id }),
        runtime.listContainers({ id }),
      ]);
      if (pods.length + containers.length === 0) continue;
      known.set(id, runtime);
      return runtime;
    }
    return main;
  }

  const remember = <T extends { id: string }>(runtime: RuntimeClient, items: T[]): T[] => {
    if (runtime !== main) for (const { id } of items) known.set(id, runtime);
    return items;
  };
  async function gather<T extends { id: string }>(
    list: (runtime: RuntimeClient) => Promise<T[]>,
  ): Promise<T[]> {
    const lists = await Promise.all(all().map(async (r) => remember(r, await list(r))));
    return lists.flat();
  }

  const client: RuntimeClient = {
    version: () => main.version(),
    handlers: async () => (await main.handlers?.()) ?? [],
    status: () => main.status(),
    async runPodSandbox(config, handler) {
      const runtime = forHandler(handler);
      const id = await runtime.runPodSandbox(config, handler);
      if (runtime !== main) known.set(id, runtime);
      return id;
    },
    stopPodSandbox: async (id) => (await of(id)).stopPodSandbox(id),
    async removePodSandbox(id) {
      await (await of(id)).removePodSandbox(id);
      known.delete(id);
    },
    podSandboxStatus: async (id) => (await of(id)).podSandboxStatus(id),
    listPodSandboxes: (filter) => gather((runtime) => runtime.listPodSandboxes(filter)),
    async createContainer(sandboxId, config, sandbox) {
      const runtime = await of(sandboxId);
      const id = await runtime.createContainer(sandboxId, config, sandbox);
      if (runtime !== main) known.set(id, runtime);
      return id;
    },
    startContainer: async (id) => (await of(id)).startContainer(id),
    stopContainer: async (id, timeoutSeconds, options) =>
      (await of(id)).stopContainer(id, timeoutSeconds, options),
    async removeContainer(id) {
      await (await of(id)).removeContainer(id);
      known.delete(id);
    },
    listContainers: (filter) => gather((runtime) => runtime.listContainers(filter)),
    containerStatus: async (id) => (await of(id)).containerStatus(id),
    async signalContainer(id, signal) {
      const runtime = await of(id);
      if (!runtime.signalContainer)
        throw new RuntimeError('Unknown', `the runtime of container ${id} sends no signals`);
      await runtime.signalContainer(id, signal);
    },
    updateContainerResources: async (id, resources) =>
      (await of(id)).updateContainerResources(id, resources),
    checkpointContainer: async (id, location, timeoutSeconds) =>
      (await of(id)).checkpointContainer(id, location, timeoutSeconds),
    reopenContainerLog: async (id) => (await of(id)).reopenContainerLog(id),
    execSync: async (id, command, timeoutMs, options) =>
      (await of(id)).execSync(id, command, timeoutMs, options),
    exec: async (request) => (await of(request.containerId)).exec(request),
    attach: async (request) => (await of(request.containerId)).attach(request),
    portForward: async (sandboxId, ports) => (await of(sandboxId)).portForward(sandboxId, ports),
    async listContainerStats(filter) {
      return (await Promise.all(all().map((r) => r.listContainerStats(filter)))).flat();
    },
    events: (signal) => mergeEvents(all(), (listener) => added.push(listener), signal),
    close: () => {
      for (const runtime of all()) runtime.close();
    },
    ...mergeImages(all),
  };
  return {
    client,
    add(handler, runtime) {
      others.set(handler, runtime);
      for (const listener of added) listener(runtime);
    },
    imagesFor: forHandler,
  };
}

async function* mergeEvents(
  runtimes: readonly RuntimeClient[],
  onAdded: (listener: (runtime: RuntimeClient) => void) => void,
  signal: AbortSignal,
): AsyncGenerator<RuntimeEvent> {
  const inbox = createInbox<RuntimeEvent>(MAX_EVENTS);
  const follow = async (runtime: RuntimeClient): Promise<void> => {
    for await (const event of runtime.events(signal)) await inbox.push(event, 1);
  };
  // A stream of events ends with the signal only, and does not fail.
  const start = (runtime: RuntimeClient): void => void follow(runtime);
  for (const runtime of runtimes) start(runtime);
  onAdded(start);
  signal.addEventListener('abort', () => inbox.end(), { once: true });
  if (!signal.aborted) yield* inbox;
}

/** The images of all runtimes: the same one in two counts once. Pulls are for `imagesFor`. */
function mergeImages(all: () => readonly RuntimeClient[]): ImageService {
  return {
    async listImages() {
      const byId = new Map<string, Image>();
      for (const images of await Promise.all(all().map((r) => r.listImages())))
        for (const image of images) byId.set(image.id, byId.get(image.id) ?? image);
      return [...byId.values()];
    },
    async imageStatus(image) {
      for (const runtime of all()) {
        const found = await runtime.imageStatus(image);
        if (found) return found;
      }
      return null;
    },
    pullImage: (image, auth, options) => firstOf(all()).pullImage(image, auth, options),
    async removeImage(image) {
      for (const runtime of all())
        await runtime.removeImage(image).catch((error: unknown) => {
          if (!isRuntimeError(error, 'NotFound')) throw error;
        });
    },
    imageFsInfo: async () => (await Promise.all(all().map((r) => r.imageFsInfo()))).flat(),
  };
}

function firstOf(runtimes: readonly RuntimeClient[]): RuntimeClient {
  const [first] = runtimes;
  if (!first) throw new Error('there is no runtime');
  return first;
}
