import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { eventually } from '#base/testing.ts';
import { seccompFilter } from '#node-agent/runtime/microvm/seccomp/profile.ts';
import type { GuestContainer, Vm, Vmm } from '../machine.ts';
import { missingForQemu, openQemu } from './qemu.ts';
import { guestContainer, guestProcess, makeGround, readAll, type VmGround } from './testing.ts';

const missing = missingForQemu();
const skip = missing.length > 0 && `no microVMs here: ${missing.join('; ')}`;
const dir = mkdtempSync(join(tmpdir(), 'gantry-qemu-'));
const stop = new AbortController();
const running: Vm[] = [];
let ground: VmGround;
let vmm: Vmm;

const config = { stateDir: join(dir, 'state'), cacheDir: join(dir, 'cache'), log: silentLog };

async function start(id: string, from: Vmm = vmm): Promise<Vm> {
  const vm = await from.start(ground.spec(id), { signal: stop.signal });
  running.push(vm);
  return vm;
}

/** Runs a container to its end. */
async function runContainer(vm: Vm, container: GuestContainer): ReturnType<typeof readAll> {
  await vm.guest.createContainer(container);
  const result = await readAll(await vm.guest.startContainer(container.id));
  await vm.guest.removeContainer(container.id);
  return result;
}

before(async () => {
  if (skip) return;
  ground = makeGround(231);
  vmm = await openQemu({ ...config, signal: stop.signal });
});

after(async () => {
  await Promise.all(running.map((vm) => vm.stop({ graceMs: 0 })));
  stop.abort();
  if (!skip) ground.remove();
  rmSync(dir, { recursive: true, force: true });
});

let vm: Vm;
let lun: number;

test('a VM starts from a template, and a container of an image runs in it', { skip }, async () => {
  vm = await start('one');
  assert.equal(vm.startedBy, 'template');
  lun = await vm.addDisk({ path: ground.image, readonly: true });
  const script = 'echo out; echo err >&2; id -u; pwd; echo $HOME; exit 7';
  const result = await runContainer(vm, guestContainer('c1', lun, ['sh', '-c', script]));
  assert.deepEqual(result, {
    stdout: 'out\n0\n/\n/root\n',
    stderr: 'err\n',
    code: 7,
    oomKilled: false,
  });
});

test('exec, standard input to its end, users, and what cannot run', { skip }, async () => {
  await vm.guest.createContainer(guestContainer('c2', lun, ['sleep', '1000']));
  await vm.guest.startContainer('c2');
  const cat = await vm.guest.exec('c2', guestProcess(['md5sum'], { stdin: true }));
  const block = Buffer.alloc(300_000, 'x');
  await cat.write(block);
  await cat.closeStdin();
  const sum = await readAll(cat);
  assert.match(sum.stdout, /^[0-9a-f]{32} {2}-/);
  const user = { uid: 1000, gid: 1000, groups: [2000] };
  const id = await vm.guest.exec(
    'c2',
    guestProcess(['sh', '-c', 'id; echo $HOME; grep Cap /proc/self/status'], {
      user,
      capabilities: [],
      noNewPrivileges: true,
    }),
  );
  const said = (await readAll(id)).stdout;
  assert.match(said, /uid=1000\(web\) gid=1000 groups=1000,2000|uid=1000.*2000/);
  assert.match(said, /\/home\n/);
  assert.match(said, /CapBnd:\t0+\n/);
  await assert.rejects(
    vm.guest.exec('c2', guestProcess(['nothing'])),
    /"nothing": executable file not found in \$PATH/,
  );
  await assert.rejects(vm.guest.exec('c2', guestProcess(['/etc/passwd'])), /Permission denied/);
  const hung = await vm.guest.exec('c2', guestProcess(['sleep', '999']));
  await hung.kill();
  assert.equal((await hung.exit).code, 137);
});

test('a terminal has its size, and Ctrl-D ends it', { skip }, async () => {
  const shell = await vm.guest.exec('c2', guestProcess(['sh'], { tty: true, stdin: true }));
  await shell.resize({ width: 99, height: 33 });
  await shell.write(Buffer.from('stty size; tty; exit 5\n'));
  const { stdout, code } = await readAll(shell);
  assert.match(stdout, /33 99\r\n\/dev\/pts\/0\r\n/);
  assert.equal(code, 5);
  const cat = await vm.guest.exec('c2', guestProcess(['cat'], { tty: true, stdin: true }));
  await cat.closeStdin();
  assert.equal((await readAll(cat)).code, 0);
});

test('signals, stats, files', { skip }, async () => {
  assert.equal(
    Buffer.from((await vm.guest.readFile('c2', '/etc/passwd', 9)) ?? '').toString(),
    'root:x:0:',
  );
  assert.equal(await vm.guest.readFile('c2', '/no/such', 9), null);
  const stats = await vm.guest.stats('c2');
  assert.ok(
    stats.memoryUsageBytes > 0 && stats.pids === 1 && stats.cpuNanoseconds > 0,
    JSON.stringify(stats),
  );
  const streams = await vm.guest.reattach('c2');
  await vm.guest.signal('c2', 9, { all: false });
  assert.equal((await streams.exit).code, 137);
  await assert.rejects(vm.guest.signal('c2', 15, { all: false }), /not running/);
  await vm.guest.removeContainer('c2');
  await assert.rejects(vm.guest.stats('c2'), { code: 'NotFound' });
});

test('limits, and running out of memory', { skip }, async () => {
  const limits = {
    memoryBytes: 16 * 1024 * 1024,
    pids: 20,
    cpuQuota: 50_000,
    cpuPeriod: 100_000,
    cpuShares: 512,
  };
  const script =
    'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max; head -c 100000000 /dev/zero | tail';
  const result = await runContainer(
    vm,
    guestContainer('c3', lun, ['sh', '-c', script], { limits }),
  );
  assert.equal(result.stdout, '16777216\n20\n50000 100000\n');
  assert.deepEqual({ code: result.code, oom: result.oomKilled }, { code: 137, oom: true });
  const bomb = 'bomb() { bomb | bomb & }; bomb; sleep 1; echo alive';
  await runContainer(vm, guestContainer('c4', lun, ['sh', '-c', bomb], { limits }));
  assert.equal((await runContainer(vm, guestContainer('c5', lun, ['true']))).code, 0);
});

test('the share: owners, files, read-only, updates that arrive', { skip }, async () => {
  const share = ground.spec('one').shareDir;
  const source = join(ground.dir, 'volume');
  mkdirSync(source);
  writeFileSync(join(source, 'secret'), 'hush', { mode: 0o400 });
  mkdirSync(join(source, 'data'));
  execFileSync('chown', ['0:2000', join(source, 'data')]);
  execFileSync('chmod', ['2775', join(source, 'data')]);
  mkdirSync(join(share, 'c6/0'), { recursive: true });
  writeFileSync(join(share, 'c6/1'), '');
  execFileSync('mount', ['--bind', source, join(share, 'c6/0')]); // after the VM was started
  writeFileSync(join(source, 'hosts'), 'one');
  execFileSync('mount', ['--bind', join(source, 'hosts'), join(share, 'c6/1')]);
  await vm.guest.createContainer(
    guestContainer('c6', lun, ['sleep', '1000'], {
      mounts: [
        { source: { share: 'c6/0' }, target: '/vol', readonly: false },
        { source: { share: 'c6/0' }, target: '/ro', readonly: true },
        { source: { share: 'c6/1' }, target: '/etc/hosts', readonly: true },
        { source: { tmpfs: 'size=1m' }, target: '/scratch', readonly: false },
      ],
    }),
  );
  await vm.guest.startContainer('c6');
  const user = { uid: 1000, gid: 1000, groups: [2000] };
  const ask = async (script: string, asUser = false): Promise<string> => {
    const options = asUser ? { user, capabilities: [] } : {};
    const { stdout, stderr } = await readAll(
      await vm.guest.exec('c6', guestProcess(['sh', '-c', script], options)),
    );
    return stdout + stderr;
  };
  assert.equal(await ask('cat /vol/secret /etc/hosts'), 'hushone');
  assert.match(await ask('cat /vol/secret', true), /Permission denied/);
  await ask('echo hi > /vol/data/f', true);
  assert.equal(
    execFileSync('stat', ['-c', '%u:%g', join(source, 'data/f')], { encoding: 'utf8' }),
    '1000:2000\n',
  );
  assert.match(await ask('touch /ro/x'), /Read-only/);
  assert.match(await ask('echo x > /etc/hosts'), /Read-only/);
  writeFileSync(join(source, 'hosts'), 'two');
  assert.equal(await ask('cat /etc/hosts'), 'two');
  const pipe =
    'mkfifo /vol/pipe; (echo through > /vol/pipe &); cat /vol/pipe; stat -c %F /vol/pipe';
  assert.equal(await ask(pipe), 'through\nfifo\n');
  assert.match(
    await ask('mknod /vol/dev b 8 0; cat /vol/dev; mknod /dev/x b 8 0; cat /dev/x'),
    /not permitted|denied/,
  );
  assert.match(await ask('dd if=/dev/zero of=/scratch/f bs=1M count=3'), /No space/);
  await vm.guest.removeContainer('c6');
  execFileSync('umount', [join(share, 'c6/0'), join(share, 'c6/1')]);
});

test('disks come and go; a written layer on one; a raw device', { skip }, async () => {
  const disk = ground.makeDisk('layer');
  const layer = await vm.addDisk({ path: disk, readonly: false });
  assert.notEqual(layer, lun);
  const rootfs = { lun, filesystem: 'erofs', writable: { lun: layer } };
  const script = 'echo kept > /file; cat /file; head -c 2 /dev/raw | wc -c';
  const raw = await vm.addDisk({ path: ground.makeDisk('raw'), readonly: false });
  const devices = [{ lun: raw, path: '/dev/raw', mode: 0o600 }];
  const first = await runContainer(
    vm,
    guestContainer('c7', lun, ['sh', '-c', script], { rootfs, devices }),
  );
  assert.deepEqual(first, { stdout: 'kept\n2\n', stderr: '', code: 0, oomKilled: false });
  const second = await runContainer(vm, guestContainer('c8', lun, ['cat', '/file'], { rootfs }));
  assert.equal(second.stdout, 'kept\n');
  await vm.removeDisk(raw);
  await vm.removeDisk(layer);
  await assert.rejects(
    vm.guest.createContainer(guestContainer('c9', 200, ['true'])),
    /disk with LUN 200: No such device/,
  );
});

test('a seccomp filter holds for a container and what is run in it', { skip }, async () => {
  const capabilities = ['SYS_CHROOT', 'SETUID'];
  const filter = {
    seccompFilter: seccompFilter({ seccomp: { profileType: 'RuntimeDefault' } }, capabilities),
  };
  const status = 'grep -E "^(Seccomp|CapEff|NoNewPrivs):" /proc/self/status';
  const script = `${status}; unshare -n true; chroot / echo changed; sleep 1000`;
  for (const noNewPrivileges of [false, true]) {
    const id = `s-${noNewPrivileges}`;
    const argv = ['sh', '-c', script];
    const process = guestProcess(argv, { capabilities, noNewPrivileges });
    const container = guestContainer(id, lun, argv, { ...filter, process });
    await vm.guest.createContainer(container);
    const streams = await vm.guest.startContainer(id);
    let said = '';
    for await (const { bytes } of streams.output()) {
      said += Buffer.from(bytes).toString();
      streams.acknowledge();
      if (said.includes('changed')) break;
    }
    assert.match(said, /CapEff:\s0{11}40080\n/);
    assert.match(said, new RegExp(`NoNewPrivs:\\s${Number(noNewPrivileges)}\n`));
    assert.match(said, /Seccomp:\s2\n/);
    assert.match(said, /unshare.*Operation not permitted/);
    const inside = await vm.guest.exec(id, { ...process, argv: ['unshare', '-n', 'true'] });
    const { stderr, code } = await readAll(inside);
    assert.match(stderr, /Operation not permitted/);
    assert.notEqual(code, 0);
    await vm.guest.removeContainer(id);
  }
  // A program that the kernel does not take is told as such.
  const broken = { seccompFilter: new Uint8Array(8) };
  await vm.guest.createContainer(guestContainer('s-broken', lun, ['true'], broken));
  await assert.rejects(vm.guest.startContainer('s-broken'), /seccomp profile: Invalid argument/);
  await vm.guest.removeContainer('s-broken');
});

test('a container with a terminal has it as its console', { skip }, async () => {
  const argv = ['sh', '-c', 'echo through > /dev/console; stat -c %F /dev/console'];
  const process = guestProcess(argv, { tty: true });
  const { stdout } = await runContainer(vm, guestContainer('tty1', lun, argv, { process }));
  assert.equal(stdout, 'through\r\ncharacter special file\r\n');
});

test('read-only roots, masked paths, namespaces of processes', { skip }, async () => {
  const script = 'touch /x; cat /proc/uptime; ls /proc/fs | wc -l; echo 1 > /proc/sys/kernel/panic';
  const guarded = await runContainer(
    vm,
    guestContainer('d1', lun, ['sh', '-c', script], {
      readonlyRootfs: true,
      maskedPaths: ['/proc/uptime', '/proc/fs', '/proc/none'],
      readonlyPaths: ['/proc/sys'],
    }),
  );
  assert.equal(guarded.stdout, '0\n');
  assert.match(guarded.stderr, /\/x: Read-only file system[^]*panic: Read-only/);
  await vm.guest.createContainer(
    guestContainer('d2', lun, ['sleep', '1001'], { pidNamespace: 'pod' }),
  );
  await vm.guest.startContainer('d2');
  const sees = await runContainer(
    vm,
    guestContainer('d3', lun, ['ps'], { pidNamespace: { container: 'd2' } }),
  );
  assert.match(sees.stdout, /sleep 1001/);
  const pod = await runContainer(vm, guestContainer('d4', lun, ['ps'], { pidNamespace: 'pod' }));
  assert.match(pod.stdout, /sleep 1001/);
  const own = await runContainer(vm, guestContainer('d5', lun, ['ps']));
  assert.doesNotMatch(own.stdout, /sleep 1001/);
  await vm.guest.removeContainer('d2');
});

test('the network of the pod, and connections to loopback', { skip }, async () => {
  await vm.guest.configure({
    hostname: 'pod-one',
    mac: '02:00:00:00:00:31',
    mtu: 1450,
    addresses: [ground.address, 'fd00:31::5/64'],
    routes: [{ destination: '0.0.0.0/0', gateway: ground.gateway }],
    sysctls: { 'net.ipv4.ip_local_port_range': '40000 50000' },
  });
  const script =
    'hostname; ip addr show eth0; ip route; cat /proc/sys/net/ipv4/ip_local_port_range';
  const { stdout } = await runContainer(vm, guestContainer('n1', lun, ['sh', '-c', script]));
  assert.match(stdout, /^pod-one\n/);
  assert.match(stdout, /mtu 1450[^]*02:00:00:00:00:31[^]*10\.131\.231\.5\/24[^]*fd00:31::5\/64/);
  assert.match(stdout, /default via 10\.131\.231\.1[^]*40000\t50000/);
  const serve = 'echo hello > /var/www/f; httpd -f -p 8080 -h /var/www';
  await vm.guest.createContainer(guestContainer('n2', lun, ['sh', '-c', serve]));
  await vm.guest.startContainer('n2');
  const get = async (): Promise<string> => {
    const response = await fetch('http://10.131.231.5:8080/f').catch(() => undefined);
    return response ? await response.text() : '';
  };
  const deadline = performance.now() + 20_000;
  let answer = '';
  while (answer === '' && performance.now() < deadline) answer = await get();
  assert.equal(answer, 'hello\n');
  const dialled = await vm.guest.dial(8080);
  await dialled.write(Buffer.from('GET /f HTTP/1.0\r\n\r\n'));
  assert.match((await readAll(dialled)).stdout, /hello\n$/);
  await assert.rejects(vm.guest.dial(9), /refused/);
  await vm.guest.removeContainer('n2');
});

/** Memory of translated code; 0 where none is translated. */
const codeMib = (pid: number): number => {
  const code = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-)/m);
  const kib = code
    .filter((mapping) => mapping.includes('/memfd:tcg-jit'))
    .map((mapping) => Number(/^Pss:\s+(\d+)/m.exec(mapping)?.[1] ?? 0));
  return kib.reduce((sum, part) => sum + part, 0) / 1024;
};

test('translated code is given back when the guest is calm, which works on', { skip }, async () => {
  if (vmm.accelerator.kind === 'KVM') return;
  const calm = await start('calm');
  const own = await calm.addDisk({ path: ground.image, readonly: true });
  await calm.guest.createContainer(guestContainer('k1', own, ['sleep', '100000']));
  await calm.guest.startContainer('k1');
  const much = codeMib(calm.pid);
  assert.ok(much > 12, `a start translates more than ${much} MiB`);
  // On a machine so busy that the guest seemed calm before, it takes a minute more.
  await eventually('less code', async () => codeMib(calm.pid) < much / 2, 150_000);
  for (let round = 0; round < 3; round++) {
    const { stdout } = await readAll(await calm.guest.exec('k1', guestProcess(['echo', 'alive'])));
    assert.equal(stdout, 'alive\n');
  }
});
