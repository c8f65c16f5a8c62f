import type * as models from '@kubernetes/client-node';
import { matchesLabels } from '#api/labels.ts';
import type { Plain, Pod } from '#api/types.ts';
import { type CycleContext, MAX_SCORE, type Plugin } from '#scheduler/plugin.ts';
import type { NodeView, PodView } from '#scheduler/snapshot.ts';

type Term = Plain<models.V1PodAffinityTerm>;

/** How many matching pods stand in each topology domain: `key=value` → count. */
type Domains = Map<string, number>;

type State = {
  affinity: Domains[];
  antiAffinity: Domains[];
  /** Domains that pods already running keep this pod out of. */
  closed: Set<string>;
  /** Nothing matches any affinity term yet, but the pod itself would: it may be the first. */
  mayBeFirst: boolean;
};

const NAME = 'InterPodAffinity';

const requiredAffinity = (pod: Pod): Term[] =>
  pod.spec.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
const requiredAntiAffinity = (pod: Pod): Term[] =>
  pod.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
const preferredTerms = (pod: Pod): { weight: number; term: Term }[] => [
  ...(pod.spec.affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(
    (p) => ({ weight: p.weight, term: p.podAffinityTerm }),
  ),
  ...(
    pod.spec.affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []
  ).map((p) => ({ weight: -p.weight, term: p.podAffinityTerm })),
];

/** Pods near to, or away from, other pods. Source: core/v1 PodAffinityTerm. */
export const interPodAffinity: Plugin = {
  name: NAME,
  preFilter(context) {
    context.state.set(NAME, survey(context));
    return null;
  },
  filter({ pod, state }, node) {
    const { affinity, antiAffinity, closed, mayBeFirst } = state.get(NAME) as State;
    const near = requiredAffinity(pod.pod).every((term, i) => {
      const domain = domainOf(node, term.topologyKey);
      return domain !== undefined && ((affinity[i]?.get(domain) ?? 0) > 0 || mayBeFirst);
    });
    if (!near) return { reason: "node(s) didn't match pod affinity rules" };
    const away = requiredAntiAffinity(pod.pod).every((term, i) => {
      const domain = domainOf(node, term.topologyKey);
      return domain === undefined || (antiAffinity[i]?.get(domain) ?? 0) === 0;
    });
    if (!away) return { reason: "node(s) didn't match pod anti-affinity rules" };
    for (const [key, value] of Object.entries(node.node.metadata.labels ?? {})) {
      if (closed.has(`${key}=${value}`)) {
        return { reason: "node(s) didn't satisfy existing pods anti-affinity rules" };
      }
    }
    return null;
  },
  preScore(context, nodes) {
    const terms = preferredTerms(context.pod.pod);
    const weights: Domains = new Map();
    for (const { weight, term } of terms) {
      for (const [domain, count] of countByDomain(context, term, context.pod.pod)) {
        weights.set(domain, (weights.get(domain) ?? 0) + weight * count);
      }
    }
    context.state.set(`${NAME}/score`, terms.length === 0 || nodes.length === 0 ? null : weights);
  },
  score({ state, pod }, node) {
    const weights = state.get(`${NAME}/score`) as Domains | null;
    if (!weights) return 0;
    const keys = new Set(preferredTerms(pod.pod).map(({ term }) => term.topologyKey));
    let sum = 0;
    for (const key of keys) sum += weights.get(domainOf(node, key) ?? '') ?? 0;
    return sum;
  },
  normalize(scores) {
    const low = Math.min(...scores, 0);
    const high = Math.max(...scores, 0);
    for (let i = 0; i < scores.length; i++) {
      scores[i] =
        high === low ? 0 : Math.floor((MAX_SCORE * ((scores[i] ?? 0) - low)) / (high - low));
    }
  },
};

function survey(context: CycleContext): State {
  const { pod, cluster } = context;
  const wanted = requiredAffinity(pod.pod);
  const affinity = wanted.map((term) => countByDomain(context, term, pod.pod));
  const closed = new Set<string>();
  for (const node of cluster.nodes()) {
    for (const other of node.pods.values()) {
      for (const term of requiredAntiAffinity(other.pod)) {
        const domain = domainOf(node, term.topologyKey);
        if (domain !== undefined && selects(context, term, other.pod, pod)) closed.add(domain);
      }
    }
  }
  return {
    affinity,
    antiAffinity: requiredAntiAffinity(pod.pod).map((term) =>
      countByDomain(context, term, pod.pod),
    ),
    closed,
    mayBeFirst:
      affinity.every((domains) => domains.size === 0) &&
      wanted.every((term) => selects(context, term, pod.pod, pod)),
  };
}

/** Pods that a term of `owner` selects, counted by topology domain. */
function countByDomain(context: CycleContext, term: Term, owner: Pod): Domains {
  const domains: Domains = new Map();
  for (const node of context.cluster.nodes()) {
    const domain = domainOf(node, term.topologyKey);
    if (domain === undefined) continue;
    for (const other of node.pods.values()) {
      if (other.pod.metadata.deletionTimestamp) continue;
      if (selects(context, term, owner, other)) domains.set(domain, (domains.get(domain) ?? 0) + 1);
    }
  }
  return domains;
}

function selects(context: CycleContext, term: Term, owner: Pod, other: PodView): boolean {
  const namespace = other.pod.metadata.namespace ?? '';
  const named = term.namespaces ?? [];
  const byNamespace = term.namespaceSelector
    ? named.includes(namespace) ||
      matchesLabels(term.namespaceSelector, context.cluster.namespaceLabels(namespace))
    : named.length > 0
      ? named.includes(namespace)
      : namespace === owner.metadata.namespace;
  if (!byNamespace || !term.labelSelector) return false;
  const labels = other.pod.metadata.labels ?? {};
  const same = (term.matchLabelKeys ?? []).every(
    (key) =>
      owner.metadata.labels?.[key] === undefined || owner.metadata.labels[key] === labels[key],
  );
  return same && matchesLabels(term.labelSelector, labels);
}

function domainOf(node: NodeView, topologyKey: string): string | undefined {
  const value = node.node.metadata.labels?.[topologyKey];
  return value === undefined ? undefined : `${topologyKey}=${value}`;
}
