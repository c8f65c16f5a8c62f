import { createHash } from 'node:crypto';
import { cidrContains, familyOf, formatAddress, parseAddress, parseCidr } from './addresses.ts';

/**
 * The way to pods of nodes that are not in the same network segment: packets travel inside UDP
 * between the nodes' addresses (VXLAN, RFC 7348). Nothing is learned or asked for: what a node must
 * know of another follows from its address and its pod range.
 */
export type OverlayNode = { podCidr: string; nodeIp: string };

/** A whole node: all its pod ranges are behind one outer address. */
export type OverlayEnd = { podCidrs: readonly string[]; nodeIp: string };

/** Bytes that the outer headers cost. */
const OVERHEAD = 50;
/** The port that Linux and other pod networks use. */
const PORT = 8472;

/** Interface names end at 15 characters, of which a network's name has at most 14. */
export const overlayDevice = (name: string): string => `${name}x`;

/** Networks this machine is attached to, out of `ip -j route show scope link`. */
export type LinkRoute = { dst: string };

/** Whether a neighbour can be the next hop; else the way to it leads through a router. */
export function isNeighbour(address: string, attached: readonly LinkRoute[]): boolean {
  return attached.some(({ dst }) => {
    if (dst === 'default') return false;
    const whole = familyOf(dst) === 'IPv6' ? 128 : 32;
    return cidrContains(parseCidr(dst.includes('/') ? dst : `${dst}/${whole}`), address);
  });
}

/** All nodes of a cluster must have the same; its pod network is what they agree on. */
export function overlayId(clusterCidr: string): number {
  return 1 + (createHash('sha1').update(clusterCidr).digest().readUInt32BE() % 0xff_fffe);
}

/** Arguments for ip(8) that make the device of the node itself. */
export function deviceCommands(
  name: string,
  own: OverlayEnd & { clusterCidr: string; mtu: number },
): string[][] {
  const device = overlayDevice(name);
  const link = ['address', macOf(own.nodeIp), 'mtu', `${own.mtu - OVERHEAD}`];
  const vxlan = ['id', `${overlayId(own.clusterCidr)}`, 'dstport', `${PORT}`, 'local', own.nodeIp];
  return [
    ['link', 'add', device, ...link, 'type', 'vxlan', ...vxlan, 'nolearning'],
    ...own.podCidrs.map((podCidr) => {
      const [bits, flags] = familyOf(podCidr) === 'IPv6' ? [128, ['nodad']] : [32, []];
      return ['addr', 'replace', `${firstOf(podCidr)}/${bits}`, 'dev', device, ...flags];
    }),
    ['link', 'set', device, 'up'],
  ];
}

/** Arguments for ip(8) and bridge(8) that say where another node is. */
export function neighbourCommands(
  name: string,
  { podCidr, nodeIp }: OverlayNode,
): { ip: string[]; bridge: string[] } {
  const [device, mac] = [overlayDevice(name), macOf(nodeIp)];
  return {
    ip: ['neigh', 'replace', firstOf(podCidr), 'lladdr', mac, 'dev', device, 'nud', 'permanent'],
    bridge: ['fdb', 'replace', mac, 'dev', device, 'dst', nodeIp, 'self', 'permanent'],
  };
}

/** The first address of a node's pod range, which no pod gets. */
export function firstOf(podCidr: string): string {
  const { family, first } = parseCidr(podCidr);
  return formatAddress({ family, value: first });
}

/** A locally administered address that others can tell from the node's. */
function macOf(nodeIp: string): string {
  const value = (parseAddress(nodeIp)?.value ?? 0n) & 0xffffffffn;
  const bytes = [0x0a, 0x59, ...[24n, 16n, 8n, 0n].map((shift) => Number((value >> shift) & 255n))];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
