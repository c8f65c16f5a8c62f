import { existsSync, rmSync } from 'node:fs';
import type { Command } from 'commander';
import { systemClock } from '#base/clock.ts';
import { agentRecords, dataDirOf, readRecord, readSettings, removeRecord } from '#cli/data-dir.ts';
import { networkHolder } from '#cli/network-claim.ts';
import { endProcess } from '#cli/process.ts';
import { stopService } from '#cli/node-service.ts';
import { UserError, type Verb } from '#cli/verb.ts';

type Flags = { dataDir?: string; removeData?: boolean };

/** Components drain and exit within 10 s of SIGTERM; a little more before SIGKILL. */
const GRACE_MS = 12_000;

export const down: Verb = {
  name: 'down',
  summary: 'stop the cluster of this machine: nothing stays running or mounted, data stays',
  configure(command: Command) {
    command
      .option('--data-dir <dir>', 'where everything is kept')
      .option('--remove-data', 'delete the data directory too')
      .action(({ dataDir, ...flags }: Flags) =>
        stopMachine(dataDirOf(dataDir, process.env), flags),
      );
  },
};

/** Ends whatever of a data directory runs on this machine: a cluster, or a node that has joined one. */
export async function stopMachine(dataDir: string, flags: { removeData?: boolean }): Promise<void> {
  if (!existsSync(dataDir)) {
    console.log(`Nothing to stop: ${dataDir} does not exist.`);
    return;
  }
  if (process.getuid?.() !== 0)
    throw new UserError('stopping a node needs root: run as root or with sudo');
  // Before anything else, or systemd would start the agent again.
  if (await stopService(dataDir, { remove: flags.removeData ?? false }))
    console.log('Stopped the service of this node.');
  const record = readRecord(dataDir);
  if (record) {
    const how = await endProcess(record, GRACE_MS, systemClock);
    console.log(
      how === 'gone' ? 'No cluster process was running.' : `Cluster process ${record.pid} ${how}.`,
    );
    removeRecord(dataDir);
  }
  const { networkName } = readSettings(dataDir) ?? {};
  if (agentRecords(dataDir).length > 0) {
    // They outlive a cluster process that was killed.
    const { endAgents } = await import('#cli/further-nodes.ts');
    await endAgents(dataDir);
  }
  const { clearNode } = await import('#node-agent/start.ts');
  const settings = networkName === undefined ? {} : { networkName };
  for (const line of await clearNode(dataDir, settings)) console.log(line);
  if (networkName !== undefined && !networkHolder(networkName, dataDir)) {
    const { closeNodeSpaces } = await import('#cli/node-spaces.ts');
    const count = await closeNodeSpaces(networkName);
    if (count > 0) console.log(`Removed the network namespaces of ${count} nodes.`);
  }
  if (flags.removeData) {
    rmSync(dataDir, { recursive: true, force: true });
    console.log(`Removed ${dataDir}.`);
  } else {
    console.log(`Stopped. Data stays in ${dataDir}.`);
  }
}
