import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { type ProtoFile, serviceDefinition } from '#proto/load.ts';
import type { NodeCapability } from '#node-agent/csi/csi-driver.ts';
import { pluginsDir, registrationDir } from '#node-agent/csi/csi-paths.ts';
import { isMounted } from '#node-agent/storage/mounts.ts';

/** A CSI driver for tests: volumes are directories, block volumes a device of the machine. */
export type TestDriver = {
  name: string;
  endpoint: string;
  /** Every call that came in, oldest first, with what it said. */
  calls: { method: string; request: Request }[];
  /** Methods that fail from now on, with what they say. */
  failing: Map<string, string>;
  /** Volumes and their bytes, by id. */
  volumes: Map<string, number>;
  /** Nodes that volumes are attached to, `<volume id> <node id>`. */
  attached: Set<string>;
  dir: string;
  /** Takes the sockets away, as a driver that ended does. */
  leave(): Promise<void>;
  come(): Promise<void>;
  /** Leaves for good and removes its volumes. */
  close(): Promise<void>;
};

type Texts = Record<string, string>;
type Request = {
  volumeId: string;
  name: string;
  nodeId: string;
  stagingTargetPath: string;
  targetPath: string;
  volumePath: string;
  readonly: boolean;
  secrets: Texts;
  volumeContext: Texts;
  publishContext: Texts;
  capacityRange: { requiredBytes: number } | null;
  volumeCapability: {
    block: object | null;
    mount: { fsType: string; mountFlags: string[]; volumeMountGroup: string } | null;
    accessMode: { mode: string };
  } | null;
};

export type TestDriverOptions = {
  name: string;
  /** Of the node agent that it serves. */
  rootDir: string;
  nodeId?: string;
  capabilities?: readonly NodeCapability[];
  maxVolumes?: number;
  topology?: Readonly<Record<string, string>>;
  /** What block volumes are. */
  device?: string;
};

const ALL: readonly NodeCapability[] = [
  'STAGE_UNSTAGE_VOLUME',
  'GET_VOLUME_STATS',
  'EXPAND_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
];

/** Serves a driver on real sockets below the agent's root directory, registered at once. */
export async function startTestDriver(options: TestDriverOptions): Promise<TestDriver> {
  const { name, rootDir } = options;
  const dir = mkdtempSync('/tmp/G-csi-');
  const home = join(pluginsDir(rootDir), name);
  const endpoint = join(home, 'csi.sock');
  const registration = join(registrationDir(rootDir), `${name}-reg.sock`);
  let servers: grpc.Server[] = [];
  const driver: TestDriver = {
    name,
    endpoint,
    calls: [],
    failing: new Map(),
    volumes: new Map(),
    attached: new Set(),
    dir,
    async come() {
      mkdirSync(home, { recursive: true });
      mkdirSync(registrationDir(rootDir), { recursive: true });
      for (const path of [endpoint, registration]) rmSync(path, { force: true });
      const csi = new grpc.Server();
      add(csi, 'csi.proto', 'csi.v1.Node', nodeService(driver, options));
      add(csi, 'csi.proto', 'csi.v1.Controller', controllerService(driver));
      const info = { type: 'CSIPlugin', name, endpoint, supportedVersions: ['1.0.0'] };
      const registrar = new grpc.Server();
      add(registrar, 'plugin-registration.proto', 'pluginregistration.Registration', {
        GetInfo: () => info,
        NotifyRegistrationStatus: (request) => {
          driver.calls.push({ method: 'NotifyRegistrationStatus', request });
          return {};
        },
      });
      await listen(csi, endpoint);
      await listen(registrar, registration);
      servers = [csi, registrar];
    },
    async leave() {
      for (const server of servers) server.forceShutdown();
      servers = [];
      for (const path of [endpoint, registration]) rmSync(path, { force: true });
    },
    async close() {
      await driver.leave();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  await driver.come();
  return driver;
}

type Answers = Record<string, (request: Request) => object>;

function add(server: grpc.Server, file: ProtoFile, service: string, answers: Answers): void {
  const methods = serviceDefinition(file, service);
  const handlers = Object.fromEntries(
    Object.entries(answers).map(([method, answer]) => [
      method,
      (call: { request: Request }, done: (error: object | null, answer?: object) => void) => {
        try {
          done(null, answer(call.request));
        } catch (error) {
          done({ code: grpc.status.INTERNAL, details: String((error as Error).message) });
        }
      },
    ]),
  );
  const served = Object.fromEntries(Object.entries(methods).filter(([name]) => answers[name]));
  server.addService(served, handlers as grpc.UntypedServiceImplementation);
}

const listen = (server: grpc.Server, path: string): Promise<void> =>
  new Promise((resolve, reject) =>
    server.bindAsync(`unix://${path}`, grpc.ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );

/** Notes each call, and lets those fail that shall. */
function noted(driver: TestDriver, answers: Answers): Answers {
  return Object.fromEntries(
    Object.entries(answers).map(([method, answer]) => [
      method,
      (request: Request) => {
        driver.calls.push({ method, request });
        const failure = driver.failing.get(method);
        if (failure) throw new Error(failure);
        return answer(request);
      },
    ]),
  );
}

const pathOf = ({ dir }: TestDriver, id: string): string => join(dir, id);

function nodeService(driver: TestDriver, options: TestDriverOptions): Answers {
  const { capabilities = ALL, maxVolumes = 0, topology, nodeId = 'the-node' } = options;
  return noted(driver, {
    NodeGetInfo: () => ({
      nodeId,
      maxVolumesPerNode: maxVolumes,
      ...(topology ? { accessibleTopology: { segments: topology } } : {}),
    }),
    NodeGetCapabilities: () => ({
      capabilities: capabilities.map((type) => ({ rpc: { type } })),
    }),
    NodeStageVolume({ volumeId, stagingTargetPath, volumeCapability }) {
      if (!volumeCapability?.block) bind(pathOf(driver, volumeId), stagingTargetPath);
      return {};
    },
    NodeUnstageVolume({ stagingTargetPath }) {
      unbind(stagingTargetPath);
      return {};
    },
    NodePublishVolume(request) {
      publish(driver, request, options.device);
      return {};
    },
    NodeUnpublishVolume({ volumeId, targetPath }) {
      unbind(targetPath);
      rmSync(targetPath, { recursive: true, force: true });
      // An inline volume lives and dies with its pod.
      if (!driver.volumes.has(volumeId))
        rmSync(pathOf(driver, volumeId), { recursive: true, force: true });
      return {};
    },
    NodeGetVolumeStats({ volumeId }) {
      const total = driver.volumes.get(volumeId) ?? 0;
      const used = readdirSync(pathOf(driver, volumeId)).reduce(
        (sum, file) => sum + statSync(join(pathOf(driver, volumeId), file)).size,
        0,
      );
      return { usage: [{ unit: 'BYTES', total, used, available: total - used }] };
    },
    NodeExpandVolume({ capacityRange }) {
      return { capacityBytes: capacityRange?.requiredBytes ?? 0 };
    },
  });
}

function publish(driver: TestDriver, request: Request, device: string | undefined): void {
  const { volumeId, stagingTargetPath, targetPath, volumeCapability, readonly } = request;
  if (volumeCapability?.block) {
    if (!device) throw new Error('this driver has no block device');
    if (!existsSync(targetPath)) writeFileSync(targetPath, '');
    bind(device, targetPath);
    return;
  }
  const inline = !stagingTargetPath;
  if (inline) mkdirSync(pathOf(driver, volumeId), { recursive: true });
  mkdirSync(targetPath, { recursive: true });
  if (inline) writeFileSync(join(pathOf(driver, volumeId), 'context'), JSON.stringify(request));
  bind(inline ? pathOf(driver, volumeId) : stagingTargetPath, targetPath);
  if (readonly) execFileSync('mount', ['-o', 'remount,bind,ro', targetPath]);
}

function bind(from: string, to: string): void {
  if (!isMounted(to)) execFileSync('mount', ['--bind', from, to]);
}

function unbind(path: string): void {
  if (isMounted(path)) execFileSync('umount', [path]);
}

function controllerService(driver: TestDriver): Answers {
  return noted(driver, {
    CreateVolume({ name, capacityRange }) {
      const capacityBytes = capacityRange?.requiredBytes ?? 0;
      mkdirSync(pathOf(driver, name), { recursive: true });
      driver.volumes.set(name, capacityBytes);
      return { volume: { volumeId: name, capacityBytes, volumeContext: { made: 'by-test' } } };
    },
    DeleteVolume({ volumeId }) {
      driver.volumes.delete(volumeId);
      rmSync(pathOf(driver, volumeId), { recursive: true, force: true });
      return {};
    },
    ControllerPublishVolume({ volumeId, nodeId }) {
      driver.attached.add(`${volumeId} ${nodeId}`);
      return { publishContext: { device: `/dev/of/${volumeId}` } };
    },
    ControllerUnpublishVolume({ volumeId, nodeId }) {
      driver.attached.delete(`${volumeId} ${nodeId}`);
      return {};
    },
    ControllerExpandVolume({ volumeId, capacityRange }) {
      const capacityBytes = capacityRange?.requiredBytes ?? 0;
      driver.volumes.set(volumeId, capacityBytes);
      return { capacityBytes, nodeExpansionRequired: true };
    },
  });
}
