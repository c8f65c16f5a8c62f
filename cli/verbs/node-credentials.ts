import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { systemClock } from '#base/clock.ts';
import { dataDirOf } from '#cli/data-dir.ts';
import { UserError, type Verb } from '#cli/verb.ts';

type Flags = { dataDir?: string; nodeIp: string; server: string };

export const nodeCredentials: Verb = {
  name: 'node-credentials',
  summary: "issue a node's kubeconfig and certificate, and print the node-agent's flags for them",
  configure(command: Command) {
    command
      .argument('<name>', "the node's name")
      .requiredOption('--node-ip <ip>', "the node's address")
      .requiredOption('--server <url>', 'the API server as the node reaches it')
      .option('--data-dir <dir>', 'data directory of the API server, which holds the authority')
      .action((name: string, flags: Flags) => run(name, flags));
  },
};

async function run(name: string, flags: Flags): Promise<void> {
  const dataDir = dataDirOf(flags.dataDir, process.env);
  if (!existsSync(join(dataDir, 'pki'))) {
    throw new UserError(`${dataDir} holds no authority; start the API server with it first`);
  }
  const { issueNodeCredentials } = await import('#apiserver/kubeconfig.ts');
  const issued = await issueNodeCredentials(dataDir, {
    nodeName: name,
    ips: [flags.nodeIp, '127.0.0.1'],
    server: flags.server,
    clock: systemClock,
  });
  console.log(
    [
      ...['--node-name', name, '--node-ip', flags.nodeIp, '--kubeconfig', issued.kubeconfig],
      ...['--tls-cert-file', issued.certFile, '--tls-private-key-file', issued.keyFile],
      ...['--client-ca-file', issued.clientCaFile],
    ].join(' '),
  );
}
