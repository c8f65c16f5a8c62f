import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { findProgram } from '#node-agent/runtime/containerd-config.ts';

/**
 * For tests: a node with pods and the world outside, each a network namespace of its own, so that
 * rules meet real packets without touching this machine's network. Names are random; `close`
 * removes everything, also when a test failed halfway.
 */
export type Testbed = {
  /** Program and arguments that run nft in the node's namespace. */
  nft: string[];
  /** Name of the node's namespace. */
  node: string;
  /** Runs a shell command in a namespace, with a bound on its time; throws when it fails. */
  run(namespace: string, command: string): string;
  /** Adds a pod on the node's bridge; its name in run(). */
  addPod(name: string, address: string): void;
  /**
   * Serves `name remoteAddress` per TCP connection and `name` per datagram, in a namespace; ready
   * when it resolves.
   */
  serve(namespace: string, name: string, port: number): Promise<void>;
  /** Sends a datagram from one fixed port; gives the answer, an error's code, or '' after 300 ms. */
  askByUdp(namespace: string, address: string, port: number): string;
  close(): void;
};

export const NODE_ADDRESS = '192.0.2.10';
export const OUTSIDE_ADDRESS = '192.0.2.20';
export const BRIDGE = 'gtest0';

const SERVER = `
const [name, port] = process.argv.slice(1);
const udp = require('node:dgram').createSocket('udp4');
udp.on('message', (_, from) => udp.send(name, from.port, from.address));
udp.bind(+port);
require('node:net').createServer((s) => {
  s.on('error', () => {});
  s.end(name + ' ' + s.remoteAddress + '\\n');
}).listen(+port, '0.0.0.0', () => console.log('ready'));`;

const UDP_CLIENT = `
const [address, port] = process.argv.slice(1);
const udp = require('node:dgram').createSocket('udp4');
udp.on('message', (text) => { console.log(String(text)); udp.close(); });
udp.on('error', (error) => { console.log(error.code); udp.close(); });
udp.bind(7777, () => udp.connect(+port, address, () => udp.send('?')));
setTimeout(() => process.exit(), 300).unref();`;

/** Why there can be no testbed here, or false. */
export function testbedMissing(): string | false {
  if (process.geteuid?.() !== 0) return 'network namespaces need root';
  const missing = ['ip', 'nft', 'nsenter', 'busybox'].filter(
    (name) => !findProgram(name, process.env.PATH),
  );
  return missing.length > 0 && `not installed: ${missing.join(', ')}`;
}

export function createTestbed(): Testbed {
  const id = `gt${randomBytes(3).toString('hex')}`;
  const namespaces: string[] = [];
  const servers: ChildProcess[] = [];
  const host = (command: string): string =>
    execFileSync('/bin/sh', ['-ec', command], { encoding: 'utf8', timeout: 10_000 });
  const path = (namespace: string): string => `/run/netns/${id}-${namespace}`;
  const run = (namespace: string, command: string): string =>
    execFileSync('nsenter', [`--net=${path(namespace)}`, '/bin/sh', '-ec', command], {
      encoding: 'utf8',
      timeout: 10_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const addNamespace = (name: string): void => {
    host(`ip netns add ${id}-${name}`);
    namespaces.push(name);
    run(name, 'ip link set lo up');
  };
  const connect = (name: string, address: string, gateway: string): void => {
    host(
      `ip -n ${id}-node link add v${name} type veth peer name eth0 netns ${id}-${name};` +
        `ip -n ${id}-node link set v${name} up`,
    );
    run(name, `ip addr add ${address} dev eth0; ip link set eth0 up; ip route add ${gateway}`);
  };
  const bed: Testbed = {
    nft: ['nsenter', `--net=${path('node')}`, 'nft'],
    node: `${id}-node`,
    run,
    addPod(name, address) {
      addNamespace(name);
      connect(name, `${address}/24`, 'default via 10.244.0.1');
      run('node', `ip link set v${name} master ${BRIDGE}; bridge link set dev v${name} hairpin on`);
    },
    async serve(namespace, name, port) {
      const args = [`--net=${path(namespace)}`, process.execPath, '-e', SERVER, name, `${port}`];
      const child = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
      servers.push(child);
      await new Promise<void>((resolve, reject) => {
        child.stdout.once('data', () => resolve());
        child.once('exit', (code) => reject(new Error(`server of ${name} ended with ${code}`)));
      });
    },
    askByUdp(namespace, address, port) {
      const args = [process.execPath, '-e', UDP_CLIENT, address, `${port}`];
      const command = [`--net=${path(namespace)}`, ...args];
      return execFileSync('nsenter', command, { encoding: 'utf8', timeout: 10_000 }).trim();
    },
    close() {
      for (const server of servers) server.kill('SIGKILL');
      for (const name of namespaces) host(`ip netns delete ${id}-${name}`);
    },
  };
  try {
    addNamespace('node');
    run(
      'node',
      `ip link add ${BRIDGE} type bridge; ip addr add 10.244.0.1/24 dev ${BRIDGE};` +
        `ip link set ${BRIDGE} up; echo 1 > /proc/sys/net/ipv4/ip_forward;` +
        `echo 1 > /proc/sys/net/ipv4/conf/${BRIDGE}/route_localnet;` +
        `ip route add 10.96.0.0/16 dev ${BRIDGE}`,
    );
    addNamespace('outside');
    connect('outside', `${OUTSIDE_ADDRESS}/24`, `10.0.0.0/8 via ${NODE_ADDRESS}`);
    run('node', `ip addr add ${NODE_ADDRESS}/24 dev voutside`);
    return bed;
  } catch (error) {
    bed.close();
    throw error;
  }
}
