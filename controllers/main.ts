import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { Command } from 'commander';
import { createLog, errorText } from '#base/log.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { defaultControllersConfig } from '#controllers/definition.ts';
import { start } from '#controllers/start.ts';

type Flags = {
  kubeconfig: string;
  leaderElect: boolean;
  controllers: string;
  clusterCidr: string;
  serviceClusterIpRange: string;
  rootCaFile?: string;
};

/** `gantry controller-manager`: all controllers, in the foreground. */
export async function main(args: string[]): Promise<void> {
  const flags = readFlags(args);
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => stop.abort(new Error(`received ${name}`)));
  }
  const log = createLog({ component: 'controllers' });
  const connection = loadKubeconfig(flags.kubeconfig);
  const transport = httpsTransport(connection);
  const rootCa = flags.rootCaFile ? readFileSync(flags.rootCaFile, 'utf8') : connection.ca;
  try {
    const running = start(
      {
        api: createApi(transport, { userAgent: 'kube-controller-manager' }),
        controllers: flags.controllers.split(','),
        clusterCidr: flags.clusterCidr,
        serviceClusterIpRange: flags.serviceClusterIpRange,
        rootCa: rootCa ?? '',
        ...(flags.leaderElect
          ? { leaderElection: { identity: `${hostname()}_${process.pid}` } }
          : {}),
      },
      { signal: stop.signal, log },
    );
    log.info('controllers started');
    await running.done;
  } catch (error) {
    log.error('the controllers ended', { error: errorText(error) });
    process.exitCode = 1;
  } finally {
    await transport.close();
  }
}

function readFlags(args: string[]): Flags {
  const { clusterCidr, serviceClusterIpRange } = defaultControllersConfig;
  return new Command('gantry controller-manager')
    .description('Moves the cluster towards what its objects ask for.')
    .requiredOption('--kubeconfig <file>', 'how to reach the API server')
    .option('--leader-elect', 'work only while holding the Lease in kube-system', false)
    .option('--controllers <names>', "comma-separated; '*' is all, '-name' leaves one out", '*')
    .option('--cluster-cidr <range>', 'range of pod addresses, a /24 per node', clusterCidr)
    .option('--service-cluster-ip-range <range>', 'range of service IPs', serviceClusterIpRange)
    .option('--root-ca-file <file>', "CA for pods; by default the kubeconfig's")
    .parse(args, { from: 'user' })
    .opts<Flags>();
}

if (import.meta.main) await main(process.argv.slice(2));
