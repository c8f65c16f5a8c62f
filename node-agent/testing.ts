import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '#base/log.ts';
import { openImageStore } from '#base/oci/image-store.ts';
import type { Api } from '#client/api.ts';
import { PAUSE_IMAGE } from '#node-agent/images-local/pause.ts';
import { startLocalImages } from '#node-agent/images-local/start.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { detectHost, missingForContainerd } from '#node-agent/runtime/containerd-config.ts';
import { ensureContainerd, stopContainerd } from '#node-agent/runtime/containerd-daemon.ts';
import { ownRoot } from '#node-agent/node/node-cgroups.ts';
import { clearNode, type NodeAgentConfig, start } from '#node-agent/start.ts';

/** A small image with a shell, made of the machine's own static busybox. */
export const TEST_IMAGE = 'gantry.internal/test/busybox:1';

const BUSYBOX = '/usr/bin/busybox';
const APPLETS =
  'sh cat echo env false true sleep id ls mkdir nc nslookup ps rm stat test touch wget hostname httpd mount df head tail kill dd seq printf tar wc'.split(
    ' ',
  );

export type TestRuntime = {
  client: RuntimeClient;
  dir: string;
  endpoint: string;
  cniConfDir: string;
  close(): Promise<void>;
};

/** Why tests with real containers cannot run here; undefined when they can. */
export function missingForTestRuntime(): string | undefined {
  const missing = missingForContainerd(detectHost());
  if (missing.length > 0) return `no containerd of our own here: ${missing.join('; ')}`;
  if (!existsSync(BUSYBOX)) return `no ${BUSYBOX} to make a test image of`;
  return undefined;
}

/**
 * Starts a containerd of its own with the pause and test images and a bridge network, all below a
 * temporary folder. `close` removes every trace.
 */
export async function startTestRuntime(letter = 'G'): Promise<TestRuntime> {
  const dir = mkdtempSync(`/tmp/${letter}-runtime-`);
  const stop = new AbortController();
  const cniConfDir = join(dir, 'cni');
  const bridge = `gt${dir.slice(-6).toLowerCase()}`;
  writeCniConf(cniConfDir, bridge, join(dir, 'ipam'));
  await addTestImage(join(dir, 'images'));
  const local = await startLocalImages({ storeDir: join(dir, 'images') }, { signal: stop.signal });
  const containerdDir = join(dir, 'containerd');
  const { endpoint } = await ensureContainerd({
    dir: containerdDir,
    cniConfDir,
    sandboxImage: PAUSE_IMAGE,
    registries: local.registries,
  });
  const client = connectContainerd({ endpoint });
  return {
    client,
    dir,
    endpoint,
    cniConfDir,
    async close() {
      client.close();
      await stopContainerd(containerdDir);
      stop.abort(new Error('test is over'));
      await local.done.catch(() => undefined);
      if (existsSync(`/sys/class/net/${bridge}`)) execFileSync('ip', ['link', 'delete', bridge]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Adds the busybox image to an image store folder. */
export async function addTestImage(storeDir: string): Promise<void> {
  const store = openImageStore(storeDir);
  const layer = await store.addLayer([
    { type: 'file', path: 'bin/busybox', mode: 0o755, content: readFileSync(BUSYBOX) },
    ...APPLETS.map(
      (name) => ({ type: 'symlink', path: `bin/${name}`, target: 'busybox' }) as const,
    ),
    { type: 'directory', path: 'tmp', mode: 0o1777 },
    { type: 'directory', path: 'root', mode: 0o700 },
    { type: 'directory', path: 'etc', mode: 0o755 },
    {
      type: 'file',
      path: 'etc/passwd',
      mode: 0o644,
      content: Buffer.from('root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n'),
    },
    { type: 'file', path: 'etc/group', mode: 0o644, content: Buffer.from('root:x:0:\n') },
  ]);
  store.addImage(TEST_IMAGE, [layer], { Cmd: ['/bin/sh'], Env: ['PATH=/bin'] });
}

/** A bridge network of its own, for a runtime under test. */
export function writeCniConf(confDir: string, bridge: string, dataDir: string): void {
  mkdirSync(confDir, { recursive: true });
  const third = 100 + Math.floor(Math.random() * 100);
  const conf = {
    cniVersion: '0.4.0',
    name: bridge,
    plugins: [
      {
        type: 'bridge',
        bridge,
        isDefaultGateway: true,
        hairpinMode: true,
        ipam: { type: 'host-local', dataDir, ranges: [[{ subnet: `10.231.${third}.0/24` }]] },
      },
    ],
  };
  writeFileSync(join(confDir, '10-test.conflist'), JSON.stringify(conf));
}

export type TestNode = {
  dir: string;
  nodeName: string;
  rootDir: string;
  cgroupPrefix: string;
  port: number;
  /** Ends the agent and starts another on the same data, as after a crash or an upgrade. */
  restart(meanwhile?: () => Promise<void>): Promise<void>;
  /** Ends the agent and removes every trace of the node. */
  close(): Promise<void>;
};

export type TestNodeOptions = {
  api: Api;
  nodeName?: string;
  log?: Log;
  /** Server certificate and client authority, paths. */
  tls?: { certFile: string; keyFile: string; clientCaFile: string };
  /** Second part of the pod range 10.x.0.0/16, so that tests do not meet. */
  range?: number;
  podManifestPath?: string;
  /** A network that is none of the agent's: a bridge plugin's. */
  foreignNetwork?: true;
  eviction?: NonNullable<NodeAgentConfig['eviction']>;
  maxPods?: number;
  /** The node's own folder is a file system of this size, in memory. */
  rootBytes?: number;
};

/** A whole node agent with its own containerd and network, Ready. */
export async function startTestNode(options: TestNodeOptions): Promise<TestNode> {
  const { api, nodeName = 'n1', log, tls, range = 200 + Math.floor(Math.random() * 50) } = options;
  const dir = mkdtempSync('/tmp/G-node-');
  const networkName = `gt${dir
    .slice(-6)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, 'x')}`;
  await addTestImage(join(dir, 'images'));
  const rootDir = join(dir, 'node', nodeName);
  const cniConfDir = join(dir, 'cni');
  if (options.rootBytes) {
    mkdirSync(rootDir, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${options.rootBytes}`, 'tmpfs', rootDir]);
  }
  if (options.foreignNetwork) writeCniConf(cniConfDir, networkName, join(dir, 'ipam'));

  async function launch() {
    const stop = new AbortController();
    const agent = await start(
      {
        api,
        nodeName,
        nodeIp: '127.0.0.1',
        rootDir,
        port: 0,
        proxyHealthPort: 0,
        podCidr: `10.${range}.7.0/24`,
        clusterCidr: `10.${range}.0.0/16`,
        networkName,
        ...(options.podManifestPath ? { podManifestPath: options.podManifestPath } : {}),
        ...(options.foreignNetwork ? { cniConfDir } : {}),
        ...(options.eviction ? { eviction: options.eviction } : {}),
        ...(options.maxPods ? { maxPods: options.maxPods } : {}),
        ...(tls
          ? {
              tlsCertFile: tls.certFile,
              tlsPrivateKeyFile: tls.keyFile,
              clientCaFile: tls.clientCaFile,
            }
          : {}),
      },
      { signal: stop.signal, ...(log ? { log } : {}) },
    );
    await agent.ready;
    return { stop, agent };
  }

  let current = await launch();
  const halt = async (): Promise<void> => {
    current.stop.abort(new Error('the test stops the agent'));
    await current.agent.done.catch(() => undefined);
  };
  return {
    dir,
    nodeName,
    rootDir,
    cgroupPrefix: ownRoot(nodeName, rootDir),
    get port() {
      return current.agent.port();
    },
    async restart(meanwhile) {
      await halt();
      await meanwhile?.();
      current = await launch();
    },
    async close() {
      await halt();
      await clearNode(dir, { networkName });
      if (existsSync(`/sys/class/net/${networkName}`))
        execFileSync('ip', ['link', 'delete', networkName]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
