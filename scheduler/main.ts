import { hostname } from 'node:os';
import { Command } from 'commander';
import { createLog, errorText } from '#base/log.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { start } from '#scheduler/start.ts';

type Flags = { kubeconfig: string; leaderElect: boolean; profile: string; schedulerName: string };

/** `gantry scheduler`: the scheduler alone, in the foreground. */
export async function main(args: string[]): Promise<void> {
  const { kubeconfig, leaderElect, profile, schedulerName } = new Command('gantry scheduler')
    .description('Gives every pod a node.')
    .requiredOption('--kubeconfig <file>', 'how to reach the API server')
    .option('--leader-elect', 'work only while holding the Lease kube-system/kube-scheduler', false)
    .option('--profile <name>', 'pack (fill nodes) or spread', 'pack')
    .option('--scheduler-name <name>', 'serve pods with this schedulerName', 'default-scheduler')
    .parse(args, { from: 'user' })
    .opts<Flags>();
  if (profile !== 'pack' && profile !== 'spread') {
    console.error(`gantry scheduler: --profile is pack or spread, not "${profile}"`);
    process.exitCode = 2;
    return;
  }
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => stop.abort(new Error(`received ${name}`)));
  }
  const log = createLog({ component: 'scheduler' });
  const transport = httpsTransport(loadKubeconfig(kubeconfig));
  const running = start(
    {
      api: createApi(transport, { userAgent: 'kube-scheduler' }),
      profile,
      schedulerName,
      ...(leaderElect ? { leaderElection: { identity: `${hostname()}_${process.pid}` } } : {}),
    },
    { signal: stop.signal, log },
  );
  log.info('scheduling', { profile, schedulerName });
  try {
    await running.done;
  } catch (error) {
    log.error('the scheduler ended', { error: errorText(error) });
    process.exitCode = 1;
  } finally {
    await transport.close();
  }
}

if (import.meta.main) await main(process.argv.slice(2));
