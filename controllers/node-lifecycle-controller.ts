import type { Lease, Node } from '#api/types.ts';
import { cacheOf, onSelf, runController } from '#client/controller.ts';
import { leases, nodes, pods } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { addsEviction, type NodeWorld, planNode } from '#controllers/node-lifecycle-plan.ts';
import { NODE_INDEX, nodeIndex } from '#controllers/pods.ts';

const LEASE_NAMESPACE = 'kube-node-lease';
/** One node in so long is given up. Source: --node-eviction-rate 0.1 per second. */
const EVICTION_INTERVAL_MS = 10_000;

/** What a node last said, and when we heard it: its clock may differ from ours. */
type Heard = { text: string; atMs: number };

/** Watches the nodes' leases; silent nodes become NotReady and are tainted. */
export const nodeLifecycleController: ControllerDefinition = {
  name: 'node-lifecycle-controller',
  async run(setup) {
    const { informers, config } = setup;
    const nodeCache = informers.of(nodes);
    const leaseCache = informers.of(leases, { namespace: LEASE_NAMESPACE });
    const podCache = informers.of(pods, { indexes: { [NODE_INDEX]: nodeIndex } });
    const heard = new Map<string, Heard>();
    let lastEvictionMs = Number.NEGATIVE_INFINITY;

    const listen = (node: Node, now: number): Heard => {
      const name = node.metadata.name ?? '';
      const text = signOfLife(node, leaseCache.get({ namespace: LEASE_NAMESPACE, name }));
      const before = heard.get(name);
      if (before?.text === text) return before;
      const fresh = { text, atMs: now };
      heard.set(name, fresh);
      return fresh;
    };
    await runController<NodeWorld>(
      {
        name: 'node-lifecycle-controller',
        caches: [cacheOf(nodes, nodeCache), cacheOf(leases, leaseCache), cacheOf(pods, podCache)],
        triggers(add) {
          onSelf(nodeCache, add);
          // Whether all are down changes what each deserves.
          nodeCache.onChange((change) => {
            if (change.type === 'updated' && isUp(change.old) === isUp(change.object)) return;
            for (const node of nodeCache.list()) if (!isUp(node)) add(node.metadata.name ?? '');
          });
          leaseCache.onChange(({ object }) => add(object.metadata.name ?? ''));
        },
        observe(key, now) {
          const node = nodeCache.get(key);
          if (!node) {
            heard.delete(key.name);
            return undefined;
          }
          return {
            node,
            heardMs: listen(node, now).atMs,
            gracePeriodMs: config.nodeMonitorGracePeriodMs,
            pods: podCache.byIndex(NODE_INDEX, key.name),
            allAreDown: nodeCache.list().every((one) => !isUp(one)),
            evictionInMs: Math.max(0, lastEvictionMs + EVICTION_INTERVAL_MS - now),
          };
        },
        plan(world, now) {
          const plan = planNode(world, now);
          if (addsEviction(plan.actions, world.node)) lastEvictionMs = now;
          return plan;
        },
      },
      { ...setup, recorder: setup.recorderOf('node-controller') },
    );
  },
};

/** Changes whenever the node speaks: its lease, or its own Ready condition. */
function signOfLife(node: Node, lease: Lease | undefined): string {
  const ready = node.status?.conditions?.find((one) => one.type === 'Ready');
  const own = ready?.status === 'Unknown' ? '' : (ready?.lastHeartbeatTime ?? '');
  return `${lease?.spec?.renewTime ?? ''} ${own}`;
}

const isUp = (node: Node): boolean =>
  node.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false;
