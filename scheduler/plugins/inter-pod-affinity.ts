import type * as models from '@kubernetes/client-node';
import type { Plain, Pod } from '#api/types.ts';
import { type CycleContext, MAX_SCORE, type Plugin, SKIP } from '#scheduler/plugin.ts';
import {
  countSelected,
  type PodSelection,
  selectionOf,
  selectsPod,
} from '#scheduler/pod-selection.ts';
import type { NodeView, PodView } from '#scheduler/snapshot.ts';

type Term = Plain<models.V1PodAffinityTerm>;
type Weighted = { weight: number; term: Term };

/** What stands in each topology domain: `key=value` → count, or weight. */
type Domains = Map<string, number>;

type State = {
  affinity: readonly Term[];
  antiAffinity: readonly Term[];
  /** Pods that match all affinity terms, by the domains of every term. */
  near: Domains;
  /** Pods that match an anti-affinity term, by its domains. */
  away: Domains;
  /** Domains that pods already there keep this pod out of. */
  closed: Domains;
  /** Nothing matches the affinity terms yet, but the pod itself would: it may be the first. */
  mayBeFirst: boolean;
};

const NAME = 'InterPodAffinity';
const SCORE = `${NAME}/score`;
/** How much it counts that the pod is where a pod there requires its like. Source: upstream's default. */
const HARD_AFFINITY_WEIGHT = 1;

const requiredAffinity = ({ spec: { affinity } }: Pod): readonly Term[] =>
  affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
const requiredAntiAffinity = ({ spec: { affinity } }: Pod): readonly Term[] =>
  affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];

/** Preferred terms; those that would rather be apart weigh below zero. */
function preferredTerms({ spec: { affinity } }: Pod): Weighted[] {
  const near = affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  const away = affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return [
    ...near.map(({ weight, podAffinityTerm: term }) => ({ weight, term })),
    ...away.map(({ weight, podAffinityTerm: term }) => ({ weight: -weight, term })),
  ];
}

/** Pods near to, or away from, other pods. Source: core/v1 PodAffinityTerm; upstream's plugin. */
export const interPodAffinity: Plugin = {
  name: NAME,
  preFilter(context) {
    const { pod } = context.pod;
    const affinity = requiredAffinity(pod);
    const antiAffinity = requiredAntiAffinity(pod);
    const closed = closedDomains(context);
    if (affinity.length + antiAffinity.length + closed.size === 0) return SKIP;
    const near = domainsOfAll(context, affinity);
    const mayBeFirst = near.size === 0 && selectionOfAll(context, affinity).matches(context.pod);
    const away: Domains = new Map();
    for (const term of antiAffinity) addDomains(away, context, { weight: 1, term });
    const state: State = { affinity, antiAffinity, near, away, closed, mayBeFirst };
    context.state.set(NAME, state);
    return null;
  },
  filter({ state }, node) {
    const { affinity, antiAffinity, near, away, closed, mayBeFirst } = state.get(NAME) as State;
    const isNear = affinity.every(({ topologyKey }) => {
      const domain = domainOf(node, topologyKey);
      return domain !== undefined && (mayBeFirst || (near.get(domain) ?? 0) > 0);
    });
    if (!isNear) return { reason: "node(s) didn't match pod affinity rules", unresolvable: true };
    const isAway = antiAffinity.every(
      ({ topologyKey }) => (away.get(domainOf(node, topologyKey) ?? '') ?? 0) === 0,
    );
    if (!isAway) return { reason: "node(s) didn't match pod anti-affinity rules" };
    if (closed.size === 0) return null;
    for (const [key, value] of Object.entries(node.node.metadata.labels ?? {})) {
      if (closed.has(`${key}=${value}`)) {
        return { reason: "node(s) didn't satisfy existing pods anti-affinity rules" };
      }
    }
    return null;
  },
  preScore(context) {
    const weights: Domains = new Map();
    for (const preferred of preferredTerms(context.pod.pod)) {
      addDomains(weights, context, preferred);
    }
    addWishesOfOthers(weights, context);
    if (weights.size === 0) return SKIP;
    context.state.set(SCORE, weights);
    return null;
  },
  score({ state }, node) {
    const weights = state.get(SCORE) as Domains;
    let sum = 0;
    for (const [key, value] of Object.entries(node.node.metadata.labels ?? {})) {
      sum += weights.get(`${key}=${value}`) ?? 0;
    }
    return sum;
  },
  normalize(scores) {
    const low = scores.reduce((least, score) => Math.min(least, score), Number.POSITIVE_INFINITY);
    const high = scores.reduce((most, score) => Math.max(most, score), Number.NEGATIVE_INFINITY);
    for (let i = 0; i < scores.length; i++) {
      const above = (scores[i] ?? 0) - low;
      scores[i] = high === low ? 0 : Math.floor((MAX_SCORE * above) / (high - low));
    }
  },
};

/** Pods that match every one of the terms. */
function selectionOfAll(context: CycleContext, terms: readonly Term[]): PodSelection {
  const parts = terms.map((term) => selectionOf(term, context.pod.pod, context.cluster));
  const keys = parts.map(({ key }) => key);
  return {
    key: keys.includes(null) ? null : keys.join('&'),
    matches: (pod) => parts.every((part) => part.matches(pod)),
  };
}

/** A pod counts as near only when it matches all terms; it then counts in the domain of each. */
function domainsOfAll(context: CycleContext, terms: readonly Term[]): Domains {
  const domains: Domains = new Map();
  if (terms.length === 0) return domains;
  const selection = selectionOfAll(context, terms);
  for (const node of context.cluster.nodes()) {
    const count = countSelected(node, selection);
    if (count === 0) continue;
    for (const { topologyKey } of terms) addAt(domains, node, topologyKey, count);
  }
  return domains;
}

/** Weighs the domains in which pods stand that a term of this pod selects. */
function addDomains(domains: Domains, context: CycleContext, { term, weight }: Weighted): void {
  const selection = selectionOf(term, context.pod.pod, context.cluster);
  for (const node of context.cluster.nodes()) {
    const count = countSelected(node, selection);
    if (count > 0) addAt(domains, node, term.topologyKey, count * weight);
  }
}

/** Where pods stand whose required anti-affinity selects this pod. */
function closedDomains(context: CycleContext): Domains {
  const closed: Domains = new Map();
  forOthersWithAffinity(context, (node, other) => {
    for (const term of requiredAntiAffinity(other.pod)) {
      if (selectsPod(term, other.pod, context.pod, context.cluster)) {
        addAt(closed, node, term.topologyKey, 1);
      }
    }
  });
  return closed;
}

/** The wish to be near one another is heard from both sides: pods already there may have it too. */
function addWishesOfOthers(weights: Domains, context: CycleContext): void {
  forOthersWithAffinity(context, (node, { pod }) => {
    const required = requiredAffinity(pod).map((term) => ({ weight: HARD_AFFINITY_WEIGHT, term }));
    for (const { term, weight } of [...required, ...preferredTerms(pod)]) {
      if (selectsPod(term, pod, context.pod, context.cluster)) {
        addAt(weights, node, term.topologyKey, weight);
      }
    }
  });
}

function forOthersWithAffinity(
  { cluster }: CycleContext,
  each: (node: NodeView, other: PodView) => void,
): void {
  for (const node of cluster.nodesWithAffinity()) {
    for (const other of node.podsWithAffinity.values()) each(node, other);
  }
}

function addAt(domains: Domains, node: NodeView, topologyKey: string, amount: number): void {
  const domain = domainOf(node, topologyKey);
  if (domain !== undefined) domains.set(domain, (domains.get(domain) ?? 0) + amount);
}

function domainOf(node: NodeView, topologyKey: string): string | undefined {
  const value = node.node.metadata.labels?.[topologyKey];
  return value === undefined ? undefined : `${topologyKey}=${value}`;
}
