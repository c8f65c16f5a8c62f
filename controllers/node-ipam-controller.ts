import type { Node } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, type Plan, runController } from '#client/controller.ts';
import { nodes } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { overlaps, parseRange, type Range, rangeText, splitRange } from '#controllers/ip-range.ts';

/** Bits of a node's share. Source: --node-cidr-mask-size-ipv4 and -ipv6. */
const NODE_BITS = { IPv4: 24, IPv6: 64 };

type Observed = { nodes: readonly Node[]; ranges: readonly Range[] };

/**
 * Gives each node without one the lowest free part of each range. All nodes are planned at once,
 * so that no two get the same. Pure.
 */
export function planNodeRanges({ nodes: all, ranges }: Observed): Plan {
  const taken = all.flatMap(rangesOf);
  const actions: Action[] = [];
  const waiting = all.filter((node) => !node.spec?.podCIDR && !node.metadata.deletionTimestamp);
  for (const node of waiting.toSorted((a, b) => nameOf(a).localeCompare(nameOf(b)))) {
    const found = ranges.map((range) => firstFree(range, taken));
    const complete = found.filter((range) => range !== undefined);
    if (complete.length < ranges.length) {
      const message = `Node ${nameOf(node)} status is now: CIDRNotAvailable`;
      const note = { type: 'Normal', reason: 'CIDRNotAvailable', message } as const;
      actions.push({ type: 'event', about: node, note });
      continue;
    }
    taken.push(...complete);
    const podCIDRs = complete.map(rangeText);
    const body = { spec: { podCIDR: podCIDRs[0], podCIDRs } };
    const patch = { type: 'strategic', body } as const;
    actions.push({ type: 'patch', resource: nodes, key: { name: nameOf(node) }, patch });
  }
  return { actions };
}

const nameOf = (node: Node): string => node.metadata.name ?? '';

function rangesOf(node: Node): Range[] {
  const { podCIDR, podCIDRs } = node.spec ?? {};
  const texts = podCIDRs?.length ? podCIDRs : podCIDR ? [podCIDR] : [];
  return texts.map(parseRange);
}

function firstFree(range: Range, taken: readonly Range[]): Range | undefined {
  for (const part of splitRange(range, NODE_BITS[range.family])) {
    if (!taken.some((other) => overlaps(part, other))) return part;
  }
  return undefined;
}

/** Hands out pod networks: spec.podCIDR of every node, out of --cluster-cidr. */
export const nodeIpamController: ControllerDefinition = {
  name: 'node-ipam-controller',
  async run(setup) {
    const { clusterCidr } = setup.config;
    if (clusterCidr === '') return;
    const ranges = clusterCidr.split(',').map(parseRange);
    const cache = setup.informers.of(nodes);
    await runController<Observed>(
      {
        name: 'node-ipam-controller',
        workers: 1,
        caches: [cacheOf(nodes, cache)],
        triggers(add) {
          cache.onChange(({ type, object }) => {
            if (type === 'deleted' || !object.spec?.podCIDR) add('all');
          });
        },
        observe: () => ({ nodes: cache.list(), ranges }),
        plan: planNodeRanges,
      },
      { ...setup, recorder: setup.recorderOf('cidrAllocator') },
    );
  },
};
