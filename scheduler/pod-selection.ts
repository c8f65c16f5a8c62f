import { matchesLabels } from '#api/labels.ts';
import type { LabelSelector, Pod } from '#api/types.ts';
import type { ClusterView, NodeView, PodView } from '#scheduler/snapshot.ts';

/** What selects pods: parts of a pod affinity term, or of a topology spread constraint. */
export type SelectionTerms = {
  labelSelector?: LabelSelector;
  namespaces?: string[];
  namespaceSelector?: LabelSelector;
  matchLabelKeys?: string[];
};

/** Which pods to count on a node. */
export type PodSelection = {
  matches: (pod: PodView) => boolean;
  /**
   * The same text selects the same pods as long as none changes; null where something else than
   * the pods decides (labels of namespaces), so that counts must not be kept.
   */
  key: string | null;
};

/** Counts kept per node; beyond them all are forgotten. A pod asks for a handful at a time. */
const MAX_KEPT = 32;

/**
 * Do the terms of `owner` select the pod? Without namespaces they look at the owner's neighbours;
 * with a namespace selector, at the namespaces it matches, besides the named ones.
 * Source: core/v1 PodAffinityTerm, TopologySpreadConstraint.
 */
export function selectsPod(
  terms: SelectionTerms,
  owner: Pod,
  { pod: { metadata } }: PodView,
  cluster: ClusterView,
): boolean {
  const { labelSelector, namespaceSelector, namespaces = [], matchLabelKeys = [] } = terms;
  const namespace = metadata.namespace ?? '';
  const isNamed =
    namespaces.length === 0 && !namespaceSelector
      ? namespace === owner.metadata.namespace
      : namespaces.includes(namespace);
  if (!labelSelector) return false;
  if (!isNamed) {
    if (!namespaceSelector) return false;
    if (!matchesLabels(namespaceSelector, cluster.namespaceLabels(namespace))) return false;
  }
  for (const label of matchLabelKeys) {
    const wanted = owner.metadata.labels?.[label];
    if (wanted !== undefined && metadata.labels?.[label] !== wanted) return false;
  }
  return matchesLabels(labelSelector, metadata.labels);
}

/** The pods that the terms of `owner` select. */
export function selectionOf(terms: SelectionTerms, owner: Pod, cluster: ClusterView): PodSelection {
  const { labelSelector, namespaces, namespaceSelector, matchLabelKeys = [] } = terms;
  const alike = matchLabelKeys.map((label) => owner.metadata.labels?.[label] ?? null);
  const parts = [owner.metadata.namespace, namespaces, labelSelector, matchLabelKeys, alike];
  return {
    key: namespaceSelector ? null : JSON.stringify(parts),
    matches: (pod) => selectsPod(terms, owner, pod, cluster),
  };
}

/** How many pods of the node are selected. */
export function countSelected(node: NodeView, { key, matches }: PodSelection): number {
  const known = key === null ? undefined : node.selected.get(key);
  if (known !== undefined) return known;
  let count = 0;
  for (const other of node.pods.values()) if (matches(other)) count++;
  if (key !== null) {
    if (node.selected.size >= MAX_KEPT) node.selected.clear();
    node.selected.set(key, count);
  }
  return count;
}
