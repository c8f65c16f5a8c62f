import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import type { Node } from '#api/types.ts';
import { familyOf } from './addresses.ts';
import {
  deviceCommands,
  firstOf,
  isNeighbour,
  type LinkRoute,
  neighbourCommands,
  overlayDevice,
  type OverlayEnd,
} from './overlay.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 10_000;

/** Marks routes as ours, so that those of nodes that are gone can be told from the machine's own. */
const PROTOCOL = '117';

/**
 * Whose routes they are, when several clusters share the machine: a metric made of the network's
 * name. Which number it is does not matter, as nobody else has routes to these pods.
 */
export function metricOf(name: string): string {
  return `${1_000_000 + (createHash('sha1').update(name).digest().readUInt32BE() % 1_000_000_000)}`;
}

/** Pod range of another node → address of that node. */
export type Routes = ReadonlyMap<string, string>;

/**
 * How to reach the pods of all other nodes that have a range and an address. Where a node has no
 * address of a range's family, the other one stands there: the overlay carries both.
 */
export function wantedRoutes(
  nodes: readonly Node[],
  ownName: string,
  ownRanges: readonly string[],
): Map<string, string> {
  const families = new Set(ownRanges.map(familyOf));
  const routes = new Map<string, string>();
  for (const { metadata, spec, status } of nodes) {
    if (metadata.name === ownName) continue;
    const internal = (status?.addresses ?? []).filter(({ type }) => type === 'InternalIP');
    const addresses = internal.map(({ address }) => address);
    for (const range of spec?.podCIDRs ?? [spec?.podCIDR]) {
      if (!range || !families.has(familyOf(range))) continue;
      const same = addresses.find((address) => familyOf(address) === familyOf(range));
      const via = same ?? addresses.find((address) => familyOf(address) === 'IPv4');
      if (via) routes.set(range, via);
    }
  }
  return routes;
}

/** A route's next hop; with a device it need not be a neighbour. */
export type Hop = { via: string; device?: string };

/** Arguments for ip(8), one command each, that lead from the routes there are to those wanted. */
export function routeChanges(
  current: ReadonlyMap<string, Hop>,
  wanted: ReadonlyMap<string, Hop>,
  metric: string,
): string[][] {
  const same = (a: Hop | undefined, b: Hop): boolean =>
    a?.via === b.via && (b.device === undefined || a.device === b.device);
  const gone = [...current.keys()].filter((range) => !wanted.has(range));
  const come = [...wanted].filter(([range, hop]) => !same(current.get(range), hop));
  const ours = ['proto', PROTOCOL, 'metric', metric];
  return [
    ...gone.map((range) => ['route', 'delete', range, ...ours]),
    ...come.map(([range, { via, device }]) => {
      const way = device === undefined ? [] : ['dev', device, 'onlink'];
      return ['route', 'replace', range, 'via', via, ...way, ...ours];
    }),
  ];
}

/** The node that routes are for, and what it needs to reach nodes of other segments. */
export type RoutesConfig = {
  /** Of the network. */
  name: string;
  own: OverlayEnd & { clusterCidr: string; mtu: number };
  /** Before the programs' names; for example nsenter and its arguments. */
  prefix?: readonly string[];
};

/**
 * Makes the kernel's routes of a network those wanted: straight to neighbours, through the overlay
 * to nodes of other segments. Resolves to how many changed. Throws an Error for what the kernel
 * refuses, after having tried all.
 */
export async function applyRoutes(config: RoutesConfig, wanted: Routes): Promise<number> {
  const { name, prefix = [] } = config;
  const attached = await attachedNetworks(prefix, [...wanted.values()]);
  const hops = new Map<string, Hop>();
  const commands: string[][] = [];
  for (const [podCidr, nodeIp] of wanted) {
    if (familyOf(nodeIp) === familyOf(podCidr) && isNeighbour(nodeIp, attached)) {
      hops.set(podCidr, { via: nodeIp });
      continue;
    }
    hops.set(podCidr, { via: firstOf(podCidr), device: overlayDevice(name) });
    const { ip, bridge } = neighbourCommands(name, { podCidr, nodeIp });
    commands.push(['ip', ...ip], ['bridge', ...bridge]);
  }
  if (commands.length > 0) await ensureDevice(config);
  const metric = metricOf(name);
  const changes = routeChanges(await currentRoutes(prefix, metric), hops, metric);
  const failures: string[] = [];
  for (const command of [...commands, ...changes.map((args) => ['ip', ...args])]) {
    try {
      await execute([...prefix, ...command]);
    } catch (error) {
      failures.push(`${command.join(' ')}: ${(error as { stderr?: string }).stderr?.trim()}`);
    }
  }
  if (failures.length > 0) throw new Error(failures.join('; '));
  return changes.length;
}

/** Networks this machine has an interface in, of the families that next hops have. */
async function attachedNetworks(
  prefix: readonly string[],
  hops: readonly string[],
): Promise<LinkRoute[]> {
  const four = await list<LinkRoute>(prefix, ['route', 'show', 'scope', 'link']);
  if (!hops.some((hop) => familyOf(hop) === 'IPv6')) return four;
  // Routes of IPv6 have no scope: those without a gateway lead to neighbours.
  type Route = LinkRoute & { gateway?: string; dev?: string };
  const six = await list<Route>(prefix, ['-6', 'route', 'show', 'table', 'main']);
  return [...four, ...six.filter(({ gateway, dev }) => !gateway && dev !== 'lo')];
}

/** Takes away the routes of a network, and its overlay. Idempotent. */
export async function removeRoutes(name: string): Promise<void> {
  const metric = metricOf(name);
  for (const args of routeChanges(await currentRoutes([], metric), new Map(), metric))
    await execute(['ip', ...args]);
  await execute(['ip', 'link', 'delete', overlayDevice(name)]).catch(() => {
    // Most networks never needed one.
  });
}

/** The routes that we wrote for this network, as the kernel has them now. */
async function currentRoutes(prefix: readonly string[], metric: string): Promise<Map<string, Hop>> {
  type Route = { dst: string; gateway?: string; dev?: string; metric?: number };
  const shown = ['route', 'show', 'proto', PROTOCOL];
  const four = await list<Route>(prefix, shown);
  // A kernel without IPv6 has none of its routes.
  const six = await list<Route>(prefix, ['-6', ...shown]).catch(() => []);
  const routes = [...four, ...six];
  const ours = routes.filter((route) => `${route.metric}` === metric);
  return new Map(
    ours.map(({ dst, gateway = '', dev }) => [dst, { via: gateway, ...(dev && { device: dev }) }]),
  );
}

/** Makes the overlay's device, again when the node's address has changed. */
async function ensureDevice({ name, own, prefix = [] }: RoutesConfig): Promise<void> {
  type Link = { linkinfo?: { info_data?: { local?: string } } };
  const device = overlayDevice(name);
  const [add = [], ...rest] = deviceCommands(name, own);
  const [link] = await list<Link>(prefix, ['-d', 'link', 'show', device]).catch(() => []);
  if (link && link.linkinfo?.info_data?.local !== own.nodeIp)
    await execute([...prefix, 'ip', 'link', 'delete', device]);
  if (link?.linkinfo?.info_data?.local !== own.nodeIp) await execute([...prefix, 'ip', ...add]);
  for (const args of rest) await execute([...prefix, 'ip', ...args]);
}

async function list<T>(prefix: readonly string[], args: readonly string[]): Promise<T[]> {
  const text = await execute([...prefix, 'ip', '-j', ...args]);
  // With no route at all, some versions print nothing instead of an empty list.
  return JSON.parse(text.trim() || '[]') as T[];
}

async function execute([program = 'ip', ...args]: readonly string[]): Promise<string> {
  return (await run(program, args, { timeout: TIMEOUT_MS })).stdout;
}
