import type { KubeObject } from '#api/types.ts';
import {
  type BootstrapContext,
  createIfAbsent,
  kindOf,
  runBounded,
} from '#apiserver/bootstrap-context.ts';

/** Namespaces that exist from the start; those in PROTECTED cannot be deleted. */
export const SYSTEM_NAMESPACES = ['default', 'kube-node-lease', 'kube-public', 'kube-system'];

export const SYSTEM_PRIORITY_CLASSES = ['system-cluster-critical', 'system-node-critical'] as const;

type Born = { group: string; resource: string; objects: readonly KubeObject[] };

/** What a cluster is born with besides roles; made once, and then the users'. */
export function bootstrapObjects(): readonly Born[] {
  return [
    {
      group: '',
      resource: 'namespaces',
      objects: SYSTEM_NAMESPACES.map((name) => ({ metadata: { name } })),
    },
    { group: 'scheduling.k8s.io', resource: 'priorityclasses', objects: priorityClasses() },
    { group: 'node.k8s.io', resource: 'runtimeclasses', objects: runtimeClasses() },
  ];
}

function priorityClasses(): KubeObject[] {
  const [cluster, node] = SYSTEM_PRIORITY_CLASSES;
  return [
    {
      metadata: { name: cluster },
      value: 2_000_000_000,
      description: 'For pods that the cluster cannot do without, on whichever node they run.',
    },
    {
      metadata: { name: node },
      value: 2_000_001_000,
      description: 'For pods that their node cannot do without.',
    },
  ];
}

/** `container` is what pods get anyway; `microvm` waits for a node that offers it. */
function runtimeClasses(): KubeObject[] {
  return [
    { metadata: { name: 'container' }, handler: 'runc' },
    {
      metadata: { name: 'microvm' },
      handler: 'microvm',
      // The guest's kernel and agent, and QEMU itself; measured in docs/measurements.md.
      overhead: { podFixed: { cpu: '20m', memory: '160Mi' } },
      scheduling: { nodeSelector: { 'gantry.dev/microvm': 'true' } },
    },
  ];
}

export async function createBootstrapObjects(context: BootstrapContext): Promise<void> {
  for (const { group, resource, objects } of bootstrapObjects()) {
    const kind = kindOf(context, group, 'v1', resource);
    await runBounded(objects.map((object) => () => createIfAbsent(context, kind, object)));
  }
}
