import type { Command } from 'commander';
import { existsSync } from 'node:fs';
import { errorText } from '#base/log.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { nodes, pods } from '#client/resources.ts';
import type { Api } from '#client/api.ts';
import { dataDirOf, paths, readRecord } from '#cli/data-dir.ts';
import { formatRows } from '#cli/output.ts';
import { isSameProcess } from '#cli/process.ts';
import type { Verb } from '#cli/verb.ts';

export const status: Verb = {
  name: 'status',
  summary: 'say what of the cluster runs on this machine, and how it is',
  configure(command: Command) {
    command
      .option('--data-dir <dir>', 'where everything is kept')
      .action((flags: { dataDir?: string }) => run(dataDirOf(flags.dataDir, process.env)));
  },
};

/** Exit code 0 = running and Ready, 1 = running with trouble, 3 = not running (as service scripts say). */
async function run(dataDir: string): Promise<void> {
  const record = readRecord(dataDir);
  const kubeconfig = paths(dataDir).adminKubeconfig;
  if (!record || !isSameProcess(record) || !existsSync(kubeconfig)) {
    console.log(`Not running (data directory ${dataDir}). Start it with: gantry up`);
    process.exitCode = 3;
    return;
  }
  const rows = [
    ['Cluster', `running since ${record.startedAt} (process ${record.pid})`],
    ['API server', record.server],
    ['Kubeconfig', kubeconfig],
  ];
  const transport = httpsTransport(loadKubeconfig(kubeconfig));
  try {
    rows.push(...(await health(createApi(transport, { userAgent: 'gantry' }))));
  } catch (error) {
    rows.push(['Health', `the API server does not answer: ${errorText(error)}`]);
    process.exitCode = 1;
  } finally {
    await transport.close();
  }
  process.stdout.write(formatRows(rows));
}

async function health(api: Api): Promise<string[][]> {
  const signal = AbortSignal.timeout(5_000);
  const [nodeList, podList] = await Promise.all([
    api.list(nodes, { signal }),
    api.list(pods, { signal }),
  ]);
  const rows = nodeList.items.flatMap((node) => {
    const ready = node.status?.conditions?.find((c) => c.type === 'Ready');
    const runtime = node.status?.nodeInfo?.containerRuntimeVersion ?? 'runtime unknown';
    if (ready?.status !== 'True') process.exitCode = 1;
    const state =
      ready?.status === 'True' ? 'Ready' : `not Ready: ${ready?.message ?? 'no word yet'}`;
    return [
      ['Node', `${node.metadata.name}: ${state} (${runtime})`],
      ...microvmRow(node.status?.conditions?.find((c) => c.type === 'MicroVMReady')),
    ];
  });
  if (rows.length === 0) process.exitCode = 1;
  const phases = new Map<string, number>();
  for (const pod of podList.items) {
    const phase = pod.status?.phase ?? 'Unknown';
    phases.set(phase, (phases.get(phase) ?? 0) + 1);
  }
  const text = [...phases].map(([phase, count]) => `${count} ${phase}`).join(', ') || 'none';
  return [...(rows.length ? rows : [['Node', 'none has registered']]), ['Pods', text]];
}

function microvmRow(
  condition: { status: string; message?: string | undefined } | undefined,
): string[][] {
  if (!condition) return [];
  const { status, message = '' } = condition;
  return [['MicroVMs', status === 'True' ? message : `not here: ${message}`]];
}
