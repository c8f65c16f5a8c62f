import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { GuestConnection } from '../guest/connection.ts';
import { connectGuest } from '../guest/guest.ts';
import { powerOffRequest } from '../guest/messages.ts';
import type { Disk, GuestStreams, Vm, VmSpec } from '../machine.ts';
import { JAILED } from './qemu-command.ts';
import { type QemuProcess, removeVmDir } from './qemu-process.ts';
import { tendTranslatedCode } from './translated-code.ts';

const run = promisify(execFile);

/** What virtio-scsi addresses without further bits. */
const MAX_LUN = 255;
/** A guest confirms within 30 ms; one that hangs does not. */
const UNPLUG_TIMEOUT_MS = 30_000;

export type QemuVmOptions = {
  process: QemuProcess;
  spec: VmSpec;
  startedBy: Vm['startedBy'];
  /** LUNs that are taken already. */
  luns: readonly number[];
  /** This life of the runtime. */
  instance: Uint8Array;
  /** `GuestFiles.jail` when the guest is emulated: translated code is given back with it. */
  emulatedBy: string | undefined;
  clock: Clock;
  log: Log;
  /** Aborted when the runtime ends: the VM goes on without it. */
  signal: AbortSignal;
};

export type QemuVm = Vm & {
  readonly connection: GuestConnection;
  /** Resolves when nothing holds the VM any more: it has ended, or was let go of. */
  readonly left: Promise<void>;
};

/** A VM as the runtime sees it, on a QEMU that runs. */
export function createQemuVm(options: QemuVmOptions): QemuVm {
  const { process, spec, startedBy, instance, clock, log } = options;
  const { qmp, dir } = process;
  const gone = new AbortController();
  const luns = new Set(options.luns);
  let lastLun = Math.max(-1, ...luns);
  let stopping: Promise<void> | undefined;
  let diskWork: Promise<unknown> = Promise.resolve();

  const connection = new GuestConnection({
    open: () => process.openAgent(),
    clock,
    log,
    entropy: randomBytes,
    instance,
    signal: gone.signal,
    onViolation(error) {
      log.error('a guest is stopped: it broke the protocol', { vm: spec.id, error: error.message });
      void process.kill(error.message);
    },
  });

  const resting = new AbortController();
  const left = Promise.withResolvers<void>();
  const letGo = async (): Promise<void> => {
    resting.abort();
    await tending; // it may hold the guest still for a moment
    connection.detach();
    process.release();
    left.resolve();
  };
  const onAbort = (): void => void letGo();
  options.signal.addEventListener('abort', onAbort, { once: true });
  const { emulatedBy: jail } = options;
  const guest = connectGuest(connection);
  let starts = 0;
  const counted = async (begin: Promise<GuestStreams>): Promise<GuestStreams> => {
    const streams = await begin;
    starts++;
    return streams;
  };
  const tending =
    jail === undefined
      ? undefined
      : tendTranslatedCode({
          ...{ process, jail, clock, log, signal: resting.signal },
          poke: () => connection.poke(),
          starts: () => starts,
        });

  const ended = process.ended.then(async (end) => {
    options.signal.removeEventListener('abort', onAbort);
    left.resolve();
    gone.abort(new Error(end.reason));
    resting.abort();
    await connection.done;
    await tending;
    await removeVmDir(dir).catch((error: unknown) =>
      log.warn('a VM left files', { vm: spec.id, error: String(error) }),
    );
    return end;
  });

  /** One change of disks at a time: a LUN is free only when its disk is gone. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = diskWork.then(work, work);
    diskWork = result.catch(() => {});
    return result;
  }

  /** The next in turn: one that was just given up may still be known to the guest as what it was. */
  function nextLun(): number | undefined {
    const turn = Array.from({ length: MAX_LUN + 1 }, (_, n) => (lastLun + 1 + n) % (MAX_LUN + 1));
    return turn.find((n) => !luns.has(n));
  }

  async function addDisk({ path, readonly }: Disk): Promise<number> {
    const lun = nextLun();
    if (lun === undefined) throw new Error(`a VM has at most ${MAX_LUN + 1} disks`);
    const node = `disk${lun}`;
    const driver = statSync(path).isBlockDevice() ? 'host_device' : 'file';
    const place = join(dir, 'disks', String(lun));
    closeSync(openSync(place, 'w'));
    try {
      await run('mount', ['--bind', path, place]);
      await qmp.execute('blockdev-add', {
        driver: 'raw',
        'node-name': node,
        'read-only': readonly,
        discard: 'unmap',
        file: {
          driver,
          filename: `${JAILED.vm}/disks/${lun}`,
          // Image bases are shared by VMs; who may write what is the runtime's to know.
          locking: 'off',
        },
      });
      await qmp
        .execute('device_add', {
          ...{ driver: 'scsi-hd', bus: 'scsi.0', 'scsi-id': 0, lun, id: node, drive: node },
          'share-rw': true,
        })
        .catch(async (error: unknown) => {
          await qmp.execute('blockdev-del', { 'node-name': node });
          throw error;
        });
    } catch (error) {
      await releasePlace(place);
      throw new Error(`disk ${path} cannot be given to the VM`, { cause: error });
    }
    luns.add(lun);
    lastLun = lun;
    return lun;
  }

  async function removeDisk(lun: number): Promise<void> {
    if (!luns.has(lun)) return;
    const node = `disk${lun}`;
    const signal = AbortSignal.timeout(UNPLUG_TIMEOUT_MS);
    const deleted = qmp.event(
      ({ event, data }) => event === 'DEVICE_DELETED' && data['device'] === node,
      { signal },
    );
    deleted.catch(() => {}); // awaited below, unless the removal itself fails
    await qmp.execute('device_del', { id: node });
    await deleted;
    await qmp.execute('blockdev-del', { 'node-name': node });
    await releasePlace(join(dir, 'disks', String(lun)));
    luns.delete(lun);
  }

  async function stop(graceMs: number): Promise<void> {
    if (graceMs > 0)
      await connection
        .request(powerOffRequest(), { timeoutMs: graceMs, parse: () => undefined })
        .catch(() => {}); // its answer is that it is gone
    await process.kill('the VM was stopped');
    await ended;
  }

  return {
    spec,
    pid: process.pid,
    startedBy,
    connection,
    left: left.promise,
    guest: {
      ...guest,
      startContainer: (id) => counted(guest.startContainer(id)),
      reattach: (id) => counted(guest.reattach(id)),
    },
    addDisk: (disk) => inTurn(() => addDisk(disk)),
    removeDisk: (lun) => inTurn(() => removeDisk(lun)),
    ended,
    stop: ({ graceMs }) => (stopping ??= stop(graceMs)),
  };
}

async function releasePlace(place: string): Promise<void> {
  await run('umount', [place]).catch(() => {}); // it was not mounted yet
  rmSync(place, { force: true });
}
