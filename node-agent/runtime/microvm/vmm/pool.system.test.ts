import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Log, silentLog } from '#base/log.ts';
import { eventually } from '#base/testing.ts';
import { listProcesses } from '../../containerd-processes.ts';
import type { Vm, Vmm } from '../machine.ts';
import { missingForQemu, openQemu } from './qemu.ts';
import { guestContainer, guestProcess, makeGround, readAll, type VmGround } from './testing.ts';

const missing = missingForQemu();
const skip = missing.length > 0 && `no microVMs here: ${missing.join('; ')}`;
const dir = mkdtempSync(join(tmpdir(), 'gantry-pool-'));
const stop = new AbortController();
const { signal } = stop;
const running: Vm[] = [];
let ground: VmGround;
let vmm: Vmm;
const stateDir = join(dir, 'state');
/** How many were made. */
let waiting = 0;
const log: Log = {
  ...silentLog,
  debug: (message) => void (message === 'a microVM waits for a pod' && waiting++),
};

before(async () => {
  if (skip) return;
  ground = makeGround(234);
  vmm = await openQemu({
    ...{ stateDir, cacheDir: join(dir, 'cache'), log, signal, warmPoolSize: 2 },
    headroom: () => ({ idleShare: 1, freeMib: 100_000 }),
  });
});

after(async () => {
  await Promise.all(running.map((vm) => vm.stop({ graceMs: 0 })));
  stop.abort();
  if (skip) return;
  await vmm.close();
  ground.remove();
  rmSync(dir, { recursive: true, force: true });
});

async function start(id: string, ready?: Promise<unknown>): Promise<Vm> {
  const vm = await vmm.start(ground.spec(id), { signal, ...(ready ? { ready } : {}) });
  running.push(vm);
  return vm;
}

test('VMs that waited: own network, files, disks, random state; the pool fills up', {
  skip,
}, async () => {
  const first = await start('first');
  assert.equal(first.startedBy, 'template');
  await eventually('two VMs wait', async () => waiting === 2, 90_000);
  const volume = join(ground.spec('a').shareDir, 'm');
  mkdirSync(volume, { recursive: true });
  writeFileSync(join(volume, 'file'), 'of the pod');
  const vms = await Promise.all([start('a'), start('b')]);
  assert.deepEqual(
    vms.map(({ startedBy }) => startedBy),
    ['pool', 'pool'],
  );
  const [vm] = vms;
  await vm.guest.configure({
    ...{ hostname: 'pod-a', mac: '02:00:00:00:00:34', mtu: 1400, sysctls: {} },
    ...{ addresses: ['10.131.234.6/24'], routes: [] },
  });
  const script =
    'head -c 32 /dev/urandom | md5sum; cat /proc/sys/kernel/random/boot_id; cat /proc/sys/kernel/random/uuid';
  const said = await Promise.all(
    vms.map(async (one) => {
      const lun = await one.addDisk({ path: ground.image, readonly: true });
      await one.guest.createContainer(
        guestContainer('main', lun, ['sleep', '100000'], {
          mounts: one === vm ? [{ source: { share: 'm' }, target: '/vol', readonly: false }] : [],
        }),
      );
      await one.guest.startContainer('main');
      const { stdout } = await readAll(
        await one.guest.exec('main', guestProcess(['sh', '-c', script])),
      );
      return stdout.trim().split('\n');
    }),
  );
  assert.equal(new Set(said.flat()).size, 6, said.join('; '));
  const own = 'cat /vol/file; hostname; ip addr show eth0; date +%s';
  const { stdout } = await readAll(await vm.guest.exec('main', guestProcess(['sh', '-c', own])));
  assert.match(
    stdout,
    /^of the podpod-a\n[^]*mtu 1400[^]*02:00:00:00:00:34[^]*10\.131\.234\.6\/24/,
  );
  const seconds = Number(stdout.trim().split('\n').at(-1));
  assert.ok(Math.abs(seconds - Date.now() / 1000) < 5, `the guest's clock is at ${seconds}`);
  await eventually('two more wait', async () => waiting === 4, 90_000);
});

test('a failure of the pod is none of the VM, and nothing is left', { skip }, async () => {
  const broken = Promise.reject(new Error('no addresses are left'));
  await assert.rejects(start('c', broken), /no addresses are left/);
  await Promise.all(running.map((vm) => vm.stop({ graceMs: 0 })));
  stop.abort();
  await vmm.close();
  await eventually('templates are gone', async () => readdirSync(stateDir).length === 0);
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(dir), false);
  const left = listProcesses().filter(({ command }) => command.some((word) => word.includes(dir)));
  assert.deepEqual(left, []);
});
