import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '#base/log.ts';
import { silentLog } from '#base/log.ts';
import { startLocalImages } from '#node-agent/images-local/start.ts';
import { unmountAll } from '#node-agent/storage/mounts.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { detectHost, hostsToml } from '#node-agent/runtime/containerd-config.ts';
import { removeSandboxes } from '#node-agent/runtime/containerd-probe.ts';
import { addTestImage, writeCniConf } from '#node-agent/testing.ts';
import { missingForMicrovms } from './host.ts';
import type { Vm, Vmm } from './machine.ts';
import { start } from './start.ts';
import { openQemu, type QemuConfig } from './vmm/qemu.ts';

/** Why tests with real microVMs cannot run here; undefined when they can. */
export function missingForTestMicrovms(): string | undefined {
  const missing = [
    ...missingForMicrovms(),
    ...(existsSync('/usr/bin/busybox') ? [] : ['no busybox to make a test image of']),
    ...(detectHost().cniBinDir ? [] : ['no CNI plugins']),
  ];
  return missing.length > 0 ? `no microVMs here: ${missing.join('; ')}` : undefined;
}

export type TestMicrovmRuntime = {
  client: RuntimeClient;
  vmm: Vmm;
  /** Those that were started, by the id of their sandbox. */
  vms: ReadonlyMap<string, Vm>;
  dir: string;
  /** Ends this life of the runtime as a kill does, and begins the next. */
  restart(meanwhile?: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
};

/** What a runtime needs around it: a folder, the test image in a registry, a network; `remove` takes all away. */
export async function makeTestGround() {
  const dir = mkdtempSync('/tmp/G-mvm-');
  const stop = new AbortController();
  const bridge = `gv${dir
    .slice(-6)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, 'x')}`;
  const certsDir = join(dir, 'certs.d');
  const cniConfDir = join(dir, 'cni');
  writeCniConf(cniConfDir, bridge, join(dir, 'ipam'));
  await addTestImage(join(dir, 'store'));
  const local = await startLocalImages({ storeDir: join(dir, 'store') }, { signal: stop.signal });
  for (const [host, url] of Object.entries(local.registries)) {
    mkdirSync(join(certsDir, host), { recursive: true });
    writeFileSync(join(certsDir, host, 'hosts.toml'), hostsToml(url));
  }
  return {
    dir,
    config: {
      dir: join(dir, 'runtime'),
      certsDir,
      cniConfDir,
      cniBinDir: detectHost().cniBinDir ?? '',
    },
    async remove(): Promise<void> {
      stop.abort(new Error('the test is over'));
      await unmountAll(dir);
      if (existsSync(`/sys/class/net/${bridge}`)) execFileSync('ip', ['link', 'delete', bridge]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Starts the runtime in this process, with images and a network of its own; `close` leaves nothing. */
export async function startTestMicrovmRuntime(
  options: { log?: Log } & Pick<QemuConfig, 'warmPoolSize' | 'headroom'> = {},
): Promise<TestMicrovmRuntime> {
  const { log = silentLog, ...pool } = options;
  const ground = await makeTestGround();
  const { dir } = ground;
  const socket = join(dir, 'cri.sock');
  const vms = new Map<string, Vm>();
  const noting = (vmm: Vmm): Vmm => ({
    ...vmm,
    async start(spec, options) {
      const vm = await vmm.start(spec, options);
      vms.set(spec.id, vm);
      return vm;
    },
  });

  async function launch() {
    const life = new AbortController();
    const running = await start(
      {
        ...ground.config,
        socket,
        openVmm: async () =>
          noting(
            await openQemu({
              ...pool,
              stateDir: join(dir, 'vms'),
              cacheDir: join(dir, 'guest'),
              log,
              signal: life.signal,
            }),
          ),
      },
      { signal: life.signal, log },
    );
    return { life, running, client: connectContainerd({ endpoint: socket }) };
  }

  let current = await launch();
  const halt = async (): Promise<void> => {
    current.client.close();
    current.life.abort(new Error('this life of the runtime is over'));
    await current.running.done;
  };
  return {
    get client() {
      return current.client;
    },
    get vmm() {
      return current.running.vmm;
    },
    dir,
    vms,
    async restart(meanwhile) {
      await halt();
      await meanwhile?.();
      current = await launch();
    },
    async close() {
      await removeSandboxes(`unix://${socket}`, 60_000).catch(() => undefined);
      await halt();
      await ground.remove();
    },
  };
}
