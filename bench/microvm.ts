/** MicroVMs below the CRI: the floor under what a pod in one costs. `node bench/microvm.ts [runs]`. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '#base/log.ts';
import type { Vm, Vmm } from '#node-agent/runtime/microvm/machine.ts';
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

async function startVm(vmm: Vmm, id: string, into: number[]): Promise<Vm> {
  const vm = await timed(into, () => vmm.start(ground.spec(id), { signal }));
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
  const pss = alike.map(({ pid }) => pssMb(pid));
  const [vm] = alike;
  if (!vm) throw new Error('no VM runs');
  for (let n = 0; n < EXECS; n++)
    await timed(execMs, async () => readAll(await vm.guest.exec('main', guestProcess(['true']))));

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
      ['each, mean', figure(pss.reduce((sum, mb) => sum + mb, 0) / pss.length)],
      ['all', figure(pss.reduce((sum, mb) => sum + mb, 0))],
      ['this process, RSS', figure(process.memoryUsage().rss / 1024 ** 2)],
    ],
  );
  console.log(`\n${ALIKE} one after another, all running after ${figure(tenMs)} ms`);
} finally {
  await Promise.all([...running].map(stopVm));
  stop.abort();
  ground.remove();
  rmSync(dir, { recursive: true, force: true });
}
