import { createHash } from 'node:crypto';
import type { NetworkPolicy } from '#api/types.ts';

type Spec = NonNullable<NetworkPolicy['spec']>;
export type PolicyPort = NonNullable<NonNullable<Spec['ingress']>[number]['ports']>[number];

/** A container port by name; which number that is, each pod says for itself. */
export type NamedPort = { set: string; protocol: string; name: string };

/** What a packet's port has to be, as alternatives in nft's words; one empty text for any port. */
export type PortMatches = { matches: string[]; named: NamedPort[] };

/**
 * The ports of one rule of a policy. Numbers and ranges of one protocol become one match, whatever
 * way they overlap. Source: networking.k8s.io/v1 NetworkPolicyPort.
 */
export function portMatches(ports: readonly PolicyPort[], ip: 'ip' | 'ip6'): PortMatches {
  if (ports.length === 0) return { matches: [''], named: [] };
  const ranges = new Map<string, [number, number][]>();
  const named: NamedPort[] = [];
  for (const { protocol, port, endPort } of ports) {
    const word = (protocol ?? 'TCP').toLowerCase();
    if (typeof port === 'string') {
      named.push({ set: portSetName(word, port), protocol: word, name: port });
      continue;
    }
    const range: [number, number] = port == null ? [0, MAX_PORT] : [port, endPort ?? port];
    ranges.set(word, [...(ranges.get(word) ?? []), range]);
  }
  const numbered = [...ranges].map(([protocol, list]) => {
    const merged = mergeRanges(list);
    const [first] = merged;
    if (first?.[0] === 0 && first[1] === MAX_PORT) return `meta l4proto ${protocol}`;
    const texts = merged.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
    return `meta l4proto ${protocol} th dport { ${texts.join(', ')} }`;
  });
  const byName = named.map(({ set }) => `${ip} daddr . meta l4proto . th dport @${set}`);
  return { matches: [...numbered, ...new Set(byName)], named };
}

const MAX_PORT = 65_535;

function portSetName(protocol: string, name: string): string {
  const hash = createHash('sha1').update(`${protocol}/${name}`).digest('hex').slice(0, 8);
  return `named-${hash}-${protocol}-${name}`;
}

/** nft refuses ranges that overlap. */
function mergeRanges(ranges: readonly [number, number][]): [number, number][] {
  const merged: [number, number][] = [];
  for (const [from, to] of [...ranges].sort(([a], [b]) => a - b)) {
    const last = merged.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}
