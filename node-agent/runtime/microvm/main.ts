import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { createLog, errorText } from '#base/log.ts';
import { detectHost } from '#node-agent/runtime/containerd-config.ts';
import { buildGuest } from './guest/build.ts';
import { start } from './start.ts';
import { openQemu } from './vmm/qemu.ts';

type Flags = {
  rootDir: string;
  cacheDir?: string;
  stateDir: string;
  socket: string;
  certsDir?: string;
  cniConfDir: string;
  cniBinDir?: string;
  warmPoolSize: string;
  prepare?: boolean;
  v: string;
};

/** Runs `gantry microvm-runtime` with these arguments until SIGTERM or SIGINT; VMs run on. */
export async function main(args: readonly string[]): Promise<void> {
  const command = new Command('microvm-runtime')
    .description('a CRI runtime whose pods are microVMs')
    .requiredOption('--root-dir <dir>', 'images and records of pods')
    .option('--cache-dir <dir>', "the guest's kernel and templates; default: below --root-dir")
    .option('--state-dir <dir>', "VMs' folders; a short path", '/run/gantry-microvm/vms')
    .option('--socket <path>', 'the CRI socket', '/run/gantry-microvm/cri.sock')
    .option('--certs-dir <dir>', '<host>/hosts.toml: where images are pulled from')
    .option('--cni-conf-dir <dir>', 'CNI configuration of pods', '/etc/cni/net.d')
    .option('--cni-bin-dir <dir>', 'CNI plugins')
    .option('--build <id>', 'whose code this is, for whoever looks after it')
    .option('--warm-pool-size <n>', 'VMs that wait for pods, made when the machine is idle', '2')
    .option('--prepare', 'build the guest and end')
    .option('-v, --v <level>', 'verbosity: 0 or 4', '0');
  command.parse(args, { from: 'user' });
  const flags = command.opts<Flags>();
  const log = createLog({
    component: 'microvm-runtime',
    level: Number(flags.v) >= 4 ? 'debug' : 'info',
  });
  const cacheDir = flags.cacheDir ?? join(flags.rootDir, 'guest');
  if (flags.prepare) {
    await buildGuest(cacheDir);
    return;
  }
  await prepareApart(cacheDir);
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.once(name, () => stop.abort(new Error(`received ${name}`)));
  try {
    const running = await start(
      {
        dir: flags.rootDir,
        socket: flags.socket,
        certsDir: flags.certsDir ?? join(flags.rootDir, 'certs.d'),
        cniConfDir: flags.cniConfDir,
        cniBinDir: flags.cniBinDir ?? detectHost().cniBinDir ?? '/opt/cni/bin',
        openVmm: () =>
          openQemu({
            stateDir: flags.stateDir,
            cacheDir,
            warmPoolSize: poolSize(flags.warmPoolSize),
            log: log.child('vmm'),
            signal: stop.signal,
          }),
      },
      { signal: stop.signal, log },
    );
    await running.done;
    // Streams of guests would keep the process alive; their VMs go on without it.
    process.exit(0);
  } catch (error) {
    if (stop.signal.aborted) process.exit(0);
    log.error('the microVM runtime ended', { error: errorText(error) });
    process.exit(1);
  }
}

/** Memory is what a waiting VM costs; more than a few would cost the pods theirs. */
const MAX_POOL_SIZE = 16;

function poolSize(text: string): number {
  const size = Number(text);
  if (Number.isInteger(size) && size >= 0 && size <= MAX_POOL_SIZE) return size;
  throw new Error(`--warm-pool-size ${text}: give a whole number from 0 to ${MAX_POOL_SIZE}`);
}

/**
 * Builds a guest that is not there yet in a process of its own: unpacking a kernel takes memory that
 * this one, which lives long, would keep. A failure is told by the start, which meets the same.
 */
async function prepareApart(cacheDir: string): Promise<void> {
  if (existsSync(cacheDir) && readdirSync(cacheDir).length > 0) return;
  const args = [...process.execArgv, ...process.argv.slice(1), '--prepare'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  await once(child, 'exit');
}
