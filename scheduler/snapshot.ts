import type {
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodDisruptionBudget,
  StorageClass,
  VolumeAttachment,
} from '#api/types.ts';
import {
  addAmounts,
  type Amounts,
  amountsOf,
  podAmounts,
  subtractAmounts,
} from '#api/pod-resources.ts';

/** A pod as the plugins need it: what is expensive to derive is derived once. */
export type PodView = {
  pod: Pod;
  key: string;
  requests: Amounts;
  /** Requests with upstream's floor for pods that ask for nothing: used by scores only. */
  scoredRequests: Amounts;
  priority: number;
  hostPorts: readonly HostPort[];
  /** Says where other pods should be, relative to this one. */
  hasPodAffinity: boolean;
};

export type HostPort = { ip: string; protocol: string; port: number };

/** A node and what is on it, assumed pods included. */
export type NodeView = {
  name: string;
  node: Node;
  allocatable: Amounts;
  requested: Amounts;
  scoredRequested: Amounts;
  pods: Map<string, PodView>;
  /** Those of the pods that have something to say on where others should be. */
  podsWithAffinity: Map<string, PodView>;
  /** Counts of pods by selection (pod-selection.ts), until the pods change. */
  selected: Map<string, number>;
  /** Image name → size, bytes. */
  images: Map<string, number>;
};

/** All nodes, in the order of their names. */
export type ClusterView = {
  nodes(): readonly NodeView[];
  /** At least those on which a pod says where others should be. */
  nodesWithAffinity(): readonly NodeView[];
  node(name: string): NodeView | undefined;
  /** Pods that preempted others on a node and wait for the room; not counted in its `pods`. */
  nominatedTo(name: string): readonly PodView[];
  /** Labels of a namespace; empty when it is not known. */
  namespaceLabels(namespace: string): Readonly<Record<string, string>>;
  /** Undefined where volumes are not looked at. */
  readonly storage?: StorageView | undefined;
  /** Budgets of a namespace: what may be disrupted at once. */
  budgets(namespace: string): readonly PodDisruptionBudget[];
};

/** Claims and volumes, as far as they decide where a pod can be. */
export type StorageView = {
  claim(namespace: string, name: string): PersistentVolumeClaim | undefined;
  volume(name: string): PersistentVolume | undefined;
  volumes(): readonly PersistentVolume[];
  storageClass(name: string): StorageClass | undefined;
  csiNode(name: string): CSINode | undefined;
  csiDriver(name: string): CSIDriver | undefined;
  /** What is left of each class's storage, by part of the topology. */
  capacities(): readonly CSIStorageCapacity[];
  /** What is attached to a node, or about to be. */
  attachments(node: string): readonly VolumeAttachment[];
};

/** A pod without requests counts as this much when nodes are scored. Source: upstream's scheduler. */
const DEFAULT_SCORED: readonly (readonly [string, number])[] = [
  ['cpu', 100],
  ['memory', 200 * 1024 * 1024],
];

export const podKey = (pod: Pod): string => `${pod.metadata.namespace}/${pod.metadata.name}`;

export function podView(pod: Pod): PodView {
  const requests = podAmounts(pod.spec, 'requests');
  const scoredRequests = new Map(requests);
  for (const [name, amount] of DEFAULT_SCORED) {
    if (!scoredRequests.get(name)) scoredRequests.set(name, amount);
  }
  return {
    pod,
    key: podKey(pod),
    requests,
    scoredRequests,
    priority: pod.spec.priority ?? 0,
    hostPorts: hostPortsOf(pod),
    hasPodAffinity: Boolean(pod.spec.affinity?.podAffinity ?? pod.spec.affinity?.podAntiAffinity),
  };
}

function hostPortsOf(pod: Pod): HostPort[] {
  return [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].flatMap((container) =>
    (container.ports ?? [])
      .filter((port) => (port.hostPort ?? 0) > 0)
      .map((port) => ({
        ip: port.hostIP || '0.0.0.0',
        protocol: port.protocol ?? 'TCP',
        port: port.hostPort ?? 0,
      })),
  );
}

/** What the view knows besides nodes and pods; each as its informer has it. */
export type ClusterSources = {
  namespaceLabels?(namespace: string): Readonly<Record<string, string>> | undefined;
  storage?: StorageView;
  budgets?(namespace: string): readonly PodDisruptionBudget[];
};

const NO_LABELS: Readonly<Record<string, string>> = {};

/** Has ended for good: holds nothing any more. */
export const isTerminal = (pod: Pod): boolean =>
  pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

/**
 * The live view of the cluster. A scheduling cycle is one synchronous turn, so the view itself is
 * the snapshot: nothing is copied. A pod is assumed on its node from the decision on until the
 * informer shows it bound, or the binding failed and it is forgotten.
 */
export class ClusterCache implements ClusterView {
  readonly #sources: ClusterSources;
  readonly #nodes = new Map<string, NodeView>();
  /** Where each counted pod is. */
  readonly #places = new Map<string, { node: string; assumed: boolean }>();
  /** Pods bound to nodes that are not known (yet). */
  readonly #homeless = new Map<string, Map<string, PodView>>();
  /** Pod key → who waits for room on which node. */
  readonly #nominated = new Map<string, { node: string; pod: PodView }>();
  #sorted: NodeView[] | undefined;
  #withAffinity: NodeView[] | undefined;

  constructor(sources: ClusterSources = {}) {
    this.#sources = sources;
  }

  get storage(): StorageView | undefined {
    return this.#sources.storage;
  }

  namespaceLabels(namespace: string): Readonly<Record<string, string>> {
    return this.#sources.namespaceLabels?.(namespace) ?? NO_LABELS;
  }

  budgets(namespace: string): readonly PodDisruptionBudget[] {
    return this.#sources.budgets?.(namespace) ?? [];
  }

  nominatedTo(name: string): readonly PodView[] {
    if (this.#nominated.size === 0) return [];
    return [...this.#nominated.values()].filter((n) => n.node === name).map((n) => n.pod);
  }

  nominate(pod: PodView, node: string): void {
    this.#nominated.set(pod.key, { node, pod });
  }

  nodes(): readonly NodeView[] {
    this.#sorted ??= [...this.#nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    return this.#sorted;
  }

  nodesWithAffinity(): readonly NodeView[] {
    this.#withAffinity ??= this.nodes().filter((node) => node.podsWithAffinity.size > 0);
    return this.#withAffinity;
  }

  node(name: string): NodeView | undefined {
    return this.#nodes.get(name);
  }

  setNode(node: Node): void {
    const name = node.metadata.name ?? '';
    const old = this.#nodes.get(name);
    const images = new Map<string, number>();
    for (const image of node.status?.images ?? []) {
      for (const imageName of image.names ?? []) images.set(imageName, image.sizeBytes ?? 0);
    }
    const allocatable = amountsOf(node.status?.allocatable);
    if (old) {
      Object.assign(old, { node, allocatable, images });
      return;
    }
    const view: NodeView = {
      name,
      node,
      allocatable,
      images,
      requested: new Map(),
      scoredRequested: new Map(),
      pods: new Map(),
      podsWithAffinity: new Map(),
      selected: new Map(),
    };
    this.#nodes.set(name, view);
    this.#nodesChanged();
    for (const pod of this.#homeless.get(name)?.values() ?? []) put(view, pod);
    this.#homeless.delete(name);
  }

  removeNode(name: string): void {
    const view = this.#nodes.get(name);
    if (!view) return;
    this.#nodes.delete(name);
    this.#nodesChanged();
    if (view.pods.size > 0) this.#homeless.set(name, view.pods);
  }

  /** The informer shows the pod on this node (or ended, or still nowhere). */
  setPod(pod: Pod): void {
    const key = podKey(pod);
    const place = this.#places.get(key);
    const nodeName = isTerminal(pod) ? '' : (pod.spec.nodeName ?? '');
    // Not bound yet in the informer's eyes, but our binding is on its way.
    if (nodeName === '' && place?.assumed && !isTerminal(pod)) return;
    if (place) this.#take(key);
    if (nodeName !== '') {
      this.#add(podView(pod), nodeName, false);
      return;
    }
    // The room that an earlier life of the scheduler made for the pod is still meant for it.
    const nominated = pod.status?.nominatedNodeName;
    if (isTerminal(pod)) this.#nominated.delete(key);
    else if (nominated && !this.#nominated.has(key)) this.nominate(podView(pod), nominated);
  }

  removePod(key: string): void {
    this.#nominated.delete(key);
    this.#take(key);
  }

  assume(pod: PodView, nodeName: string): void {
    this.#add(pod, nodeName, true);
  }

  /** The binding failed: the pod holds nothing on the node after all. */
  forget(key: string): void {
    if (this.#places.get(key)?.assumed) this.#take(key);
  }

  isAssumed(key: string): boolean {
    return this.#places.get(key)?.assumed === true;
  }

  #nodesChanged(): void {
    this.#sorted = undefined;
    this.#withAffinity = undefined;
  }

  #add(pod: PodView, nodeName: string, assumed: boolean): void {
    if (pod.hasPodAffinity) this.#withAffinity = undefined;
    this.#nominated.delete(pod.key);
    this.#places.set(pod.key, { node: nodeName, assumed });
    const view = this.#nodes.get(nodeName);
    if (view) {
      put(view, pod);
      return;
    }
    const waiting = this.#homeless.get(nodeName) ?? new Map<string, PodView>();
    waiting.set(pod.key, pod);
    this.#homeless.set(nodeName, waiting);
  }

  #take(key: string): void {
    const place = this.#places.get(key);
    if (!place) return;
    this.#places.delete(key);
    this.#homeless.get(place.node)?.delete(key);
    const view = this.#nodes.get(place.node);
    const pod = view?.pods.get(key);
    if (!view || !pod) return;
    if (pod.hasPodAffinity) this.#withAffinity = undefined;
    withdraw(view, pod);
  }
}

/** Counts a pod on a node. */
export function put(view: NodeView, pod: PodView): void {
  view.pods.set(pod.key, pod);
  addAmounts(view.requested, pod.requests);
  addAmounts(view.scoredRequested, pod.scoredRequests);
  if (pod.hasPodAffinity) view.podsWithAffinity.set(pod.key, pod);
  view.selected.clear();
}

/** Takes a pod off a node. */
export function withdraw(view: NodeView, pod: PodView): void {
  view.pods.delete(pod.key);
  subtractAmounts(view.requested, pod.requests);
  subtractAmounts(view.scoredRequested, pod.scoredRequests);
  view.podsWithAffinity.delete(pod.key);
  view.selected.clear();
}

/** A copy of one node for "what if" (preemption): changing it changes nothing else. */
export const copyNode = (view: NodeView): NodeView => ({
  ...view,
  requested: new Map(view.requested),
  scoredRequested: new Map(view.scoredRequested),
  pods: new Map(view.pods),
  podsWithAffinity: new Map(view.podsWithAffinity),
  selected: new Map(view.selected),
});
