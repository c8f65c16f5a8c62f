import { createHash } from 'node:crypto';
import { matchesLabels } from '#api/labels.ts';
import type { Namespace, NetworkPolicy, Pod } from '#api/types.ts';
import { formatAddress, parseCidr } from './addresses.ts';
import { type NamedPort, type PolicyPort, portMatches } from './policy-ports.ts';
import { emptyRuleset, type Ruleset } from './ruleset.ts';
import { familyWords, type NodeFacts } from './service-table.ts';

export type PolicyRulesInput = {
  policies: readonly NetworkPolicy[];
  /** Of the whole cluster: any of them may be a peer. */
  pods: readonly Pod[];
  namespaces: readonly Namespace[];
  node: NodeFacts;
};

type Spec = NonNullable<NetworkPolicy['spec']>;
type Peer = NonNullable<NonNullable<Spec['ingress']>[number]['from']>[number];
type Direction = 'ingress' | 'egress';
type Rule = { peers: readonly Peer[]; ports: readonly PolicyPort[] };

/** A pod as policies see it: no host network, not ended, with an address. */
type PodFacts = { pod: Pod; namespace: string; address: string };

type Context = {
  rules: Ruleset;
  node: NodeFacts;
  pods: readonly PodFacts[];
  labelsOf: ReadonlyMap<string, Record<string, string>>;
};

/** Maps of the fixed part of the table that isolated pods are entered in. */
const MAP = { ingress: 'isolated-receivers', egress: 'isolated-senders' } as const;
const MAX_NAME = 120;

/**
 * What the policies mean for the pods of one node: a pod that any policy selects for a direction
 * may, in that direction, do only what one of them allows. Pods under the same policies share a
 * chain, and peers stand in sets, so that a pod that comes or goes costs a few elements.
 *
 * Always possible: traffic between a pod and its own node (probes, DNS), a pod to itself, and
 * answers within connections that were allowed when they began.
 *
 * Source: networking.k8s.io/v1 NetworkPolicy; Kubernetes "Network Policies".
 */
export function policyRules({ policies, pods, namespaces, node }: PolicyRulesInput): Ruleset {
  const rules = emptyRuleset();
  if (policies.length === 0) return rules;
  const facts = pods.flatMap((pod) => podFacts(pod, node));
  const labelsOf = new Map(
    namespaces.map(({ metadata }) => [metadata.name ?? '', metadata.labels ?? {}]),
  );
  const context: Context = { rules, node, pods: facts, labelsOf };
  const own = facts.filter(({ pod }) => pod.spec.nodeName === node.nodeName);
  for (const direction of ['ingress', 'egress'] as const)
    addDirection(
      context,
      direction,
      own,
      policies.filter((policy) => governs(policy, direction)),
    );
  return rules;
}

function podFacts(pod: Pod, { family }: NodeFacts): PodFacts[] {
  const { spec, status, metadata } = pod;
  if (spec.hostNetwork || status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
  const addresses = [...(status?.podIPs ?? []).map(({ ip }) => ip), status?.podIP];
  const address = addresses.find((ip) => ip && ip.includes(':') === (family === 'IPv6'));
  return address ? [{ pod, namespace: metadata.namespace ?? '', address }] : [];
}

/** A policy that does not say is about ingress, and about egress when it has rules for that. */
function governs({ spec }: NetworkPolicy, direction: Direction): boolean {
  const types = spec?.policyTypes;
  if (types?.length) return types.some((type) => type.toLowerCase() === direction);
  return direction === 'ingress' || (spec?.egress?.length ?? 0) > 0;
}

function addDirection(
  context: Context,
  direction: Direction,
  own: readonly PodFacts[],
  policies: readonly NetworkPolicy[],
): void {
  const { rules } = context;
  const isolated = new Map<string, string>();
  const selves = rules.elements.get('selves') ?? new Map<string, string>();
  const written = new Set<NetworkPolicy>();
  for (const { pod, namespace, address } of own) {
    const mine = policies.filter(
      ({ metadata, spec }) =>
        metadata.namespace === namespace &&
        matchesLabels(spec?.podSelector ?? {}, pod.metadata.labels),
    );
    if (mine.length === 0) continue;
    for (const policy of mine) {
      if (!written.has(policy)) addPolicy(context, direction, policy);
      written.add(policy);
    }
    const names = mine.map((policy) => policyChain(policy, direction)).sort();
    const chain = `isolated-${direction}-${shortHash(names.join(' '))}`;
    if (!rules.chains.has(chain))
      rules.chains.set(chain, [...names.map((name) => `jump ${name}`), 'drop']);
    isolated.set(address, `goto ${chain}`);
    selves.set(`${address} . ${address}`, '');
  }
  if (isolated.size === 0) return;
  rules.elements.set(MAP[direction], isolated);
  rules.elements.set('selves', selves);
}

const shortHash = (text: string): string =>
  createHash('sha1').update(text).digest('hex').slice(0, 12);

function policyChain({ metadata }: NetworkPolicy, direction: Direction): string {
  const full = `${metadata.namespace}/${metadata.name}`;
  return `${direction}-${shortHash(full)}-${full}`.slice(0, MAX_NAME);
}

/** The chain of one policy accepts what it allows, and leaves the rest to the next. */
function addPolicy(context: Context, direction: Direction, policy: NetworkPolicy): void {
  const { rules, node } = context;
  const { ip } = familyWords(node.family);
  const allowed: string[] = [];
  for (const { peers, ports } of rulesOf(policy.spec, direction)) {
    const { matches, named } = portMatches(ports, ip);
    for (const port of named) addNamedPort(context, port);
    for (const from of peerMatches(context, direction, policy, peers))
      for (const port of matches)
        allowed.push([from, port, 'accept'].filter((part) => part !== '').join(' '));
  }
  rules.chains.set(policyChain(policy, direction), [...new Set(allowed)]);
}

function rulesOf(spec: NetworkPolicy['spec'], direction: Direction): Rule[] {
  const list =
    direction === 'ingress'
      ? (spec?.ingress ?? []).map((rule) => ({ peers: rule.from, ports: rule.ports }))
      : (spec?.egress ?? []).map((rule) => ({ peers: rule.to, ports: rule.ports }));
  return list.map(({ peers, ports }) => ({ peers: peers ?? [], ports: ports ?? [] }));
}

/** Who the other side may be, as alternatives in nft's words; one empty text for anybody. */
function peerMatches(
  context: Context,
  direction: Direction,
  policy: NetworkPolicy,
  peers: readonly Peer[],
): string[] {
  if (peers.length === 0) return [''];
  const { ip } = familyWords(context.node.family);
  const field = `${ip} ${direction === 'ingress' ? 'saddr' : 'daddr'}`;
  return peers.flatMap((peer) => {
    if (peer.ipBlock) return blockMatch(peer.ipBlock, field, context.node);
    return [`${field} @${peerSet(context, policy.metadata.namespace ?? '', peer)}`];
  });
}

function blockMatch(
  { cidr, except }: NonNullable<Peer['ipBlock']>,
  field: string,
  node: NodeFacts,
): string[] {
  const whole = networkOf(cidr, node);
  if (whole === undefined) return [];
  // One match each: a set of networks must not overlap, and exceptions may.
  const holes = (except ?? []).flatMap((hole) => networkOf(hole, node) ?? []);
  return [[`${field} ${whole}`, ...holes.map((hole) => `${field} != ${hole}`)].join(' ')];
}

/** A network of the family at hand, without host bits; undefined for others. */
function networkOf(cidr: string, node: NodeFacts): string | undefined {
  if (cidr.includes(':') !== (node.family === 'IPv6')) return undefined;
  const { family, first, prefix } = parseCidr(cidr);
  return `${formatAddress({ family, value: first })}/${prefix}`;
}

/** The set of all pods that a peer describes; equal descriptions share one. */
function peerSet({ rules, node, pods, labelsOf }: Context, own: string, peer: Peer): string {
  const { namespaceSelector, podSelector } = peer;
  const where = namespaceSelector ? { namespaceSelector } : { own };
  const name = `peers-${shortHash(JSON.stringify({ ...where, podSelector }))}`;
  if (rules.sets.has(name)) return name;
  const chosen = new Map<string, boolean>();
  const inNamespace = (namespace: string): boolean => {
    if (!namespaceSelector) return namespace === own;
    let answer = chosen.get(namespace);
    if (answer === undefined) {
      const labels = labelsOf.get(namespace);
      answer = labels !== undefined && matchesLabels(namespaceSelector, labels);
      chosen.set(namespace, answer);
    }
    return answer;
  };
  const members = pods.filter(
    ({ pod, namespace }) =>
      inNamespace(namespace) && matchesLabels(podSelector ?? {}, pod.metadata.labels),
  );
  rules.sets.set(name, `type ${familyWords(node.family).address};`);
  rules.elements.set(name, new Map(members.map(({ address }) => [address, ''])));
  return name;
}

/** The set of all places where a container port of this name can be reached. */
function addNamedPort({ rules, node, pods }: Context, { set, protocol, name }: NamedPort): void {
  if (rules.sets.has(set)) return;
  const places = new Map<string, string>();
  for (const { pod, address } of pods) {
    for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
      for (const port of container.ports ?? []) {
        if (port.name !== name || (port.protocol ?? 'TCP').toLowerCase() !== protocol) continue;
        places.set(`${address} . ${protocol} . ${port.containerPort}`, '');
      }
    }
  }
  const { address } = familyWords(node.family);
  rules.sets.set(set, `type ${address} . inet_proto . inet_service;`);
  rules.elements.set(set, places);
}
