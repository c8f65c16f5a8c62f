import type { Verb } from '#cli/verb.ts';
import { UserError } from '#cli/verb.ts';
import { type ClientFlags, clientFlags, withClient } from '#cli/context.ts';
import { httpsTransport } from '#client/https-transport.ts';

type Flags = ClientFlags & {
  container?: string;
  follow?: boolean;
  previous?: boolean;
  timestamps?: boolean;
  tail?: string;
  since?: string;
};

export const logs: Verb = {
  name: 'logs',
  summary: "print a container's output",
  configure(command) {
    clientFlags(command)
      .argument('<pod>', 'NAME or pod/NAME')
      .option('-c, --container <name>', 'which container')
      .option('-f, --follow', 'go on as it is written')
      .option('-p, --previous', 'of the container before its last restart')
      .option('--timestamps', 'with times')
      .option('--tail <lines>', 'only the last lines')
      .option('--since <duration>', 'not older than, for example 10s, 5m, 2h')
      .action((word: string, flags: Flags) =>
        withClient(flags, async ({ connection, namespace }) => {
          const pod = word.replace(/^pods?\//, '');
          const path = `/api/v1/namespaces/${namespace}/pods/${pod}/log?${logQuery(flags)}`;
          const transport = httpsTransport(connection);
          try {
            const answer = await transport.request({ method: 'GET', path });
            const chunks: Uint8Array[] = [];
            for await (const chunk of answer.body) {
              if (answer.status === 200) process.stdout.write(chunk);
              else chunks.push(chunk);
            }
            if (answer.status !== 200) throw new UserError(messageOf(Buffer.concat(chunks)));
          } finally {
            await transport.close();
          }
        }),
      );
  },
};

function logQuery(flags: Flags): URLSearchParams {
  const query = new URLSearchParams();
  if (flags.container) query.set('container', flags.container);
  if (flags.follow) query.set('follow', 'true');
  if (flags.previous) query.set('previous', 'true');
  if (flags.timestamps) query.set('timestamps', 'true');
  if (flags.tail) query.set('tailLines', flags.tail);
  if (flags.since) query.set('sinceSeconds', String(durationSeconds(flags.since)));
  return query;
}

function messageOf(body: Buffer): string {
  try {
    return (JSON.parse(body.toString()) as { message?: string }).message ?? body.toString();
  } catch {
    // Not a Status: the text itself is the message.
    return body.toString();
  }
}

/** `90`, `90s`, `5m`, `2h` in seconds. */
export function durationSeconds(text: string): number {
  const match = /^(\d+)(s|m|h)?$/.exec(text);
  if (!match) throw new UserError(`"${text}" is no duration; write 30s, 5m or 2h`);
  const unit = { s: 1, m: 60, h: 3600 }[(match[2] ?? 's') as 's' | 'm' | 'h'];
  return Number(match[1]) * unit;
}
