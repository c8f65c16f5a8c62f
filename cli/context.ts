import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import type { Api } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { type Connection, httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { dataDirOf, kubeconfigCandidates } from '#cli/data-dir.ts';
import { UserError } from '#cli/verb.ts';

/** What a client verb works with. */
export type ClientContext = {
  api: Api;
  connection: Connection;
  /** Path of the kubeconfig in use, for libraries that read it themselves. */
  kubeconfig: string;
  /** The namespace meant: flag, then the kubeconfig's, then `default`. */
  namespace: string;
};

export type ClientFlags = {
  kubeconfig?: string;
  context?: string;
  namespace?: string;
  dataDir?: string;
};

/** Flags that every client verb has. */
export function clientFlags(command: Command): Command {
  return command
    .option('--kubeconfig <file>', 'cluster and user to connect with')
    .option('--context <name>', 'context of the kubeconfig')
    .option('--data-dir <dir>', 'data directory of a local cluster')
    .option('-n, --namespace <name>', 'namespace');
}

/** Connects with the first kubeconfig there is; runs `use`; closes the connection. */
export async function withClient<Result>(
  flags: ClientFlags,
  use: (context: ClientContext) => Promise<Result>,
): Promise<Result> {
  const candidates = kubeconfigCandidates(
    flags.kubeconfig,
    process.env,
    dataDirOf(flags.dataDir, process.env),
  );
  const kubeconfig = candidates.find((file) => existsSync(file));
  if (kubeconfig === undefined) {
    throw new UserError(
      `no kubeconfig found (looked at ${candidates.join(', ')}). ` +
        'Start a cluster with "gantry up", or name one with --kubeconfig.',
    );
  }
  const connection = loadKubeconfig(
    kubeconfig,
    flags.context === undefined ? {} : { context: flags.context },
  );
  const transport = httpsTransport(connection);
  try {
    return await use({
      api: createApi(transport, { userAgent: 'gantry' }),
      connection,
      kubeconfig,
      namespace: flags.namespace ?? connection.namespace ?? 'default',
    });
  } finally {
    await transport.close();
  }
}
