import type { Namespace, NetworkPolicy, Pod } from '#api/types.ts';
import type { Change } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { namespaces, networkPolicies, pods } from '#client/resources.ts';

/** What policy rules are made of. */
export type PolicyObjects = {
  policies: readonly NetworkPolicy[];
  pods: readonly Pod[];
  namespaces: readonly Namespace[];
};

export type PolicyWatch = {
  /** Resolves when `objects` answers with all there is. */
  synced(): Promise<void>;
  /** No policies as long as the pods they speak of are not known. */
  objects(): PolicyObjects;
};

const NOTHING: PolicyObjects = { policies: [], pods: [], namespaces: [] };

/**
 * Follows the policies and, while there is at least one, all pods of the cluster: a cluster without
 * policies pays nothing for them. `notify` is called when the rules may have to change.
 */
export function watchPolicies(informers: Informers, notify: () => void): PolicyWatch {
  const policies = informers.of(networkPolicies);
  const spaces = informers.of(namespaces);
  let stopPods: (() => void) | undefined;

  const follow = (): void => {
    const wanted = policies.list().length > 0;
    if (wanted && !stopPods) {
      const peers = informers.of(pods);
      const stop = peers.onChange((change) => {
        if (peers.hasSynced() && matters(change)) notify();
      });
      stopPods = () => {
        stop();
        informers.drop(pods);
      };
      void peers.synced().then(notify, () => undefined);
    } else if (!wanted && stopPods) {
      stopPods();
      stopPods = undefined;
    }
  };
  policies.onChange(() => {
    follow();
    notify();
  });
  spaces.onChange((change) => {
    if (!stopPods) return;
    if (change.type !== 'updated') return notify();
    if (!sameLabels(change.old, change.object)) notify();
  });

  return {
    async synced() {
      await Promise.all([policies.synced(), spaces.synced()]);
      follow();
      if (stopPods) await informers.of(pods).synced();
    },
    objects() {
      if (!stopPods || !spaces.hasSynced()) return NOTHING;
      const peers = informers.of(pods);
      if (!peers.hasSynced()) return NOTHING;
      return { policies: policies.list(), pods: peers.list(), namespaces: spaces.list() };
    },
  };
}

/** Most changes of pods are about conditions and times. */
function matters(change: Change<Pod>): boolean {
  if (change.type !== 'updated') return change.object.status?.podIP !== undefined;
  const { old, object } = change;
  return (
    old.status?.podIP !== object.status?.podIP ||
    old.status?.phase !== object.status?.phase ||
    !sameLabels(old, object)
  );
}

function sameLabels(
  a: { metadata: { labels?: Record<string, string> } },
  b: { metadata: { labels?: Record<string, string> } },
): boolean {
  if (a.metadata.labels === b.metadata.labels) return true;
  return JSON.stringify(a.metadata.labels) === JSON.stringify(b.metadata.labels);
}
