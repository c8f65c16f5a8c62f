import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { createLog, errorText } from '#base/log.ts';
import {
  type ClusterConfig,
  clusterConfig,
  type ClusterFlags,
  DEFAULT_NODE_NETWORK,
  runCluster,
} from '#cli/cluster.ts';
import { dataDirOf, joinedNode, paths, readRecord } from '#cli/data-dir.ts';
import { existingSpaces } from '#cli/node-spaces.ts';
import { preflight } from '#cli/preflight.ts';
import { isSameProcess } from '#cli/process.ts';
import { type ProgressMessage, showProgress } from '#cli/progress.ts';
import { UserError, type Verb } from '#cli/verb.ts';

type Flags = ClusterFlags & { dataDir?: string; foreground?: boolean; timeout: string };

export const up: Verb = {
  name: 'up',
  summary: 'start a cluster on this machine, in the background, and wait until it is Ready',
  configure(command: Command) {
    command
      .option(
        '--data-dir <dir>',
        'where everything is kept (default $GANTRY_DATA_DIR, /var/lib/gantry)',
      )
      .option('--secure-port <port>', 'port of the API server', '6443')
      .option('--kubelet-port <port>', 'port of the node agent', '10250')
      .option('--node-name <name>', "the node's name (default: host name)")
      .option('--node-ip <ip>', "the node's address (default: of the default route)")
      .option('--container-runtime-endpoint <uri>', 'use this CRI socket, start no containerd')
      .option('--etcd-servers <urls>', 'store the state there, not in the embedded store')
      .option('--cluster-cidr <cidr>', 'addresses of pods', '10.244.0.0/16')
      .option('--service-cluster-ip-range <cidr>', 'addresses of Services', '10.96.0.0/16')
      .option('--cluster-signing-duration <duration>', 'longest life of certificates of nodes')
      .option('--image-credential-provider-config <file>', 'programs that give pull credentials')
      .option('--image-credential-provider-bin-dir <dir>', 'where those programs are')
      .option('--scheduling-profile <name>', 'pack (fill nodes) or spread', 'pack')
      .option('--network-name <name>', "names the pods' bridge and the nftables table", 'gantry')
      .option('--microvms <auto|off>', 'offer the RuntimeClass microvm where possible', 'auto')
      .option('--nodes <count>', 'nodes on this machine (default: as at the last start, else 1)')
      .option('--node-network <cidr>', 'addresses of nodes besides the first', DEFAULT_NODE_NETWORK)
      .option('--foreground', 'stay in the foreground; end with Ctrl-C')
      .option('--timeout <seconds>', 'give up waiting for Ready', '120')
      .action((flags: Flags) => run(flags));
  },
};

async function run(flags: Flags): Promise<void> {
  const dataDir = dataDirOf(flags.dataDir, process.env);
  const record = readRecord(dataDir);
  if (record && isSameProcess(record)) {
    console.log(`Already running: ${record.server} (process ${record.pid}, data in ${dataDir}).`);
    return;
  }
  const joined = joinedNode(dataDir);
  if (joined) {
    throw new UserError(
      `${dataDir} is of node ${joined.nodeName}, which has joined ${joined.server}: start it with ` +
        '"gantry join", take it out with "gantry reset", or choose another --data-dir',
    );
  }
  const config = clusterConfig(dataDir, flags, process.env);
  const surplus = existingSpaces(config.networkName).filter((number) => number > config.nodes);
  if (surplus.length > 0) {
    throw new UserError(
      `${surplus.length} more nodes of an earlier start still have their pods; run "gantry down" ` +
        `before starting with ${config.nodes}`,
    );
  }
  const problems = await preflight({
    dataDir,
    ports: [
      { port: config.securePort, flag: '--secure-port', use: 'API server' },
      { port: config.agentPort, flag: '--kubelet-port', use: 'node agent' },
    ],
    networkName: config.networkName,
    nodes: config.nodes,
    ownRuntime: config.runtimeEndpoint === undefined,
    env: process.env,
    platform: process.platform,
    uid: process.getuid?.() ?? 0,
  });
  if (problems.length > 0) {
    throw new UserError(
      `this machine is not ready:\n${problems.map((p) => `  - ${p}`).join('\n')}`,
    );
  }
  await (flags.foreground ? inForeground(config) : inBackground(config, Number(flags.timeout)));
}

/** Runs the cluster in this process; a parent that started us hears of progress over IPC. */
async function inForeground(config: ClusterConfig): Promise<void> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => stop.abort(new Error(`received ${name}`)));
  }
  const tell = (message: ProgressMessage): void => {
    if (process.connected) process.send?.(message);
    else if (process.stdout.isTTY) showProgress(message);
  };
  const log = createLog({ component: 'gantry', level: logLevel(process.env['GANTRY_LOG_LEVEL']) });
  try {
    await runCluster(config, { signal: stop.signal, log, report: tell });
  } catch (error) {
    if (!stop.signal.aborted) {
      log.error('the cluster ended', { error: errorText(error) });
      tell({ type: 'failed', text: errorText(error) });
      process.exitCode = 1;
    }
  }
  if (process.connected) process.disconnect?.();
  // Sockets of clients that do not go away must not keep a stopped cluster alive.
  setTimeout(() => process.exit(), 500).unref();
}

const logLevel = (text: string | undefined): 'debug' | 'info' | 'warn' | 'error' =>
  text === 'debug' || text === 'warn' || text === 'error' ? text : 'info';

/** Starts this same command detached, in the foreground there, and waits for its word. */
async function inBackground(config: ClusterConfig, timeoutSeconds: number): Promise<void> {
  const logFile = paths(config.dataDir).log;
  mkdirSync(dirname(logFile), { recursive: true });
  const fd = openSync(logFile, 'a');
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      join(import.meta.dirname, '..', 'main.ts'),
      ...process.argv.slice(2),
      '--foreground',
    ],
    {
      detached: true,
      stdio: ['ignore', fd, fd, 'ipc'],
      cwd: '/',
      env: { ...process.env, GANTRY_DATA_DIR: config.dataDir },
    },
  );
  closeSync(fd);
  const outcome = await new Promise<{ ok: boolean; text: string }>((resolve) => {
    const timer = setTimeout(
      () =>
        resolve({
          ok: false,
          text: `not Ready after ${timeoutSeconds} s; it goes on in the background`,
        }),
      timeoutSeconds * 1000,
    );
    const finish = (result: { ok: boolean; text: string }): void => {
      clearTimeout(timer);
      resolve(result);
    };
    child.on('message', (message: ProgressMessage) => {
      if (message.type === 'failed') return finish({ ok: false, text: message.text });
      showProgress(message);
      if (message.type === 'ready') finish({ ok: true, text: '' });
    });
    child.once('exit', (code, signal) =>
      finish({ ok: false, text: `it ended with ${signal ?? `code ${code}`}` }),
    );
  });
  if (child.connected) child.disconnect();
  child.unref();
  if (!outcome.ok) {
    throw new UserError(
      `the cluster did not start: ${outcome.text}\nLast lines of ${logFile}:\n${tail(logFile)}`,
    );
  }
}

function tail(file: string): string {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-8);
  return lines.map((line) => `  ${line}`).join('\n');
}
