/**
 * What the microVM runtime's own process takes, started as a node agent starts it, with ten pods
 * running: resident memory, and CPU when nothing happens. `node bench/microvm-runtime.ts [pods]`.
 */
import { join } from 'node:path';
import { connectContainerd } from '#node-agent/runtime/containerd.ts';
import { listProcesses } from '#node-agent/runtime/containerd-processes.ts';
import { ensureMicrovmRuntime, stopMicrovmRuntime } from '#node-agent/runtime/microvm/daemon.ts';
import { makeTestGround, missingForTestMicrovms } from '#node-agent/runtime/microvm/testing.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';
import { run } from '#e2e/processes.ts';
import { startBarePod } from '#bench/bare-pod.ts';
import { cpuPercent, figure, printTable, residentMib } from '#bench/machine.ts';

const PODS = Number(process.argv[2] ?? 10);
const SETTLE_MS = 5_000;
const IDLE_SECONDS = 15;
const script = 'trap "exit 0" TERM; while :; do sleep 1; done';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
    const before = residentMib(process.pid);
    await runtime.pullImage(TEST_IMAGE, undefined);
    const pod = { image: TEST_IMAGE, command: ['sh', '-c', script], logDir: join(dir, 'bare') };
    await Promise.all(
      Array.from({ length: PODS }, (_, i) =>
        startBarePod(runtime, { ...pod, name: `many-${i}`, keep: true }),
      ),
    );
    await wait(SETTLE_MS);
    const cpu = await cpuPercent(process.pid, IDLE_SECONDS);
    printTable(
      `The microVM runtime's process with ${PODS} pods`,
      ['what', 'got', 'asked'],
      [
        ['resident memory, no pod yet', `${figure(before)} MiB`, ''],
        ['resident memory', `${figure(residentMib(process.pid))} MiB`, '80 MiB'],
        ['CPU when nothing happens', `${cpu.toFixed(2)} %`, ''],
      ],
    );
    runtime.close();
  } finally {
    await stopMicrovmRuntime(config.dir, { revive: () => ensureMicrovmRuntime(options) });
    await ground.remove();
  }
}
