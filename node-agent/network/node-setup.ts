import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { errorText, type Log } from '#base/log.ts';
import { familyOf, gatewayOf, parseAddress } from './addresses.ts';

const run = promisify(execFile);
const DEFAULT_MTU = 1500;
const WITH_TIMEOUT = { timeout: 10_000 };

/** `podCidrs` and `serviceCidrs` have one network per family, IPv4 or the only one first. */
export type NodeNetwork = {
  bridge: string;
  podCidrs: readonly string[];
  serviceCidrs: readonly string[];
  mtu: number;
};

/**
 * Prepares the node: kernel settings, the pods' bridge with the gateway's address, and a route
 * for Service addresses (so that they work on a machine without a default route, and never leave
 * it). Idempotent. Throws an Error that names the setting or command that failed.
 */
export async function prepareNode(network: NodeNetwork, log: Log): Promise<void> {
  const { bridge, podCidrs, serviceCidrs, mtu } = network;
  const gateways = podCidrs.map(gatewayOf);
  if (!hasInterface(bridge)) {
    // An address given here is kept; else the bridge takes its lowest port's, which changes.
    const address = bridgeMac(gateways[0]?.address ?? '');
    await ip('link', 'add', bridge, 'address', address, 'mtu', `${mtu}`, 'type', 'bridge');
  }
  const hasSix = gateways.some(({ address }) => familyOf(address) === 'IPv6');
  if (hasSix) setSysctl(`net/ipv6/conf/${bridge}/disable_ipv6`, '0');
  await setAddresses(
    bridge,
    gateways.map(({ address, prefix }) => `${address}/${prefix}`),
  );
  await ip('link', 'set', bridge, 'up');
  for (const range of serviceCidrs) await ip('route', 'replace', range, 'dev', bridge);

  setSysctl('net/ipv4/ip_forward', '1');
  if (hasSix) forwardSix();
  // Node ports on 127.0.0.1; the table's guard keeps pods away from the node's loopback.
  setSysctl(`net/ipv4/conf/${bridge}/route_localnet`, '1');
  await filterBridgedPackets(log, hasSix ? ['iptables', 'ip6tables'] : ['iptables']);
  await acceptForwarding(bridge, log);
}

/** A machine that forwards ignores its router's announcements, unless told to go on listening. */
function forwardSix(): void {
  const settings = '/proc/sys/net/ipv6/conf';
  if (!existsSync(settings))
    throw new Error('the kernel has no IPv6, which --cluster-cidr asks for; give IPv4 ranges only');
  for (const name of readdirSync(settings)) {
    const file = `net/ipv6/conf/${name}/accept_ra`;
    if (readSysctl(file) === '1') setSysctl(file, '2');
  }
  setSysctl('net/ipv6/conf/all/forwarding', '1');
}

/** The bridge has these addresses alone; one of an earlier range would answer for strangers. */
async function setAddresses(bridge: string, wanted: readonly string[]): Promise<void> {
  type Info = { family: string; local: string; prefixlen: number; scope: string };
  for (const address of wanted) {
    // Nobody else can have the gateway's address: it is usable at once.
    const flags = familyOf(address) === 'IPv6' ? ['nodad'] : [];
    await ip('addr', 'replace', address, 'dev', bridge, ...flags);
  }
  const links = JSON.parse(await ip('-j', 'addr', 'show', 'dev', bridge)) as {
    addr_info: Info[];
  }[];
  for (const { local, prefixlen, scope } of links[0]?.addr_info ?? []) {
    const address = `${local}/${prefixlen}`;
    if (scope !== 'link' && !wanted.includes(address))
      await ip('addr', 'delete', address, 'dev', bridge);
  }
}

/**
 * Other software (Docker, a firewall) may have set iptables to drop what is forwarded; an accept in
 * our own table would not overrule that, so pods' traffic is let through in iptables as well.
 */
async function acceptForwarding(bridge: string, log: Log): Promise<void> {
  try {
    const { stdout } = await run('iptables', ['-w', '-S', 'FORWARD'], WITH_TIMEOUT);
    if (!stdout.includes('-P FORWARD DROP')) return;
    for (const rule of forwardRules(bridge)) {
      const known = await run('iptables', ['-w', '-C', ...rule], WITH_TIMEOUT).then(
        () => true,
        () => false,
      );
      if (!known) await run('iptables', ['-w', '-I', ...rule], WITH_TIMEOUT);
    }
    log.info('iptables drops forwarded packets; let those of pods through', { bridge });
  } catch (error) {
    // Without the tool there are, on all but exotic machines, no such rules either.
    log.debug('did not look at iptables', { error: errorText(error) });
  }
}

function forwardRules(bridge: string): string[][] {
  const rule = (direction: '-i' | '-o'): string[] => ['FORWARD', direction, bridge, '-j', 'ACCEPT'];
  return [rule('-i'), rule('-o')];
}

/** Replies between two pods of one bridge must pass the translation they came through. */
async function filterBridgedPackets(log: Log, tables: readonly string[]): Promise<void> {
  for (const table of tables) {
    const setting = `net/bridge/bridge-nf-call-${table}`;
    if (!existsSync(`/proc/sys/${setting}`))
      await run('modprobe', ['br_netfilter'], WITH_TIMEOUT).catch((error: unknown) =>
        log.debug('modprobe br_netfilter failed', { error: errorText(error) }),
      );
    if (existsSync(`/proc/sys/${setting}`)) setSysctl(setting, '1');
    else
      log.warn('the kernel has no br_netfilter: a Service reaches pods on other nodes only', {
        fix: 'load the module br_netfilter',
      });
  }
}

/**
 * Removes the bridge, all routes on it and what iptables lets through for it; pods' interfaces end
 * with their namespaces.
 */
export async function removeBridge(bridge: string): Promise<void> {
  for (const rule of forwardRules(bridge))
    await run('iptables', ['-w', '-D', ...rule], WITH_TIMEOUT).catch(() => {
      // Not there: nothing to remove.
    });
  if (hasInterface(bridge)) await ip('link', 'delete', bridge);
}

/** Asked of /proc, because /sys shows the network namespace it was mounted in. */
function hasInterface(name: string): boolean {
  const lines = readFileSync('/proc/net/dev', 'utf8').split('\n');
  return lines.some((line) => line.trimStart().startsWith(`${name}:`));
}

/** The MTU of the interface that has the node's address: what pods can send without fragments. */
export async function mtuOf(nodeIp: string): Promise<number> {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    // Loopback's 64 KiB would not pass any other interface.
    if (name === 'lo' || !addresses?.some(({ address }) => address === nodeIp)) continue;
    const [link] = JSON.parse(await ip('-j', 'link', 'show', name)) as { mtu: number }[];
    return link?.mtu ?? DEFAULT_MTU;
  }
  return DEFAULT_MTU;
}

/** A locally administered address made of the gateway's own. */
function bridgeMac(gateway: string): string {
  const value = (parseAddress(gateway)?.value ?? 0n) & 0xffffffffn;
  const bytes = [0x0a, 0x58, ...[24n, 16n, 8n, 0n].map((shift) => Number((value >> shift) & 255n))];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch {
    return undefined; // an interface that has just gone
  }
}

function setSysctl(name: string, value: string): void {
  const file = `/proc/sys/${name}`;
  try {
    if (readFileSync(file, 'utf8').trim() !== value) writeFileSync(file, value);
  } catch (cause) {
    throw new Error(`cannot set ${name.replaceAll('/', '.')}=${value}, which pods' network needs`, {
      cause,
    });
  }
}

/** Runs iproute2's command; resolves to what it prints. */
async function ip(...args: string[]): Promise<string> {
  try {
    return (await run('ip', args, WITH_TIMEOUT)).stdout;
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: string };
    const why = code === 'ENOENT' ? "not installed: 'apt-get install iproute2'" : stderr?.trim();
    throw new Error(`ip ${args.join(' ')}: ${why ?? errorText(error)}`, { cause: error });
  }
}
