import { Command } from 'commander';
import { parseDuration } from '#api/time.ts';
import { createLog, errorText } from '#base/log.ts';
import { DEFAULT_NODE_PORT_RANGE } from '#apiserver/resource/service-allocator.ts';
import {
  DEFAULT_MAX_IN_FLIGHT,
  DEFAULT_MAX_MUTATING_IN_FLIGHT,
} from '#apiserver/fairness-start.ts';
import type { ApiServerConfig } from '#apiserver/start.ts';
import { DEFAULT_CLUSTER_DOMAIN, DEFAULT_SERVICE_RANGE, start } from '#apiserver/start.ts';

const list = (text: string): string[] => text.split(',').filter((part) => part !== '');

/** The flags; those that mean what a kube-apiserver flag means carry its name. */
export function apiServerCommand(): Command {
  return new Command('apiserver')
    .description('Serves the Kubernetes API on the embedded store or on etcd.')
    .option(
      '--data-dir <dir>',
      'store, certificates and kubeconfig files',
      process.env['GANTRY_DATA_DIR'] ?? '/var/lib/gantry',
    )
    .option('--secure-port <port>', 'HTTPS port', parsePort, 6443)
    .option('--bind-address <ip>', 'address to listen on', '0.0.0.0')
    .option('--advertise-address <ip>', 'address that others reach this server by')
    .option('--etcd-servers <urls>', 'comma-separated; default: the embedded store', list)
    .option('--etcd-cafile <file>', 'authority of the etcd servers')
    .option('--etcd-certfile <file>', 'client certificate for etcd')
    .option('--etcd-keyfile <file>', 'its key')
    .option('--token-auth-file <file>', 'static bearer tokens: token,user,uid,"group1,group2"')
    .option('--anonymous-auth <bool>', 'requests without credentials are system:anonymous', 'true')
    .option('--service-cluster-ip-range <cidr>', 'addresses of Services', DEFAULT_SERVICE_RANGE)
    .option(
      '--service-node-port-range <from-to>',
      'ports of NodePort services',
      DEFAULT_NODE_PORT_RANGE,
    )
    .option('--service-account-issuer <url>', 'issuer of service account tokens')
    .option(
      '--cluster-signing-duration <duration>',
      'longest life of signed requests',
      readDuration,
    )
    .option('--api-audiences <names>', 'audiences of tokens for this server', list)
    .option('--cluster-domain <domain>', 'DNS domain of the cluster', DEFAULT_CLUSTER_DOMAIN)
    .option('--audit-policy-file <file>', 'what is recorded (audit.k8s.io/v1 Policy)')
    .option('--audit-log-path <file>', 'where to; - is standard output')
    .option('--audit-log-maxage <days>', 'old files are removed after this; 0: never', readCount, 0)
    .option('--audit-log-maxbackup <n>', 'old files kept; 0: all', readCount, 0)
    .option('--audit-log-maxsize <MB>', 'a file that would be larger begins anew', readCount, 100)
    .option('--audit-log-compress', 'old files are compressed', false)
    .option('--encryption-provider-config <file>', 'how stored values are encrypted')
    .option(
      '--encryption-provider-config-automatic-reload <bool>',
      'the file is looked at again now and then',
      'false',
    )
    .option('--enable-priority-and-fairness <bool>', 'clients take turns', 'true')
    .option('--max-requests-inflight <n>', 'reads at once', readCount, DEFAULT_MAX_IN_FLIGHT)
    .option(
      '--max-mutating-requests-inflight <n>',
      'writes at once; priority levels share the sum of both',
      readCount,
      DEFAULT_MAX_MUTATING_IN_FLIGHT,
    )
    .option('--log-level <level>', 'debug, info, warn or error', 'info');
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new RangeError(`--secure-port ${text}: must be a number between 0 and 65535`);
  }
  return port;
}

/** Milliseconds of a text like 8760h or 1h30m. */
function readDuration(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms <= 0) throw new RangeError(`${text}: must be a duration like 8760h`);
  return ms;
}

function readCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 0) {
    throw new RangeError(`${text}: must be a whole number that is not negative`);
  }
  return count;
}

type Flags = {
  dataDir: string;
  securePort: number;
  bindAddress: string;
  advertiseAddress?: string;
  etcdServers?: string[];
  etcdCafile?: string;
  etcdCertfile?: string;
  etcdKeyfile?: string;
  tokenAuthFile?: string;
  anonymousAuth: string;
  auditLogPath?: string;
  auditLogMaxage: number;
  auditLogMaxbackup: number;
  auditLogMaxsize: number;
  auditLogCompress: boolean;
  auditPolicyFile?: string;
  encryptionProviderConfig?: string;
  encryptionProviderConfigAutomaticReload: string;
  enablePriorityAndFairness: string;
  maxRequestsInflight: number;
  maxMutatingRequestsInflight: number;
  serviceClusterIpRange: string;
  serviceNodePortRange: string;
  serviceAccountIssuer?: string;
  clusterSigningDuration?: number;
  apiAudiences?: string[];
  clusterDomain: string;
  logLevel: 'debug' | 'info' | 'warn' | 'error';
};

function configOf(flags: Flags): ApiServerConfig {
  const { etcdCafile, etcdCertfile, etcdKeyfile, anonymousAuth, logLevel: _, ...others } = flags;
  const { enablePriorityAndFairness, ...limits } = others;
  const { maxRequestsInflight, maxMutatingRequestsInflight, ...audited } = limits;
  const { auditLogPath, auditLogMaxage, auditLogMaxbackup, ...rest } = audited;
  const { auditLogMaxsize, auditLogCompress, clusterSigningDuration, ...same } = rest;
  const auditLog = auditLogPath && {
    path: auditLogPath,
    maxAgeDays: auditLogMaxage,
    maxBackups: auditLogMaxbackup,
    maxSizeMb: auditLogMaxsize,
    compress: auditLogCompress,
  };
  return {
    ...same,
    clusterSigningDurationMs: clusterSigningDuration,
    ...(auditLog ? { auditLog } : {}),
    encryptionProviderConfigAutomaticReload:
      same.encryptionProviderConfigAutomaticReload !== 'false',
    priorityAndFairness: enablePriorityAndFairness !== 'false',
    maxRequestsInFlight: maxRequestsInflight,
    maxMutatingRequestsInFlight: maxMutatingRequestsInflight,
    anonymousAuth: anonymousAuth !== 'false',
    ...(etcdCafile ? { etcdCaFile: etcdCafile } : {}),
    ...(etcdCertfile ? { etcdCertFile: etcdCertfile } : {}),
    ...(etcdKeyfile ? { etcdKeyFile: etcdKeyfile } : {}),
  };
}

/** Runs until a signal; the exit code is 1 when something else ended it. */
export async function main(argv: readonly string[]): Promise<void> {
  const command = apiServerCommand();
  command.parse([...argv], { from: 'user' });
  const flags = command.opts<Flags>();
  const log = createLog({ level: flags.logLevel, component: 'apiserver' });
  const stop = new AbortController();
  const onSignal = (name: string): void => {
    log.info('stopping', { signal: name });
    stop.abort(new Error(`received ${name}`));
  };
  process.once('SIGTERM', onSignal);
  process.once('SIGINT', onSignal);
  try {
    const server = await start(configOf(flags), { signal: stop.signal, log });
    await server.done;
  } catch (error) {
    if (stop.signal.aborted) return;
    log.error('stopped', { error: errorText(error) });
    process.exitCode = 1;
  }
}

if (import.meta.main) await main(process.argv.slice(2));
