import { findToleration } from '#api/tolerations.ts';
import type { Node, Pod } from '#api/types.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import { nodes, pods } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { taintedAt } from '#controllers/node-lifecycle-plan.ts';
import { NODE_INDEX, nodeIndex, withCondition } from '#controllers/pods.ts';

type Observed = { pod: Pod; node: Node };

/**
 * Deletes a pod whose node has NoExecute taints that it does not tolerate, or no longer. Pure.
 * Source: "Taint based Evictions", tolerationSeconds.
 */
export function planTaintEviction({ pod, node }: Observed, now: number): Plan {
  const inMs = evictionInMs(pod, node, now);
  if (inMs === undefined || pod.metadata.deletionTimestamp) return { actions: [] };
  if (inMs > 0) return { actions: [], requeueAfterMs: inMs };
  const { namespace, name = '', uid = '' } = pod.metadata;
  const key = { namespace, name };
  const message = 'Taint manager: deleting due to NoExecute taint';
  const condition = {
    type: 'DisruptionTarget',
    status: 'True',
    reason: 'DeletionByTaintManager',
    message,
  };
  const conditions = withCondition(pod, condition, now).slice(-1);
  const patch = { type: 'strategic', body: { metadata: { uid }, status: { conditions } } } as const;
  const said = `Marking for deletion Pod ${namespace}/${name}`;
  const note = { type: 'Normal', reason: 'TaintManagerEviction', message: said } as const;
  return {
    actions: [
      { type: 'event', about: pod, note },
      { type: 'patch', resource: pods, key, patch, subresource: 'status' },
      { type: 'delete', resource: pods, key, uid },
    ],
  };
}

/** Milliseconds until the pod has to go; undefined = it may stay for ever. */
function evictionInMs(pod: Pod, node: Node, now: number): number | undefined {
  let least: number | undefined;
  for (const taint of node.spec?.taints ?? []) {
    if (taint.effect !== 'NoExecute') continue;
    const toleration = findToleration(pod.spec.tolerations, taint);
    if (!toleration) return 0;
    if (toleration.tolerationSeconds === undefined) continue;
    const seconds = Math.max(0, toleration.tolerationSeconds);
    const inMs = Math.max(0, taintedAt(taint, now) + seconds * 1000 - now);
    least = Math.min(least ?? inMs, inMs);
  }
  return least;
}

/** Evicts pods from nodes with NoExecute taints. */
export const taintEvictionController: ControllerDefinition = {
  name: 'taint-eviction-controller',
  async run(setup) {
    const nodeCache = setup.informers.of(nodes);
    const podCache = setup.informers.of(pods, { indexes: { [NODE_INDEX]: nodeIndex } });
    const hasTaints = (node: Node | undefined): node is Node =>
      node?.spec?.taints?.some((taint) => taint.effect === 'NoExecute') ?? false;
    await runController<Observed>(
      {
        name: 'taint-eviction-controller',
        workers: 4,
        caches: [cacheOf(nodes, nodeCache), cacheOf(pods, podCache)],
        triggers(add) {
          onSelf(podCache, add);
          nodeCache.onChange(({ object }) => {
            if (!hasTaints(object)) return;
            const name = object.metadata.name ?? '';
            for (const pod of podCache.byIndex(NODE_INDEX, name)) add(keyText(pod));
          });
        },
        observe(key) {
          const pod = podCache.get(key);
          const node = nodeCache.get({ name: pod?.spec.nodeName ?? '' });
          return pod && hasTaints(node) ? { pod, node } : undefined;
        },
        plan: planTaintEviction,
      },
      { ...setup, recorder: setup.recorderOf('taint-eviction-controller') },
    );
  },
};
