import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/**
 * Network namespaces for further nodes on this machine, joined with it by one bridge (the switch).
 * Everything is named after the cluster's network, so that `closeNodeSpaces` finds it again.
 */
export type SpacesConfig = {
  /** Of the cluster's network. */
  name: string;
  /** Addresses of the further nodes, as `10.243.0.0/24`; the first is this machine's own. */
  network: string;
  /** Under which address the first node, which has no namespace, is reached. */
  machineIp: string;
  /** Pods' addresses are left as they are on the way between nodes. */
  clusterCidr: string;
  /** Which nodes get one: 2 is the second of the cluster. */
  numbers: readonly number[];
};

/** `namespace` is the file that nsenter(1) takes. */
export type NodeSpace = { number: number; namespace: string; address: string };

const NETNS_DIR = '/run/netns';
const TIMEOUT_MS = 10_000;

/** Makes what is missing; what an earlier start has left is used again. */
export async function openNodeSpaces(config: SpacesConfig): Promise<NodeSpace[]> {
  const { name, network, numbers } = config;
  const bridge = switchOf(name);
  await refuseTakenNetwork(network, bridge);
  const mtu = mtuOf(config.machineIp);
  const links = linkNames();
  await ip(
    ...(links.has(bridge) ? [] : [`link add ${bridge} mtu ${mtu} type bridge`]),
    `addr replace ${addressIn(network, 1)}/24 dev ${bridge}`,
    `link set ${bridge} up`,
  );
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  await run('nft', ['-f', '-'], translation(config));
  await acceptForwarding(bridge);
  return Promise.all(numbers.map((number) => openSpace(config, number, mtu)));
}

async function openSpace(config: SpacesConfig, number: number, mtu: number): Promise<NodeSpace> {
  const { name, network, machineIp } = config;
  const space = spaceName(name, number);
  const address = addressIn(network, number);
  const made = { number, namespace: `${NETNS_DIR}/${space}`, address };
  if (await works(space)) return made;
  const outer = outerLink(name, number);
  // A file without a namespace behind it is left by a boot, a link by a start that was cut off.
  await run('ip', ['netns', 'delete', space]).catch(() => {});
  if (linkNames().has(outer)) await ip(`link delete ${outer}`);
  try {
    await run('ip', ['netns', 'add', space]);
  } catch (cause) {
    throw new Error(
      `several nodes on one machine need network namespaces, and this one lets us make none ` +
        `(${(cause as Error).message}); start with --nodes 1`,
      { cause },
    );
  }
  await ip(
    `link add ${outer} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${space}`,
    `link set ${outer} master ${switchOf(name)} up`,
    // What a node sends to a Service by another node's address may come back to it.
    `link set ${outer} type bridge_slave hairpin on`,
  );
  const commands = [
    'link set lo up',
    `addr add ${address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${addressIn(network, 1)}`,
    // The first node's address is the next hop to its pods, so it must be a neighbour.
    `route add ${machineIp}/32 dev eth0 scope link`,
  ];
  await run('ip', ['-n', space, '-batch', '-'], `${commands.join('\n')}\n`);
  return made;
}

/** A namespace counts when its outermost part, made last, is there. */
const works = (space: string): Promise<boolean> =>
  run('ip', ['-n', space, 'route', 'show', 'default']).then(
    (routes) => routes.includes('eth0'),
    () => false,
  );

/**
 * Removes namespaces, links, the switch and its rules; whoever runs in a namespace must have ended.
 * Returns how many namespaces there were. Idempotent.
 */
export async function closeNodeSpaces(name: string): Promise<number> {
  const numbers = existingSpaces(name);
  for (const number of numbers) {
    const links = linkNames();
    if (links.has(outerLink(name, number))) await ip(`link delete ${outerLink(name, number)}`);
    await run('ip', ['netns', 'delete', spaceName(name, number)]);
  }
  const bridge = switchOf(name);
  if (!linkNames().has(bridge)) return numbers.length;
  await ip(`link delete ${bridge}`);
  const table = tableOf(name);
  await run('nft', ['-f', '-'], `add table ${table}\ndelete table ${table}\n`);
  for (const rule of forwardRules(bridge))
    await run('iptables', ['-w', '-D', ...rule]).catch(() => {
      // Not there: nothing to remove.
    });
  return numbers.length;
}

/** Numbers of the nodes that have a namespace of this network name. */
export function existingSpaces(name: string): number[] {
  let files: string[];
  try {
    files = readdirSync(NETNS_DIR);
  } catch {
    return []; // never a namespace was made here
  }
  return files
    .filter((file) => file.startsWith(`${name}-node-`))
    .map((file) => file.slice(`${name}-node-`.length))
    .filter((text) => /^\d+$/.test(text))
    .map(Number)
    .sort((a, b) => a - b);
}

const spaceName = (name: string, number: number): string => `${name}-node-${number}`;
const switchOf = (name: string): string => `${name}s`;
const tableOf = (name: string): string => `ip ${name}-nodes`;

/** Interface names end at 15 characters, so this one cannot hold the network's name. */
function outerLink(name: string, number: number): string {
  return `g${createHash('sha1').update(name).digest('hex').slice(0, 6)}-${number}`;
}

/** The n-th address of a /24. */
export function addressIn(network: string, number: number): string {
  return `${network.split('/')[0]?.split('.').slice(0, 3).join('.')}.${number}`;
}

/** Nodes reach the world under this machine's address, each other and all pods under their own. */
function translation({ name, network, clusterCidr }: SpacesConfig): string {
  const table = tableOf(name);
  return `add table ${table}
delete table ${table}
table ${table} {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${network} oifname != "${switchOf(name)}" ip daddr != ${clusterCidr} masquerade fully-random;
  }
}
`;
}

type Route = { dst: string; dev?: string };

/** Two clusters of one machine, or a cluster and the machine's own network, cannot share addresses. */
async function refuseTakenNetwork(network: string, bridge: string): Promise<void> {
  const routes = JSON.parse((await run('ip', ['-j', 'route', 'show'])).trim() || '[]') as Route[];
  const taken = routes.find(
    ({ dst, dev }) => dev !== bridge && dst !== 'default' && overlaps(dst, network),
  );
  if (!taken) return;
  throw new Error(
    `the addresses ${network}, meant for the further nodes, are in use on this machine ` +
      `(${taken.dst} on ${taken.dev}); choose others with --node-network`,
  );
}

/** Whether two IPv4 networks have an address in common. */
export function overlaps(a: string, b: string): boolean {
  const parse = (text: string): [number, number] => {
    const [address = '', prefix = '32'] = text.split('/');
    const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    return [value, Number(prefix)];
  };
  const [[first, bitsA], [second, bitsB]] = [parse(a), parse(b)];
  const size = 2 ** (32 - Math.min(bitsA, bitsB));
  return Math.floor(first / size) === Math.floor(second / size);
}

/** Other software may have set iptables to drop what is forwarded. */
async function acceptForwarding(bridge: string): Promise<void> {
  const policies = await run('iptables', ['-w', '-S', 'FORWARD']).catch(() => '');
  if (!policies.includes('-P FORWARD DROP')) return;
  for (const rule of forwardRules(bridge))
    await run('iptables', ['-w', '-C', ...rule]).catch(() =>
      run('iptables', ['-w', '-I', ...rule]),
    );
}

function forwardRules(bridge: string): string[][] {
  return ['-i', '-o'].map((direction) => ['FORWARD', direction, bridge, '-j', 'ACCEPT']);
}

/** What passes the machine's own interface unbroken. */
function mtuOf(machineIp: string): number {
  const found = Object.entries(networkInterfaces()).find(([, addresses]) =>
    addresses?.some(({ address, internal }) => address === machineIp && !internal),
  );
  return found ? Number(readFileSync(`/sys/class/net/${found[0]}/mtu`, 'utf8')) : 1500;
}

/** Asked of /proc, because /sys shows the network namespace it was mounted in. */
function linkNames(): Set<string> {
  const lines = readFileSync('/proc/net/dev', 'utf8').split('\n').slice(2);
  return new Set(lines.map((line) => line.split(':')[0]?.trim() ?? ''));
}

const ip = (...commands: string[]): Promise<string> =>
  run('ip', ['-batch', '-'], `${commands.join('\n')}\n`);

/** Runs a program to its end; resolves to what it prints, rejects with what it complains of. */
function run(program: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'pipe', timeout: TIMEOUT_MS });
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString('utf8')));
    child.on('error', (cause) => reject(new Error(`cannot run ${program}`, { cause })));
    child.on('close', (code) => {
      if (code === 0) return resolve(output);
      reject(new Error(`${program} ${args.join(' ')}: ${complaint.trim()}`));
    });
    // A child that ends early closes its input; its exit code tells why.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
