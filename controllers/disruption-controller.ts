import { matchesLabels } from '#api/labels.ts';
import { parseTime } from '#api/time.ts';
import type { KubeObject, Pod, PodDisruptionBudget } from '#api/types.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import type { Informer } from '#client/informer.ts';
import {
  deployments,
  podDisruptionBudgets,
  pods,
  replicaSets,
  replicationControllers,
  statefulSets,
} from '#client/resources.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';
import { type BudgetWorld, planBudget } from '#controllers/disruption-plan.ts';
import { controllerOf } from '#controllers/ownership.ts';
import { isTerminal, podCondition, withCondition } from '#controllers/pods.ts';

const NAME = 'disruption-controller';
/** A pod that was to be disrupted and still lives after so long has been spared. */
const STALE_MS = 120_000;

/** Keeps the status of every PodDisruptionBudget, on which evictions depend. */
export const disruptionController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    await Promise.all([runBudgets(setup), sparePods(setup)]);
  },
};

async function runBudgets(setup: ControllerSetup): Promise<void> {
  const { informers } = setup;
  const cache = informers.of(podDisruptionBudgets);
  const podCache = informers.of(pods);
  const owners = {
    Deployment: informers.of(deployments),
    ReplicaSet: informers.of(replicaSets),
    ReplicationController: informers.of(replicationControllers),
    StatefulSet: informers.of(statefulSets),
  };
  await runController<BudgetWorld>(
    {
      name: NAME,
      caches: [cacheOf(podDisruptionBudgets, cache), cacheOf(pods, podCache)],
      triggers(add) {
        onSelf(cache, add);
        podCache.onChange((change) => {
          const changed = change.type === 'updated' ? [change.old, change.object] : [change.object];
          for (const budget of cache.list(change.object.metadata.namespace ?? '')) {
            if (changed.some((pod) => isPicked(budget, pod))) add(keyText(budget));
          }
        });
        for (const informer of Object.values(owners) as Informer[]) {
          informer.onChange((change) => {
            if (change.type === 'updated' && sizeOf(change.old) === sizeOf(change.object)) return;
            const { namespace = '' } = change.object.metadata;
            for (const budget of cache.list(namespace)) add(keyText(budget));
          });
        }
      },
      observe(key) {
        const budget = cache.get(key);
        if (!budget) return undefined;
        const picked = podCache.list(key.namespace ?? '').filter((pod) => isPicked(budget, pod));
        return { budget, pods: picked, scale: scaleOf(picked, owners) };
      },
      plan: planBudget,
    },
    { ...setup, recorder: setup.recorderOf('controllermanager') },
  );
}

/** Without a selector nothing is picked; an empty one picks all. */
const isPicked = ({ spec }: PodDisruptionBudget, pod: Pod): boolean =>
  spec?.selector !== undefined && matchesLabels(spec.selector, pod.metadata.labels ?? {});

const sizeOf = (object: KubeObject): number =>
  (object['spec'] as { replicas?: number } | undefined)?.replicas ?? 1;

type Owners = Readonly<Record<string, unknown>>;

/** The sum of what the pods' controllers want; pods without one do not count. */
function scaleOf(picked: readonly Pod[], owners: Owners): number | undefined {
  const sizes = new Map<string, number>();
  for (const pod of picked) {
    const reference = controllerOf(pod);
    if (!reference || sizes.has(reference.uid)) continue;
    const namespace = pod.metadata.namespace;
    const find = (kind: string, name: string): KubeObject | undefined =>
      (owners[kind] as Informer | undefined)?.get({ namespace, name });
    let owner = find(reference.kind, reference.name);
    if (owner && reference.kind === 'ReplicaSet') {
      const above = controllerOf(owner);
      if (above?.kind === 'Deployment') owner = find(above.kind, above.name);
    }
    if (!owner) return undefined;
    sizes.set(owner.metadata.uid ?? '', sizeOf(owner));
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

/** Takes back the announcement of a disruption that did not come. Pure. */
export function planSpared(pod: Pod, now: number): Plan {
  const condition = podCondition(pod, 'DisruptionTarget');
  if (condition?.status !== 'True' || isTerminal(pod) || pod.metadata.deletionTimestamp) {
    return { actions: [] };
  }
  const leftMs = parseTime(condition.lastTransitionTime ?? '') + STALE_MS - now;
  if (leftMs > 0) return { actions: [], requeueAfterMs: leftMs };
  const next = { type: 'DisruptionTarget', status: 'False', reason: '', message: '' };
  const conditions = withCondition(pod, next, now).slice(-1);
  const { namespace, name = '', uid } = pod.metadata;
  const patch = { type: 'strategic', body: { metadata: { uid }, status: { conditions } } } as const;
  const key = { namespace, name };
  return { actions: [{ type: 'patch', resource: pods, key, patch, subresource: 'status' }] };
}

async function sparePods(setup: ControllerSetup): Promise<void> {
  const podCache = setup.informers.of(pods);
  await runController<Pod>(
    {
      name: `${NAME}-spared`,
      workers: 1,
      caches: [cacheOf(pods, podCache)],
      triggers(add) {
        podCache.onChange(({ type, object }) => {
          if (type === 'deleted') return;
          if (podCondition(object, 'DisruptionTarget')?.status === 'True') add(keyText(object));
        });
      },
      observe: (key) => podCache.get(key),
      plan: planSpared,
    },
    { ...setup, recorder: setup.recorderOf('controllermanager') },
  );
}
