import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';

/** A real etcd for tests and benches, in a directory of its own. */
export type TestEtcd = {
  endpoint: string;
  pid: number;
  /** Ends the server as a crash would; `start` brings it back with its data. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
};

/** Path of the etcd binary; undefined when it is not installed. */
export function findEtcd(): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((directory) => join(directory, 'etcd'))
    .find((file) => existsSync(file));
}

export async function startEtcd(flags: Record<string, string> = {}): Promise<TestEtcd> {
  const directory = await mkdtemp(join(tmpdir(), 'gantry-etcd-'));
  const [port, peerPort] = await freePorts();
  const scheme = flags['cert-file'] === undefined ? 'http' : 'https';
  const endpoint = `${scheme}://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const settings = {
    'data-dir': directory,
    name: 'test',
    'initial-cluster': `test=${peer}`,
    'listen-client-urls': endpoint,
    'advertise-client-urls': endpoint,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    // Elections and the shortest lease follow the heartbeat.
    'heartbeat-interval': '10',
    'election-timeout': '100',
    logger: 'zap',
    'log-level': 'info',
    ...flags,
  };
  const args = Object.entries(settings).map(([flag, value]) => `--${flag}=${value}`);
  let child = await launch(args);
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  return {
    endpoint,
    get pid() {
      return child.pid ?? 0;
    },
    kill,
    async start() {
      child = await launch(args);
    },
    async stop() {
      await kill();
      await rm(directory, { recursive: true });
    },
  };
}

/** Starts etcd and waits until it says that it serves clients. */
async function launch(args: readonly string[]): Promise<ChildProcess> {
  const binary = findEtcd();
  assert.ok(binary, 'etcd is not installed');
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    if (/serving client traffic/.test(line)) {
      child.stderr.resume();
      return child;
    }
  }
  throw new Error(`etcd did not start:\n${lines.slice(-5).join('\n')}`);
}

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address && typeof address === 'object');
    ports.push(address.port);
  }
  for (const server of servers) server.close();
  const [port = 0, peerPort = 0] = ports;
  return [port, peerPort];
}
