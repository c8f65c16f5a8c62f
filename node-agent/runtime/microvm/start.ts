import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '#base/clock.ts';
import { type Log, silentLog } from '#base/log.ts';
import { type Running, untilAborted } from '#base/running.ts';
import { makeShared } from '#node-agent/storage/mounts.ts';
import { criVersion } from '#node-agent/runtime/containerd-probe.ts';
import { startCri } from './cri/cri.ts';
import { podNetwork } from './cri/pod-network.ts';
import { openRecords } from './cri/records.ts';
import { openImages } from './images/image-service.ts';
import type { Vmm } from './machine.ts';

export type MicrovmRuntimeConfig = {
  /** Images, records of pods, writable layers; survives a reboot. */
  dir: string;
  /** The CRI socket; a short path. */
  socket: string;
  /** `<host>/hosts.toml` files: where images are pulled from. */
  certsDir: string;
  cniConfDir: string;
  cniBinDir: string;
  openVmm: () => Promise<Vmm>;
};

/**
 * Runs the CRI runtime on microVMs until the signal aborts; VMs run on then, and the next start
 * finds them. Rejects when another one serves the same socket.
 */
export async function start(
  config: MicrovmRuntimeConfig,
  {
    signal,
    log = silentLog,
    clock = systemClock,
  }: { signal: AbortSignal; log?: Log; clock?: Clock },
): Promise<Running & { vmm: Vmm }> {
  const { dir, socket, certsDir } = config;
  const other = await criVersion(`unix://${socket}`, 1_000).catch(() => undefined);
  if (other) throw new Error(`a runtime (${other.name}) serves ${socket} already`);
  mkdirSync(dirname(socket), { recursive: true, mode: 0o711 });
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  const records = openRecords(join(dir, 'pods'));
  // Volumes are bound below it after a VM has begun, and must show inside.
  await makeShared(records.podsDir);
  const vmm = await config.openVmm();
  const { kind, reason } = vmm.accelerator;
  log.info('microVMs can run', { vmm: vmm.name, accelerator: kind, reason });
  const server = await startCri({
    socket,
    vmm,
    records,
    network: podNetwork({ confDir: config.cniConfDir, binDir: config.cniBinDir }),
    images: (inUse) =>
      openImages({ dir: join(dir, 'images'), certsDir, inUse, log: log.child('images') }),
    clock,
    log,
    signal,
  });
  log.info('serving CRI', { socket });
  const done = untilAborted(signal).then(async () => {
    await server.close();
    await vmm.close();
  });
  return { done, vmm };
}
