import type { Random } from '#base/random.ts';
import { randomInt } from '#base/random.ts';
import {
  type CycleContext,
  type Plugin,
  type Refusal,
  SKIP,
  type WeightedPlugin,
} from '#scheduler/plugin.ts';
import {
  type ClusterView,
  copyNode,
  type NodeView,
  type PodView,
  put,
} from '#scheduler/snapshot.ts';

/** What a cycle decided; nothing has been done yet. */
export type Decision =
  | { type: 'bind'; node: string; feasible: number; scores: Scored[] }
  | { type: 'unschedulable'; refusals: Map<string, Refusal>; nodes: number };

export type Scored = { node: string; score: number };

/**
 * Below this many nodes all are looked at; above, enough feasible ones are found and the search
 * goes on next time where it stopped. Source: upstream's minFeasibleNodesToFind and its adaptive
 * percentage.
 */
const MIN_FEASIBLE = 100;

/** How many feasible nodes are enough among `nodes`. */
export function enoughNodes(nodes: number): number {
  if (nodes <= MIN_FEASIBLE) return nodes;
  const percentage = Math.max(5, 50 - Math.floor(nodes / 125));
  return Math.max(MIN_FEASIBLE, Math.floor((nodes * percentage) / 100));
}

/** Where the next search begins, so that all nodes get their turn. */
export type SearchStart = { index: number };

/**
 * One scheduling cycle: filter, score, choose. Pure over the view: one synchronous turn, so nothing
 * changes under it. Among the best, chance decides.
 */
export function decide(
  pod: PodView,
  cluster: ClusterView,
  plugins: readonly WeightedPlugin[],
  options: { random: Random; start: SearchStart },
): Decision {
  const context: CycleContext = { pod, cluster, state: new Map() };
  const all = cluster.nodes();
  const refusals = new Map<string, Refusal>();
  const prepared = prepareFilters(context, plugins);
  if (!prepared.filters) {
    for (const node of all) refusals.set(node.name, prepared.refusal);
    return { type: 'unschedulable', refusals, nodes: all.length };
  }
  const search = { refusals, start: options.start };
  const feasible = findFeasible(context, all, prepared.filters, search);
  if (feasible.length === 0) return { type: 'unschedulable', refusals, nodes: all.length };
  const scores = scoreNodes(context, feasible, plugins);
  const best = scores.reduce((max, { score }) => Math.max(max, score), Number.NEGATIVE_INFINITY);
  const winners = scores.filter(({ score }) => score === best);
  const winner = winners[randomInt(options.random, winners.length)] ?? winners[0];
  return { type: 'bind', node: winner?.node ?? '', feasible: feasible.length, scores };
}

export type Filters = readonly Plugin[];

/** Lets the plugins look at the pod: those that have something to filter, or why no node will do. */
export function prepareFilters(
  context: CycleContext,
  plugins: readonly WeightedPlugin[],
): { filters: Filters } | { filters?: undefined; refusal: Refusal } {
  const filters: Plugin[] = [];
  for (const { plugin } of plugins) {
    const answer = plugin.preFilter?.(context) ?? null;
    if (answer === SKIP) continue;
    if (answer) return { refusal: answer };
    if (plugin.filter) filters.push(plugin);
  }
  return { filters };
}

function findFeasible(
  context: CycleContext,
  all: readonly NodeView[],
  filters: Filters,
  search: { refusals: Map<string, Refusal>; start: SearchStart },
): NodeView[] {
  const enough = enoughNodes(all.length);
  const feasible: NodeView[] = [];
  let looked = 0;
  for (; looked < all.length && feasible.length < enough; looked++) {
    const node = all[(search.start.index + looked) % all.length];
    if (!node) break;
    const refusal = firstRefusal(context, withNominated(context, node), filters);
    if (refusal) search.refusals.set(node.name, refusal);
    else feasible.push(node);
  }
  search.start.index = all.length === 0 ? 0 : (search.start.index + looked) % all.length;
  return feasible;
}

/** The node as it will be once the more important pods that wait for its room have come. */
function withNominated({ pod, cluster }: CycleContext, node: NodeView): NodeView {
  const nominated = cluster.nominatedTo(node.name);
  if (nominated.length === 0) return node;
  const waiting = nominated.filter((o) => o.key !== pod.key && o.priority >= pod.priority);
  if (waiting.length === 0) return node;
  const later = copyNode(node);
  for (const other of waiting) put(later, other);
  return later;
}

/** Why this node cannot take the pod; null when it can. */
export function firstRefusal(
  context: CycleContext,
  node: NodeView,
  filters: Filters,
): Refusal | null {
  for (const plugin of filters) {
    const refusal = plugin.filter?.(context, node);
    if (refusal) return refusal;
  }
  return null;
}

function scoreNodes(
  context: CycleContext,
  nodes: readonly NodeView[],
  plugins: readonly WeightedPlugin[],
): Scored[] {
  const totals = new Array<number>(nodes.length).fill(0);
  if (nodes.length > 1) {
    for (const { plugin, weight } of plugins) {
      if (weight === 0 || !plugin.score) continue;
      if (plugin.preScore?.(context, nodes) === SKIP) continue;
      const scores = nodes.map((node) => plugin.score?.(context, node) ?? 0);
      plugin.normalize?.(scores, context);
      for (let i = 0; i < scores.length; i++) {
        totals[i] = (totals[i] ?? 0) + (scores[i] ?? 0) * weight;
      }
    }
  }
  return nodes.map((node, i) => ({ node: node.name, score: totals[i] ?? 0 }));
}

/**
 * The message of PodScheduled=False: per reason how many nodes, as upstream words it, then what
 * would help. `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were unschedulable. ...`
 */
export function unschedulableMessage(
  decision: Extract<Decision, { type: 'unschedulable' }>,
  preemption: string,
): string {
  if (decision.nodes === 0) {
    return 'no nodes available to schedule pods. Add a node: none has registered with this cluster.';
  }
  const counts = new Map<string, number>();
  for (const { reason } of decision.refusals.values()) {
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  const reasons = [...counts].map(([reason, count]) => `${count} ${reason}`).sort();
  const head = `0/${decision.nodes} nodes are available: ${reasons.join(', ')}.`;
  return [head, preemption, helpOf(decision.refusals)].filter(Boolean).join(' ');
}

/** One help per reason, from the first node that gave it; at most three, they are meant to be read. */
function helpOf(refusals: ReadonlyMap<string, Refusal>): string {
  const helps = new Map<string, string>();
  for (const { reason, help } of refusals.values()) {
    if (help && !helps.has(reason)) helps.set(reason, help);
  }
  if (helps.size === 0) return '';
  return `What would help: ${[...helps.values()].slice(0, 3).join('; ')}.`;
}
