/** MicroVMs below the CRI: the floor under what a pod in one costs. `node bench/microvm.ts [runs]`. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { Vm, Vmm, VmSpec } from '#node-agent/runtime/microvm/machine.ts';
import { missingForQemu, openQemu } from '#node-agent/runtime/microvm/vmm/qemu.ts';
import {
  guestContainer,
  guestProcess,
  makeGround,
  readAll,
  type VmGround,
} from '#node-agent/runtime/microvm/vmm/testing.ts';
import { figure, median, printTable, quantile } from './machine.ts';

const COLD_RUNS = 5;
const ALIKE = 10;
const EXECS = 40;
/** After that long without work a VM has given back what only its start needed. */
const CALM_MS = 20_000;
const IDLE_MS = 10_000;
/** What a container writes to memory, to see what its VM takes beyond that. */
const FILLED_MIB = 230;

const missing = missingForQemu();
if (missing.length > 0) {
  console.log(`microVMs are not measured here: ${missing.join('; ')}`);
  process.exit(0);
}
const runs = Number(process.argv[2] ?? 10);
const dir = mkdtempSync(join(tmpdir(), 'gantry-bench-vm-'));
const stop = new AbortController();
const { signal } = stop;
const ground = makeGround(240);
const running = new Set<Vm>();
const config = { cacheDir: join(dir, 'cache'), log: silentLog, signal };

async function timed<T>(into: number[], work: () => Promise<T>): Promise<T> {
  const begun = performance.now();
  const result = await work();
  into.push(performance.now() - begun);
  return result;
}

async function startVm(
  vmm: Vmm,
  id: string,
  into: number[],
  change: Partial<VmSpec> = {},
): Promise<Vm> {
  const vm = await timed(into, () => vmm.start(ground.spec(id, change), { signal }));
  running.add(vm);
  return vm;
}

async function stopVm(vm: Vm): Promise<void> {
  running.delete(vm);
  await vm.stop({ graceMs: 0 });
}

/** As a pod's sandbox and its one container need it, without CNI and images. */
async function startPod(vm: Vm, { image }: VmGround): Promise<void> {
  const network = { hostname: vm.spec.id, mac: '02:00:00:00:00:01', mtu: 1500, sysctls: {} };
  await vm.guest.configure({ ...network, addresses: [ground.address], routes: [] });
  const lun = await vm.addDisk({ path: image, readonly: true });
  await vm.guest.createContainer(guestContainer('main', lun, ['sleep', '100000']));
  await vm.guest.startContainer('main');
}

const kib = (file: string, field: string): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
const pssMb = (pid: number): number => kib(`/proc/${pid}/smaps_rollup`, 'Pss') / 1024;

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Exact, unlike the ticks of /proc/<pid>/stat. */
function cpuMs(pid: number): number {
  const times = readdirSync(`/proc/${pid}/task`).map((task) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]),
  );
  return times.reduce((sum, ns) => sum + ns, 0) / 1e6;
}

/** MiB that a VM has for itself beyond what its container has filled: what an overhead must cover. */
async function fill(vm: Vm): Promise<number> {
  const lun = await vm.addDisk({ path: ground.image, readonly: true });
  const source = { tmpfs: `size=${FILLED_MIB}m` };
  const mounts = [{ source, target: '/fill', readonly: false }];
  const script = `dd if=/dev/zero of=/fill/all bs=1M count=${FILLED_MIB}; sleep 100000`;
  await vm.guest.createContainer(guestContainer('main', lun, ['sh', '-c', script], { mounts }));
  await vm.guest.startContainer('main');
  await systemClock.sleep(CALM_MS);
  return kib(`/proc/${vm.pid}/smaps_rollup`, 'Private_Dirty') / 1024 - FILLED_MIB;
}

try {
  const cold = await openQemu({ ...config, stateDir: join(dir, 'cold'), start: 'cold' });
  const coldMs: number[] = [];
  for (let n = 0; n < COLD_RUNS; n++) await stopVm(await startVm(cold, `cold-${n}`, coldMs));

  const vmm = await openQemu({ ...config, stateDir: join(dir, 'state') });
  const templateMs: number[] = [];
  const restoreMs: number[] = [];
  const podMs: number[] = [];
  const execMs: number[] = [];
  await stopVm(await startVm(vmm, 'first', templateMs));
  for (let n = 0; n < runs; n++) await stopVm(await startVm(vmm, `restored-${n}`, restoreMs));

  const alike: Vm[] = [];
  const begun = performance.now();
  for (let n = 0; n < ALIKE; n++) {
    await timed(podMs, async () => {
      const vm = await startVm(vmm, `alike-${n}`, []);
      alike.push(vm);
      await startPod(vm, ground);
    });
  }
  const tenMs = performance.now() - begun;
  const startedMb = mean(alike.map(({ pid }) => pssMb(pid)));
  await systemClock.sleep(CALM_MS);
  const pss = alike.map(({ pid }) => pssMb(pid));
  const used = alike.map(({ pid }) => cpuMs(pid));
  await systemClock.sleep(IDLE_MS);
  const idleShare = mean(alike.map(({ pid }, at) => cpuMs(pid) - (used[at] ?? 0))) / IDLE_MS;
  const [vm] = alike;
  if (!vm) throw new Error('no VM runs');
  for (let n = 0; n < EXECS; n++)
    await timed(execMs, async () => readAll(await vm.guest.exec('main', guestProcess(['true']))));

  const beyondMib = await fill(await startVm(vmm, 'filled', [], { memoryMib: 512 }));

  const { kind, reason } = vmm.accelerator;
  console.log(`\n${vmm.name}, ${kind}: ${reason}`);
  const row = (what: string, values: number[]): string[] => [
    what,
    figure(median(values)),
    figure(quantile(values, 0.9)),
    String(values.length),
  ];
  printTable(
    `microVMs below the CRI (${kind}), milliseconds`,
    ['', 'p50', 'p90', 'runs'],
    [
      row('cold boot → agent answers', coldMs),
      row('first of its size: template made and restored', templateMs),
      row('restore → agent answers', restoreMs),
      row('restore, network, disk, container runs', podMs),
      row('exec of `true`, to its exit code', execMs),
    ],
  );
  printTable(
    `memory of ${ALIKE} alike with a sleeping container each, MB`,
    ['', 'PSS'],
    [
      ['each, when all have started', figure(startedMb)],
      [`each, ${CALM_MS / 1000} s later`, figure(mean(pss))],
      ['of its own beyond what a container fills', figure(beyondMib)],
      ['this process, RSS', figure(process.memoryUsage().rss / 1024 ** 2)],
    ],
  );
  console.log(`\nIdle, each takes ${(100 * idleShare).toFixed(1)} % of a core.`);
  console.log(`${ALIKE} one after another, all running after ${figure(tenMs)} ms`);
} finally {
  await Promise.all([...running].map(stopVm));
  stop.abort();
  ground.remove();
  rmSync(dir, { recursive: true, force: true });
}
