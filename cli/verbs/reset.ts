import type { Command } from 'commander';
import { dataDirOf, joinedNode } from '#cli/data-dir.ts';
import { UserError, type Verb } from '#cli/verb.ts';
import { stopMachine } from '#cli/verbs/down.ts';

export const reset: Verb = {
  name: 'reset',
  summary: 'take this machine out of the cluster it has joined, and forget everything of it',
  configure(command: Command) {
    command
      .option('--data-dir <dir>', 'where everything is kept')
      .action((flags: { dataDir?: string }) => run(dataDirOf(flags.dataDir, process.env)));
  },
};

async function run(dataDir: string): Promise<void> {
  const joined = joinedNode(dataDir);
  if (!joined) {
    throw new UserError(
      `${dataDir} is not of a node that has joined a cluster; to remove a cluster that runs ` +
        'here, use "gantry down --remove-data"',
    );
  }
  await stopMachine(dataDir, { removeData: true });
  console.log(`Its Node object stays; remove it with: kubectl delete node ${joined.nodeName}`);
}
