/**
 * What the microVM runtime's own process takes, started as a node agent starts it, with ten pods
 * running: resident memory, and CPU when nothing happens. `node bench/microvm-runtime.ts [pods]`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectContainerd } from '#node-agent/runtime/containerd.ts';
import { listProcesses } from '#node-agent/runtime/containerd-processes.ts';
import { ensureMicrovmRuntime, stopMicrovmRuntime } from '#node-agent/runtime/microvm/daemon.ts';
import { makeTestGround, missingForTestMicrovms } from '#node-agent/runtime/microvm/testing.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';
import { run } from '#e2e/processes.ts';
import { startBarePod } from '#bench/bare-pod.ts';
import { figure, printTable } from '#bench/machine.ts';

const PODS = Number(process.argv[2] ?? 10);
const SETTLE_MS = 5_000;
const IDLE_SECONDS = 15;
const TICKS_PER_SECOND = 100;
const script = 'trap "exit 0" TERM; while :; do sleep 1; done';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function rssMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

const missing = missingForTestMicrovms();
if (missing !== undefined) {
  console.error(`cannot measure: ${missing}`);
} else {
  const ground = await makeTestGround();
  const { dir, config } = ground;
  const { signal } = new AbortController();
  const options = { ...config, cacheDir: join(dir, 'guest'), signal };
  try {
    // Compiled once, as on every machine after the first start: that compiler takes 25 MB with it.
    await run(join(import.meta.dirname, '../gantry'), ['microvm-runtime', '--help']);
    const { endpoint } = await ensureMicrovmRuntime(options);
    const process = listProcesses().find(
      ({ command }) => command.includes('microvm-runtime') && command.includes(config.dir),
    );
    if (!process) throw new Error('the microVM runtime does not run');
    const runtime = connectContainerd({ endpoint });
    const before = rssMib(process.pid);
    await runtime.pullImage(TEST_IMAGE, undefined);
    const pod = { image: TEST_IMAGE, command: ['sh', '-c', script], logDir: join(dir, 'bare') };
    await Promise.all(
      Array.from({ length: PODS }, (_, i) =>
        startBarePod(runtime, { ...pod, name: `many-${i}`, keep: true }),
      ),
    );
    await wait(SETTLE_MS);
    const ticks = cpuTicks(process.pid);
    await wait(IDLE_SECONDS * 1_000);
    const cpu = ((cpuTicks(process.pid) - ticks) / TICKS_PER_SECOND / IDLE_SECONDS) * 100;
    printTable(
      `The microVM runtime's process with ${PODS} pods`,
      ['what', 'got', 'asked'],
      [
        ['resident memory, no pod yet', `${figure(before)} MiB`, ''],
        ['resident memory', `${figure(rssMib(process.pid))} MiB`, '80 MiB'],
        ['CPU when nothing happens', `${cpu.toFixed(2)} %`, ''],
      ],
    );
    runtime.close();
  } finally {
    await stopMicrovmRuntime(config.dir, { revive: () => ensureMicrovmRuntime(options) });
    await ground.remove();
  }
}
