import { isStatusError } from '#api/status.ts';
import { parseTime } from '#api/time.ts';
import type { Node, ObjectKey, Pod } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Api } from '#client/api.ts';
import { cacheOf, keyText, type Plan, runController } from '#client/controller.ts';
import { nodes, pods } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { isTerminal, NODE_INDEX, nodeIndex, withCondition } from '#controllers/pods.ts';

/** A node that vanishes may come back under its name. Source: upstream's quarantine. */
const QUARANTINE_MS = 40_000;
const TERMINATED_KEY = '*terminated';
const TERMINATED_EVERY_MS = 20_000;
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';

export type PodGcWorld =
  | { type: 'pod'; pod: Pod; node: Node | 'gone' | undefined }
  | { type: 'terminated'; pods: readonly Pod[]; threshold: number };

/** Removes pods that no node agent will ever finish. Pure. Source: "Garbage collection of Pods". */
export function planPodGc(world: PodGcWorld, now: number): Plan {
  if (world.type === 'terminated') return planTerminated(world.pods, world.threshold);
  const { pod, node } = world;
  const isTerminating = pod.metadata.deletionTimestamp !== undefined;
  if (node === 'gone') return { actions: finish(pod, 'PodGC: node no longer exists', now) };
  if (isTerminating && !pod.spec.nodeName) {
    return { actions: [remove(pod)] };
  }
  if (isTerminating && node && isOutOfService(node)) {
    const why = 'PodGC: node is out-of-service';
    return { actions: finish(pod, why, now) };
  }
  return { actions: [] };
}

function planTerminated(all: readonly Pod[], threshold: number): Plan {
  const ended = all.filter((pod) => isTerminal(pod) && !pod.metadata.deletionTimestamp);
  const surplus = threshold > 0 ? ended.length - threshold : 0;
  if (surplus <= 0) return { actions: [] };
  const oldest = ended.toSorted((a, b) => createdAt(a) - createdAt(b)).slice(0, surplus);
  return { actions: [{ type: 'together', actions: oldest.map(remove) }] };
}

const createdAt = (pod: Pod): number => parseTime(pod.metadata.creationTimestamp ?? '') || 0;

function isOutOfService(node: Node): boolean {
  const isReady = node.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
  return !isReady && (node.spec?.taints ?? []).some((taint) => taint.key === OUT_OF_SERVICE);
}

/** Nobody will report how it ended, so we say that it failed. */
function finish(pod: Pod, message: string, now: number): Action[] {
  if (isTerminal(pod)) return [remove(pod)];
  const { namespace, name = '', uid = '' } = pod.metadata;
  const reason = 'DeletionByPodGC';
  const condition = { type: 'DisruptionTarget', status: 'True', reason, message };
  const conditions = withCondition(pod, condition, now).slice(-1);
  const body = { metadata: { uid }, status: { phase: 'Failed', conditions } };
  const patch = { type: 'strategic', body } as const;
  const key = { namespace, name };
  return [{ type: 'patch', resource: pods, key, patch, subresource: 'status' }, remove(pod)];
}

function remove(pod: Pod): Action {
  const { namespace, name = '', uid = '' } = pod.metadata;
  return { type: 'delete', resource: pods, key: { namespace, name }, uid, gracePeriodSeconds: 0 };
}

/** Cleans up after nodes that are gone, and pods that ended long ago. */
export const podGcController: ControllerDefinition = {
  name: 'pod-garbage-collector-controller',
  async run(setup) {
    const { api, informers, config, signal } = setup;
    const podCache = informers.of(pods, { indexes: { [NODE_INDEX]: nodeIndex } });
    const nodeCache = informers.of(nodes);
    const isLost = (pod: Pod): boolean =>
      Boolean(pod.spec.nodeName) && !nodeCache.get({ name: pod.spec.nodeName ?? '' });

    const observe = async (key: ObjectKey): Promise<PodGcWorld | undefined> => {
      if (key.name === TERMINATED_KEY) {
        const threshold = config.terminatedPodThreshold;
        return { type: 'terminated', pods: podCache.list(), threshold };
      }
      const pod = podCache.get(key);
      if (!pod) return undefined;
      const name = pod.spec.nodeName ?? '';
      if (!isLost(pod)) return { type: 'pod', pod, node: nodeCache.get({ name }) };
      const exists = await nodeExists(api, name, signal);
      return { type: 'pod', pod, node: exists ? undefined : 'gone' };
    };
    await runController<PodGcWorld>(
      {
        name: 'pod-garbage-collector-controller',
        caches: [cacheOf(pods, podCache), cacheOf(nodes, nodeCache)],
        triggers(add) {
          podCache.onChange(({ type, object }) => {
            if (type === 'deleted') return;
            if (isLost(object)) add(keyText(object), QUARANTINE_MS);
            else if (object.metadata.deletionTimestamp) add(keyText(object));
            if (isTerminal(object)) add(TERMINATED_KEY, TERMINATED_EVERY_MS);
          });
          nodeCache.onChange(({ type, object }) => {
            const isGone = type === 'deleted';
            if (!isGone && !isOutOfService(object)) return;
            for (const pod of podCache.byIndex(NODE_INDEX, object.metadata.name ?? '')) {
              add(keyText(pod), isGone ? QUARANTINE_MS : 0);
            }
          });
        },
        observe,
        plan: planPodGc,
      },
      { ...setup, recorder: setup.recorderOf('pod-garbage-collector-controller') },
    );
  },
};

/** Asked live, because deleting pods by force on old news would be worse than waiting. */
async function nodeExists(api: Api, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await api.get(nodes, { name }, { signal, metadataOnly: true });
    return true;
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return false;
    throw error;
  }
}
