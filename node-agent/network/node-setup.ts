import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { errorText, type Log } from '#base/log.ts';
import { gatewayOf, parseAddress } from './addresses.ts';

const run = promisify(execFile);
const DEFAULT_MTU = 1500;
const WITH_TIMEOUT = { timeout: 10_000 };

export type NodeNetwork = { bridge: string; podCidr: string; serviceCidr: string; mtu: number };

/**
 * Prepares the node: kernel settings, the pods' bridge with the gateway's address, and a route
 * for Service addresses (so that they work on a machine without a default route, and never leave
 * it). Idempotent. Throws an Error that names the setting or command that failed.
 */
export async function prepareNode(network: NodeNetwork, log: Log): Promise<void> {
  const { bridge, podCidr, serviceCidr, mtu } = network;
  const gateway = gatewayOf(podCidr);
  if (!hasInterface(bridge)) {
    // An address given here is kept; else the bridge takes its lowest port's, which changes.
    const address = bridgeMac(gateway.address);
    await ip('link', 'add', bridge, 'address', address, 'mtu', `${mtu}`, 'type', 'bridge');
  }
  await setAddress(bridge, `${gateway.address}/${gateway.prefix}`);
  await ip('link', 'set', bridge, 'up');
  await ip('route', 'replace', serviceCidr, 'dev', bridge);

  setSysctl('net/ipv4/ip_forward', '1');
  // Node ports on 127.0.0.1; the table's guard keeps pods away from the node's loopback.
  setSysctl(`net/ipv4/conf/${bridge}/route_localnet`, '1');
  await filterBridgedPackets(log);
  await acceptForwarding(bridge, log);
}

/** The bridge has this address alone; one of an earlier range would answer for strangers. */
async function setAddress(bridge: string, wanted: string): Promise<void> {
  type Link = { addr_info: { family: string; local: string; prefixlen: number }[] };
  await ip('addr', 'replace', wanted, 'dev', bridge);
  const [link] = JSON.parse(await ip('-j', 'addr', 'show', 'dev', bridge)) as Link[];
  for (const { family, local, prefixlen } of link?.addr_info ?? []) {
    const address = `${local}/${prefixlen}`;
    if (family === 'inet' && address !== wanted) await ip('addr', 'delete', address, 'dev', bridge);
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
async function filterBridgedPackets(log: Log): Promise<void> {
  const setting = 'net/bridge/bridge-nf-call-iptables';
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
