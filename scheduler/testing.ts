import type { Node, Pod } from '#api/types.ts';
import { ClusterCache, type ClusterSources } from '#scheduler/snapshot.ts';

/** Builders of small worlds for the scheduler's tests. */
export function testNode(
  name: string,
  parts: Partial<Node['spec'] & object> & {
    labels?: Record<string, string>;
    allocatable?: Record<string, string>;
  } = {},
): Node {
  const { labels = {}, allocatable, ...spec } = parts;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
    spec,
    status: { allocatable: { cpu: '4', memory: '8Gi', pods: '110', ...allocatable } },
  };
}

export function testPod(
  name: string,
  parts: Partial<Pod['spec']> & {
    cpu?: string;
    memory?: string;
    labels?: Record<string, string>;
    status?: Pod['status'];
  } = {},
): Pod {
  const { cpu, memory, labels = {}, status, ...spec } = parts;
  const requests = { ...(cpu ? { cpu } : {}), ...(memory ? { memory } : {}) };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', uid: `uid-${name}`, labels },
    spec: {
      schedulerName: 'default-scheduler',
      containers: [{ name: 'main', image: 'demo', resources: { requests } }],
      ...spec,
    },
    ...(status ? { status } : {}),
  };
}

/** A cluster of these nodes with these pods on them (`spec.nodeName`). */
export function testCluster(
  nodes: readonly Node[],
  pods: readonly Pod[] = [],
  sources: ClusterSources = {},
): ClusterCache {
  const cache = new ClusterCache(sources);
  for (const node of nodes) cache.setNode(node);
  for (const pod of pods) cache.setPod(pod);
  return cache;
}
