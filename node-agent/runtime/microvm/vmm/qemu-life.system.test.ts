import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { until } from '#base/testing.ts';
import { listProcesses, readProcess } from '../../containerd-processes.ts';
import type { Vm, Vmm } from '../machine.ts';
import { makeVmCgroup, removeVmCgroup } from '../cri/vm-cgroup.ts';
import { missingForQemu, openQemu } from './qemu.ts';
import { guestContainer, guestProcess, makeGround, readAll, type VmGround } from './testing.ts';
import type { LifeInput } from './testing-life.ts';

const missing = missingForQemu();
const skip = missing.length > 0 && `no microVMs here: ${missing.join('; ')}`;
const dir = mkdtempSync(join(tmpdir(), 'gantry-qemu-life-'));
const stop = new AbortController();
const { signal } = stop;
const running: Vm[] = [];
let ground: VmGround;
let vmm: Vmm;
const config = { stateDir: join(dir, 'state'), cacheDir: join(dir, 'cache'), log: silentLog };

before(async () => {
  if (skip) return;
  ground = makeGround(232);
  vmm = await openQemu({ ...config, signal });
});

after(async () => {
  await Promise.all(running.map((vm) => vm.stop({ graceMs: 0 })));
  stop.abort();
  if (!skip) ground.remove();
  rmSync(dir, { recursive: true, force: true });
});

/** A VM with a container that sleeps, to run things in. */
async function startVm(
  id: string,
  from = vmm,
  change: Parameters<VmGround['spec']>[1] = {},
): Promise<Vm> {
  const vm = await from.start(ground.spec(id, change), { signal });
  running.push(vm);
  const lun = await vm.addDisk({ path: ground.image, readonly: true });
  await vm.guest.createContainer(
    guestContainer('main', lun, ['sleep', '100000'], {
      privileged: true,
      process: guestProcess(['sleep', '100000'], { capabilities: ['SYS_ADMIN'] }),
    }),
  );
  await vm.guest.startContainer('main');
  return vm;
}

const ask = async (vm: Vm, script: string): Promise<string> =>
  (await readAll(await vm.guest.exec('main', guestProcess(['sh', '-c', script])))).stdout;

test('clones of one template share no random state, no identity, and know the time', {
  skip,
}, async () => {
  const [one, two] = await Promise.all([startVm('clone-1'), startVm('clone-2')]);
  assert.deepEqual([one.startedBy, two.startedBy], ['template', 'template']);
  const script =
    'head -c 32 /dev/urandom | md5sum; cat /proc/sys/kernel/random/boot_id; cat /proc/sys/kernel/random/uuid; cat /proc/self/stat | md5sum';
  const [a, b] = await Promise.all([ask(one, script), ask(two, script)]);
  const lines = [...a.trim().split('\n'), ...b.trim().split('\n')];
  assert.equal(lines.length, 8);
  assert.equal(new Set(lines).size, 8, `${a}\n${b}`);
  const seconds = Number(await ask(one, 'date +%s'));
  assert.ok(Math.abs(seconds - Date.now() / 1000) < 5, `the guest's clock is at ${seconds}`);
  await Promise.all([one.stop({ graceMs: 2_000 }), two.stop({ graceMs: 2_000 })]);
});

test('QEMU has its own user, few rights, few files, and cannot change its template', {
  skip,
}, async () => {
  const vm = await startVm('jailed');
  const status = readFileSync(`/proc/${vm.pid}/status`, 'utf8');
  assert.match(status, /^Uid:\t(1879\d{6})\t\1\t\1\t\1$/m);
  assert.match(status, /^CapEff:\t000000000000001b$/m); // CHOWN, DAC_OVERRIDE, FOWNER, FSETID
  assert.match(status, /^CapBnd:\t000000000000001b$/m);
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.match(status, /^Seccomp:\t2$/m);
  const seen = readdirSync(`/proc/${vm.pid}/root`).sort();
  for (const name of seen)
    assert.ok(
      ['dev', 'etc', 'guest', 'lib', 'lib64', 'proc', 'share', 'usr', 'vm'].includes(name),
      name,
    );
  const memory = openSync(`/proc/${vm.pid}/fd/3`, 'r+');
  assert.throws(() => writeFileSync(memory, 'x'), { code: 'EPERM' });
  await vm.stop({ graceMs: 0 });
});

test("QEMU is in its pod's cgroup and network, and in namespaces of its own otherwise", {
  skip,
}, async (t) => {
  const cgroupPath = `/gantry-test-${process.pid}/vm-boxed`;
  makeVmCgroup(cgroupPath);
  t.after(() =>
    until('its cgroups are gone', () => {
      removeVmCgroup(cgroupPath); // busy until its last thread is gone
      removeVmCgroup(dirname(cgroupPath));
      return !['.', ...readdirSync('/sys/fs/cgroup')].some((name) =>
        existsSync(join('/sys/fs/cgroup', name, dirname(cgroupPath))),
      );
    }),
  );
  const vm = await startVm('boxed', vmm, { cgroupPath });
  const joined = readFileSync(`/proc/${vm.pid}/cgroup`, 'utf8');
  const lines = joined.split('\n').filter((line) => line.endsWith(`:${cgroupPath}`));
  const needed = /:memory:/.test(joined) ? ['cpu', 'memory', 'pids'] : [''];
  for (const name of needed)
    assert.ok(
      lines.some((line) => (line.split(':')[1] ?? '').split(',').includes(name)),
      `not in the ${name} cgroup of its pod: ${joined}`,
    );
  // Whatever threads it starts later are counted there too.
  const threads = readdirSync(`/proc/${vm.pid}/task`);
  for (const thread of threads)
    assert.equal(readFileSync(`/proc/${vm.pid}/task/${thread}/cgroup`, 'utf8'), joined);
  for (const kind of ['mnt', 'pid', 'ipc', 'uts', 'net'])
    assert.notEqual(
      readlinkSync(`/proc/${vm.pid}/ns/${kind}`),
      readlinkSync(`/proc/self/ns/${kind}`),
      kind,
    );
  assert.deepEqual(
    readdirSync(`/proc/${vm.pid}/root/proc`).filter((name) => /^\d+$/.test(name)),
    ['1'],
  );
  const open = readdirSync(`/proc/${vm.pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${vm.pid}/fd/${fd}`);
    } catch {
      return ''; // closed meanwhile
    }
  });
  const outside = open.filter(
    (path) => path.startsWith('/') && !/^\/(dev|net\/tun|vm|guest|proc|memfd:)/.test(path),
  );
  assert.deepEqual(
    outside.filter((path) => !path.startsWith(config.stateDir) && !path.startsWith(ground.dir)),
    [],
  );
  await vm.stop({ graceMs: 0 });
});

test('a kernel that panics ends its VM, with its last words', { skip }, async () => {
  const vm = await startVm('panic');
  void ask(vm, 'echo c > /proc/sysrq-trigger').catch(() => {});
  const { reason, kernelLog } = await vm.ended;
  assert.match(reason, /kernel restarted itself/);
  assert.match(kernelLog, /Kernel panic - not syncing/);
  await assert.rejects(vm.guest.stats('main'), { code: 'Unavailable' });
});

test('a VMM that is killed is noticed, and leaves nothing', { skip }, async () => {
  const vm = await startVm('killed');
  const streams = await vm.guest.exec('main', guestProcess(['sleep', '1000']));
  process.kill(vm.pid, 'SIGKILL');
  const { reason } = await vm.ended;
  assert.match(reason, /ended without a word; it may have been killed/);
  await assert.rejects(streams.exit, { code: 'Unavailable' });
  await vm.stop({ graceMs: 1_000 });
});

test('a container that floods its output waits for the host; others go on', { skip }, async () => {
  const vm = await startVm('flood');
  const flood = await vm.guest.exec('main', guestProcess(['yes', 'x'.repeat(1000)]));
  // Nothing is acknowledged, so the guest stops sending after its window.
  let bytes = 0;
  const reading = (async (): Promise<void> => {
    for await (const chunk of flood.output()) bytes += chunk.bytes.length;
  })();
  await until('the window is full', () => bytes > 100_000);
  assert.equal(await ask(vm, 'echo alive'), 'alive\n');
  assert.ok(bytes <= 128 * 1024, `${bytes} bytes without an acknowledgement`);
  flood.acknowledge();
  await flood.kill();
  assert.equal((await flood.exit).code, 137);
  await reading;
  await vm.stop({ graceMs: 0 });
});

test('kill -9 of the runtime: the VM runs on, is found, and no output is lost', {
  skip,
}, async () => {
  const logFile = join(dir, 'main.log');
  const input: LifeInput = {
    ...{ stateDir: join(dir, 'life'), cacheDir: config.cacheDir, spec: ground.spec('life') },
    ...{ image: ground.image, argv: ['sh', '-c', 'seq 1 150000; exit 9'], logFile, bytes: 200_000 },
  };
  writeFileSync(join(dir, 'life.json'), JSON.stringify(input));
  const life = spawn(
    process.execPath,
    ['--no-warnings', join(import.meta.dirname, 'testing-life.ts'), join(dir, 'life.json')],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    assert.match(String((await once(life.stdout, 'data'))[0]), /ready/);
  } finally {
    life.kill('SIGKILL');
  }
  await once(life, 'exit');

  // A life that ends in an orderly way leaves the VM alone too.
  const orderly = new AbortController();
  const second = await openQemu({ ...config, stateDir: input.stateDir, signal: orderly.signal });
  assert.equal((await second.findAll()).length, 1);
  orderly.abort(new Error('the runtime ends'));

  const third = await openQemu({ ...config, stateDir: input.stateDir, signal });
  const [vm, ...others] = await third.findAll();
  assert.ok(vm && others.length === 0);
  running.push(vm);
  assert.deepEqual([vm.spec.id, vm.startedBy], ['life', 'template']);
  const streams = await vm.guest.reattach('main');
  for await (const { bytes } of streams.output()) {
    appendFileSync(logFile, bytes);
    streams.acknowledge();
  }
  assert.equal((await streams.exit).code, 9);
  const expected = Array.from({ length: 150_000 }, (_, n) => `${n + 1}\n`).join('');
  assert.ok(readFileSync(logFile, 'utf8') === expected, 'every line once');
  assert.equal((await (await vm.guest.reattach('main')).exit).code, 9, 'told until it is removed');
  const lun = await vm.addDisk({ path: ground.image, readonly: true });
  assert.equal(lun, 1, 'the disk of the life before still has its LUN');
  await vm.guest.removeContainer('main');
  await vm.stop({ graceMs: 2_000 });

  assert.deepEqual(await third.findAll(), []);
});

test('a cold boot, in little memory', { skip }, async () => {
  const cold = await openQemu({ ...config, stateDir: join(dir, 'cold'), signal, start: 'cold' });
  const vm = await startVm('cold', cold, { memoryMib: 100 });
  assert.equal(vm.startedBy, 'cold boot');
  assert.equal(await ask(vm, 'echo alive'), 'alive\n');
  await vm.stop({ graceMs: 2_000 });
});

test('nothing is left of VMs that are gone', { skip }, () => {
  for (const name of ['state', 'life', 'cold'])
    assert.deepEqual(readdirSync(join(dir, name)), ['templates'], name);
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(dir), false);
  const left = listProcesses().filter(({ command }) => command.some((word) => word.includes(dir)));
  assert.deepEqual(left, []);
  for (const vm of running) assert.equal(readProcess(vm.pid), undefined);
  for (const name of readdirSync('/run/netns').filter((name) => name.startsWith('gantry-vm-232')))
    assert.doesNotMatch(
      execFileSync('ip', ['-n', name, '-o', 'link'], { encoding: 'utf8' }),
      /gantry0/,
    );
});
