import { PassThrough, type Readable, type Writable } from 'node:stream';
import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientContext, type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { pods } from '#client/resources.ts';

type Flags = ClientFlags & { container?: string; stdin?: boolean; tty?: boolean };

/** The stream protocol that can say that the input has ended; servers speak it from 1.30 on. */
const CAN_END_INPUT = 'v5.channel.k8s.io';
/**
 * The older one cannot. There the connection is closed when the input has ended and the command has
 * been silent for this long.
 */
const QUIET_MS = 500;

export const exec: Verb = {
  name: 'exec',
  summary: 'run a command in a container',
  configure(command) {
    clientFlags(command)
      .argument('<pod>', 'NAME or pod/NAME')
      .argument('<command...>', 'after --: the command and its arguments')
      .option('-c, --container <name>', 'which container')
      .option('-i, --stdin', 'pass standard input')
      .option('-t, --tty', 'with a terminal')
      .action((word: string, words: string[], flags: Flags) =>
        withClient(flags, (context) => run(context, word, words, flags)),
      );
  },
};

async function run(
  { kubeconfig, api, namespace }: ClientContext,
  word: string,
  command: string[],
  flags: Flags,
): Promise<void> {
  const name = word.replace(/^pods?\//, '');
  const pod = await api.get(pods, { namespace, name });
  const preferred = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  const container = flags.container ?? preferred ?? pod.spec.containers[0]?.name ?? '';
  const client = await import('@kubernetes/client-node');
  const config = new client.KubeConfig();
  config.loadFromFile(kubeconfig);
  const tty = flags.tty === true;
  if (tty && process.stdin.isTTY) process.stdin.setRawMode(true);
  const output = { lastAt: Date.now() };
  const connected = Promise.withResolvers<string>();
  const input = flags.stdin ? inputOf(process.stdin, output, connected.promise) : null;
  const { promise: exited, resolve } = Promise.withResolvers<number>();
  try {
    const socket = await new client.Exec(config).exec(
      namespace,
      name,
      container,
      command,
      noted(process.stdout, output),
      tty ? null : noted(process.stderr, output),
      input,
      tty,
      (status) => resolve(exitCode(status)),
    );
    connected.resolve(socket.protocol);
    // The status comes before the close; a connection that ends without one ended with our input.
    socket.on('close', () => setImmediate(() => resolve(0)));
  } catch (error) {
    throw new UserError(`exec failed: ${reasonOf(error)}`, { cause: error });
  }
  process.exitCode = await exited;
  if (process.stdin.isTTY) process.stdin.setRawMode(false);
  // A pipe or terminal that stays open must not keep this process.
  process.stdin.destroy();
}

/** Passes input on, and its end: at once where the protocol can say so, else after a silence. */
function inputOf(
  stdin: Readable,
  output: { lastAt: number },
  connected: Promise<string>,
): PassThrough {
  const passed = new PassThrough();
  stdin.on('data', (chunk: Buffer) => passed.write(chunk));
  const end = (protocol: string): void => {
    if (protocol === CAN_END_INPUT) {
      passed.end();
      return;
    }
    output.lastAt = Date.now();
    const timer = setInterval(() => {
      if (Date.now() - output.lastAt < QUIET_MS) return;
      clearInterval(timer);
      passed.end();
    }, QUIET_MS / 5);
  };
  stdin.once('end', () => void connected.then(end));
  return passed;
}

/** The stream, with the time of its last write noted. */
function noted(stream: Writable, output: { lastAt: number }): Writable {
  const passed = new PassThrough();
  passed.on('data', (chunk: Buffer) => {
    output.lastAt = Date.now();
    stream.write(chunk);
  });
  return passed;
}

type ExecStatus = {
  status?: string;
  message?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
};

function exitCode(status: ExecStatus): number {
  if (status.status === 'Success') return 0;
  const code = status.details?.causes?.find((c) => c.reason === 'ExitCode')?.message;
  if (code !== undefined) return Number(code);
  console.error(`error: ${status.message ?? 'the command could not be run'}`);
  return 1;
}

const reasonOf = (error: unknown): string =>
  error instanceof Error
    ? error.message
    : String((error as { message?: unknown } | null)?.message ?? error);
