import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import type { Node } from '#api/types.ts';

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

/** How to reach the pods of all other nodes that have a range and an address. */
export function wantedRoutes(nodes: readonly Node[], ownName: string): Map<string, string> {
  const routes = new Map<string, string>();
  for (const { metadata, spec, status } of nodes) {
    const via = status?.addresses?.find(
      ({ type, address }) => type === 'InternalIP' && !address.includes(':'),
    )?.address;
    const range = (spec?.podCIDRs ?? [spec?.podCIDR]).find((cidr) => cidr && !cidr.includes(':'));
    if (metadata.name !== ownName && via && range) routes.set(range, via);
  }
  return routes;
}

/** Arguments for ip(8), one command each, that lead from the routes there are to those wanted. */
export function routeChanges(current: Routes, wanted: Routes, metric: string): string[][] {
  const gone = [...current.keys()].filter((range) => !wanted.has(range));
  const come = [...wanted].filter(([range, via]) => current.get(range) !== via);
  const ours = ['proto', PROTOCOL, 'metric', metric];
  return [
    ...gone.map((range) => ['route', 'delete', range, ...ours]),
    ...come.map(([range, via]) => ['route', 'replace', range, 'via', via, ...ours]),
  ];
}

/** The routes that we wrote for this network, as the kernel has them now. */
async function currentRoutes(metric: string): Promise<Map<string, string>> {
  const { stdout } = await run('ip', ['-j', 'route', 'show', 'proto', PROTOCOL], {
    timeout: TIMEOUT_MS,
  });
  // With no route at all, some versions print nothing instead of an empty list.
  type Route = { dst: string; gateway?: string; metric?: number };
  const routes = (JSON.parse(stdout.trim() || '[]') as Route[]).filter(
    (route) => `${route.metric}` === metric,
  );
  return new Map(routes.map(({ dst, gateway }) => [dst, gateway ?? '']));
}

/**
 * Makes the kernel's routes of the network `name` those wanted. Throws an Error for one that the kernel refuses, after
 * having tried all: a node in another network segment cannot be a next hop.
 */
export async function applyRoutes(name: string, wanted: Routes): Promise<number> {
  const metric = metricOf(name);
  const changes = routeChanges(await currentRoutes(metric), wanted, metric);
  const failures: string[] = [];
  for (const args of changes) {
    try {
      await run('ip', args, { timeout: TIMEOUT_MS });
    } catch (error) {
      failures.push(`ip ${args.join(' ')}: ${(error as { stderr?: string }).stderr?.trim()}`);
    }
  }
  if (failures.length > 0) throw new Error(failures.join('; '));
  return changes.length;
}
