import { isDeepStrictEqual } from 'node:util';
import type { Node, Pod } from '#api/types.ts';
import { cacheOf, onController, onSelf, runController } from '#client/controller.ts';
import { controllerRevisions, daemonSets, nodes, pods } from '#client/resources.ts';
import {
  type DaemonSetWorld,
  planDaemonSet,
  reportDaemonSet,
} from '#controllers/daemonset-plan.ts';
import { targetNode } from '#controllers/daemonset-pods.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import {
  candidatesOf,
  controllerOf,
  OWNER_INDEX,
  onOrphan,
  ownerIndex,
} from '#controllers/ownership.ts';

/** A node where nothing failed for so long starts anew. */
const FORGET_MS = 1_800_000;
const MAX_REMEMBERED = 10_000;

/** Keeps a pod of every DaemonSet on each node that wants it. */
export const daemonSetController: ControllerDefinition = {
  name: 'daemonset-controller',
  async run(setup) {
    const indexes = { [OWNER_INDEX]: ownerIndex };
    const cache = setup.informers.of(daemonSets);
    const nodeCache = setup.informers.of(nodes);
    const podCache = setup.informers.of(pods, { indexes });
    const revisions = setup.informers.of(controllerRevisions, { indexes });
    const failures = new Failures();
    await runController<DaemonSetWorld>(
      {
        name: 'daemonset-controller',
        caches: [
          cacheOf(daemonSets, cache),
          cacheOf(nodes, nodeCache),
          cacheOf(pods, podCache),
          cacheOf(controllerRevisions, revisions),
        ],
        triggers(add) {
          onSelf(cache, add);
          onController(podCache, 'DaemonSet', add);
          onController(revisions, 'DaemonSet', add);
          onOrphan(podCache, cache, { selectorOf: (set) => set.spec?.selector, add });
          podCache.onChange((change) => {
            if (change.type === 'deleted') failures.note(change.object, setup.clock.now());
          });
          nodeCache.onChange((change) => {
            if (change.type === 'updated' && isSamePlace(change.old, change.object)) return;
            for (const { metadata } of cache.list()) add(`${metadata.namespace}/${metadata.name}`);
          });
        },
        observe(key) {
          const set = cache.get(key);
          if (!set) return undefined;
          const { uid = '' } = set.metadata;
          return {
            set,
            nodes: nodeCache.list(),
            pods: candidatesOf(podCache, set),
            revisions: candidatesOf(revisions, set),
            revisionNamed: (name) => revisions.get({ namespace: key.namespace, name }),
            failuresOn: (node) => failures.on(`${uid} ${node}`),
          };
        },
        plan: planDaemonSet,
        report: (world, _, now) => reportDaemonSet(world, now),
      },
      { ...setup, recorder: setup.recorderOf('daemonset-controller') },
    );
  },
};

/** Heartbeats change nodes all the time; only these decide where daemons go. */
function isSamePlace(a: Node, b: Node): boolean {
  return (
    isDeepStrictEqual(a.metadata.labels, b.metadata.labels) &&
    isDeepStrictEqual(a.spec?.taints, b.spec?.taints)
  );
}

type Failing = { count: number; lastMs: number };

/** Counts the failed daemons that had to be replaced, per set and node. */
class Failures {
  readonly #known = new Map<string, Failing>();

  note(pod: Pod, now: number): void {
    const owner = controllerOf(pod);
    if (owner?.kind !== 'DaemonSet' || pod.status?.phase !== 'Failed') return;
    const key = `${owner.uid} ${targetNode(pod)}`;
    const count = this.on(key, now).count + 1;
    this.#known.delete(key);
    this.#known.set(key, { count, lastMs: now });
    if (this.#known.size <= MAX_REMEMBERED) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      return;
    }
  }

  on(key: string, now?: number): Failing {
    const known = this.#known.get(key);
    if (!known || (now !== undefined && now - known.lastMs > FORGET_MS)) {
      return { count: 0, lastMs: 0 };
    }
    return known;
  }
}
