import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { eventually } from '#base/testing.ts';
import type { RuntimeClient } from '#node-agent/runtime/containerd.ts';
import {
  missingForTestMicrovms,
  startTestMicrovmRuntime,
} from '#node-agent/runtime/microvm/testing.ts';
import { missingForTestRuntime, startTestRuntime, TEST_IMAGE } from '#node-agent/testing.ts';
import { startBarePod } from '#bench/bare-pod.ts';
import { figure, median, printTable, quantile } from '#bench/machine.ts';

/**
 * The same pods as containers and as microVMs through the same CRI calls: sandbox, container and
 * start one after another and ten at once, an exec, and the memory of ten idle ones.
 */
const ROUNDS = Number(process.argv[2] ?? 8);
const AT_ONCE = 10;
/** After that long without work a VM has given back what only its start needed. */
const CALM_MS = 20_000;
/** What the runtime logs. */
const WAITS = 'a microVM waits for a pod';
const script = 'trap "exit 0" TERM; sleep 100000 & wait';

type Figures = {
  one: number[];
  many: number[];
  manyAll: number;
  exec: number[];
  startedMib: number;
  calmMib: number;
};

async function measure(
  runtime: RuntimeClient,
  dir: string,
  processes: () => number[],
): Promise<Figures> {
  await runtime.pullImage(TEST_IMAGE, undefined);
  const pod = (name: string): Promise<number> => startPod(runtime, dir, name);
  const clear = async (): Promise<void> => {
    const all = await runtime.listPodSandboxes();
    await Promise.all(
      all.map(async ({ id }) => {
        await runtime.stopPodSandbox(id);
        await runtime.removePodSandbox(id);
      }),
    );
  };
  await pod('warm'); // images unpacked, templates made, programs read
  await clear();
  const one: number[] = [];
  for (let round = 0; round < ROUNDS; round++) one.push(await pod(`one-${round}`));
  const exec: number[] = [];
  const [container] = await runtime.listContainers();
  for (let round = 0; round < ROUNDS * 2; round++) {
    const begun = performance.now();
    await runtime.execSync(container?.id ?? '', ['true'], 10_000);
    exec.push(performance.now() - begun);
  }
  await clear();
  const before = pssMib(processes());
  const begun = performance.now();
  const many = await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => pod(`many-${i}`)));
  const manyAll = performance.now() - begun;
  const startedMib = (pssMib(processes()) - before) / AT_ONCE;
  await systemClock.sleep(CALM_MS);
  const calmMib = (pssMib(processes()) - before) / AT_ONCE;
  await clear();
  return { one, many, manyAll, exec, startedMib, calmMib };
}

/** Shared pages are counted by share, so that the sum is what the pods really cost. */
function pssMib(pids: readonly number[]): number {
  const kib = pids.map((pid) => {
    try {
      return Number(
        /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0,
      );
    } catch {
      return 0; // it has just ended
    }
  });
  return kib.reduce((sum, value) => sum + value, 0) / 1024;
}

/** Processes whose command line names something. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    });
}

/** Starts that find a VM waiting: every round begins when one does. */
async function measureWaiting(): Promise<number[]> {
  let waiting = 0;
  const debug = (message: string): void => void (message === WAITS && waiting++);
  const runtime = await startTestMicrovmRuntime({
    log: { ...silentLog, debug, child: () => ({ ...silentLog, debug }) },
    warmPoolSize: 1,
    headroom: () => ({ idleShare: 1, freeMib: 100_000 }),
  });
  try {
    await runtime.client.pullImage(TEST_IMAGE, undefined);
    await startPod(runtime.client, runtime.dir, 'warm');
    const times: number[] = [];
    while (times.length < ROUNDS) {
      await eventually('a VM waits', async () => waiting > times.length);
      times.push(await startPod(runtime.client, runtime.dir, `waited-${times.length}`));
    }
    return times;
  } finally {
    await runtime.close();
  }
}

const startPod = (runtime: RuntimeClient, dir: string, name: string): Promise<number> =>
  startBarePod(runtime, {
    ...{ name, image: TEST_IMAGE, command: ['sh', '-c', script] },
    ...{ logDir: join(dir, 'bare'), keep: true },
  });

const missing = missingForTestRuntime() ?? missingForTestMicrovms();
if (missing !== undefined) {
  console.error(`cannot measure: ${missing}`);
} else {
  const containerd = await startTestRuntime('B');
  let containers: Figures;
  try {
    containers = await measure(containerd.client, containerd.dir, () =>
      processesWith(containerd.endpoint.replace('unix://', '')),
    );
  } finally {
    await containerd.close();
  }
  const runtime = await startTestMicrovmRuntime();
  let microvms: Figures;
  let rssMib: number;
  const { kind, reason } = runtime.vmm.accelerator;
  try {
    const pids = (): number[] => [...runtime.vms.values()].map(({ pid }) => pid);
    microvms = await measure(runtime.client, runtime.dir, pids);
    rssMib = process.memoryUsage.rss() / 1024 / 1024;
  } finally {
    await runtime.close();
  }
  const waited = await measureWaiting();
  const row = (what: string, pick: (figures: Figures) => string): string[] => [
    what,
    pick(containers),
    pick(microvms),
  ];
  const ms = (values: readonly number[], share: number): string =>
    `${figure(quantile(values, share))} ms`;
  printTable(
    `The same pod as container and as microVM (${kind}: ${reason})`,
    ['what', 'container', 'microVM'],
    [
      row('sandbox, create, start: p50', ({ one }) => `${figure(median(one))} ms`),
      row('sandbox, create, start: p90', ({ one }) => ms(one, 0.9)),
      ['the same with a VM that waited: p50', '', `${figure(median(waited))} ms`],
      row(`${AT_ONCE} at once: p50`, ({ many }) => ms(many, 0.5)),
      row(`${AT_ONCE} at once: all`, ({ manyAll }) => `${figure(manyAll)} ms`),
      row('exec: p50', ({ exec }) => `${figure(median(exec))} ms`),
      row('memory of a pod that has just started (PSS), MiB', (all) => figure(all.startedMib)),
      row(`memory of a pod, ${CALM_MS / 1000} s idle (PSS), MiB`, (all) => figure(all.calmMib)),
    ],
  );
  console.log(`The runtime's process (with the bench in it): ${figure(rssMib)} MiB.`);
  process.exit(0); // streams of guests would keep the process alive
}
