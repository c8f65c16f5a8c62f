import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientFlags, clientFlags, withClient } from '#cli/context.ts';

type Flags = ClientFlags & { container?: string; stdin?: boolean; tty?: boolean };

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
        withClient(flags, async ({ kubeconfig, api, namespace }) => {
          const name = word.replace(/^pods?\//, '');
          const { pods } = await import('#client/resources.ts');
          const pod = await api.get(pods, { namespace, name });
          const container = flags.container ?? pod.spec.containers[0]?.name ?? '';
          const client = await import('@kubernetes/client-node');
          const config = new client.KubeConfig();
          config.loadFromFile(kubeconfig);
          const tty = flags.tty === true;
          if (tty && process.stdin.isTTY) process.stdin.setRawMode(true);
          process.exitCode = await new Promise<number>((resolve, reject) => {
            new client.Exec(config)
              .exec(
                namespace,
                name,
                container,
                words,
                process.stdout,
                tty ? null : process.stderr,
                flags.stdin ? process.stdin : null,
                tty,
                (status) => resolve(exitCode(status)),
              )
              .then(
                (socket) => socket.on('close', () => setImmediate(() => resolve(0))),
                (error: unknown) => reject(new UserError(`exec failed: ${reasonOf(error)}`)),
              );
          });
          if (process.stdin.isTTY) process.stdin.setRawMode(false);
          process.stdin.unref();
        }),
      );
  },
};

type ExecStatus = {
  status?: string;
  message?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
};

function exitCode(status: ExecStatus): number {
  if (status.status === 'Success') return 0;
  const code = status.details?.causes?.find((c) => c.reason === 'ExitCode')?.message;
  if (code !== undefined) return Number(code);
  console.error(status.message ?? 'exec failed');
  return 1;
}

const reasonOf = (error: unknown): string =>
  error instanceof Error
    ? error.message
    : String((error as { message?: unknown } | null)?.message ?? error);
