import type { Clock } from '#base/clock.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '#api/types.ts';
import { isFor, isReachable, reservedFor, SELECTED_NODE } from '#api/volume-match.ts';
import type { Api } from '#client/api.ts';
import { persistentVolumeClaims, persistentVolumes } from '#client/resources.ts';
import type { VolumePlan } from '#scheduler/plugins/volume-binding.ts';
import type { ClusterView, PodView, StorageView } from '#scheduler/snapshot.ts';

/** How long a pod's claims may take to be bound. Source: upstream's bindTimeoutSeconds. */
export const BIND_TIMEOUT_MS = 600_000;

const keyOf = ({ metadata }: PersistentVolumeClaim): string =>
  `${metadata.namespace}/${metadata.name}`;

/** Why the claims of a pod were not bound: said to the user, and the pod is scheduled anew. */
export class VolumeBindingError extends Error {}

/**
 * Claims and volumes as they will be once what was decided is written: the pods that are decided on
 * meanwhile must neither take the same volume nor send a shared claim to another node.
 */
export class AssumedStorage {
  readonly view: StorageView;
  readonly #volumes = new Map<string, { owner: string; volume: PersistentVolume }>();
  readonly #nodes = new Map<string, { owner: string; node: string }>();

  constructor(base: StorageView) {
    const volumeOf = (one: PersistentVolume): PersistentVolume =>
      one.spec?.claimRef ? one : (this.#volumes.get(one.metadata.name ?? '')?.volume ?? one);
    this.view = {
      ...base,
      claim: (namespace, name) => {
        const claim = base.claim(namespace, name);
        const assumed = this.#nodes.get(`${namespace}/${name}`);
        if (!claim || !assumed || claim.metadata.annotations?.[SELECTED_NODE]) return claim;
        return selecting(claim, assumed.node);
      },
      volume: (name) => {
        const volume = base.volume(name);
        return volume && volumeOf(volume);
      },
      volumes: () => (this.#volumes.size === 0 ? base.volumes() : base.volumes().map(volumeOf)),
    };
  }

  /** What another pod has assumed already stays its own; the plan's other parts are the owner's. */
  assume(owner: string, plan: VolumePlan, node: string): void {
    for (const { claim, volume } of plan.reserve) {
      this.#volumes.set(volume.metadata.name ?? '', { owner, volume: reservedFor(claim, volume) });
    }
    for (const claim of plan.provision) {
      if (!this.#nodes.has(keyOf(claim))) this.#nodes.set(keyOf(claim), { owner, node });
    }
  }

  /** The owner's binding has ended. Returns the claims (`namespace/name`) it spoke for. */
  forget(owner: string): string[] {
    for (const [key, one] of this.#volumes) if (one.owner === owner) this.#volumes.delete(key);
    const mine = [...this.#nodes].filter(([, one]) => one.owner === owner).map(([key]) => key);
    for (const key of mine) this.#nodes.delete(key);
    return mine;
  }

  /** The pod (`namespace/name`) that tells the claim's provisioner; undefined when none does. */
  ownerOf(claim: PersistentVolumeClaim): string | undefined {
    return this.#nodes.get(keyOf(claim))?.owner;
  }
}

function selecting(claim: PersistentVolumeClaim, node: string): PersistentVolumeClaim {
  const annotations = { ...claim.metadata.annotations, [SELECTED_NODE]: node };
  return { ...claim, metadata: { ...claim.metadata, annotations } };
}

/** Whoever waits for something, by what may let it go on: claims, nodes, the pod itself. */
export class VolumeWaits {
  readonly #waits = new Map<string, Set<() => void>>();

  /** A claim (`namespace/name`), or a pod (`pod/namespace/name`), or a node (`node/name`) changed. */
  changed(key: string): void {
    for (const look of this.#waits.get(key) ?? []) look();
  }

  /** Calls `look` whenever one of the keys changes, until the returned function is called. */
  on(keys: readonly string[], look: () => void): () => void {
    for (const key of keys) {
      const all = this.#waits.get(key) ?? new Set();
      this.#waits.set(key, all.add(look));
    }
    return () => {
      for (const key of keys) {
        const all = this.#waits.get(key);
        if (all?.delete(look) && all.size === 0) this.#waits.delete(key);
      }
    };
  }
}

export type VolumeBinding = {
  api: Api;
  /** As the informers have it, without what is assumed. */
  storage: StorageView;
  assumed: AssumedStorage;
  waits: VolumeWaits;
  cluster: Pick<ClusterView, 'node'>;
  /** Whether the pod still waits for a node. */
  isWanted: (pod: PodView) => boolean;
  clock: Clock;
  signal: AbortSignal;
};

/**
 * Writes what the plan says and waits until all of its claims are bound. Throws VolumeBindingError
 * when that takes too long, when the provisioner gave the claim back (it took the node's name off),
 * or when pod, claim or node have gone; StatusErrors of the writes.
 * Source: upstream's BindPodVolumes.
 */
export async function bindVolumes(
  binding: VolumeBinding,
  pod: PodView,
  plan: VolumePlan,
  node: string,
): Promise<void> {
  const { api, assumed, signal, storage } = binding;
  const told = new Map<string, number>();
  for (const { claim, volume } of plan.reserve) {
    const { metadata } = await api.update(persistentVolumes, reservedFor(claim, volume), {
      signal,
    });
    told.set(keyOf(claim), Number(metadata.resourceVersion));
  }
  for (const claim of plan.provision) {
    const { namespace = '', name = '' } = claim.metadata;
    const real = storage.claim(namespace, name);
    if (assumed.ownerOf(claim) !== pod.key) continue;
    if (!real || real.metadata.annotations?.[SELECTED_NODE] === node) continue;
    // Not an update: the binder writes the status of a young claim at the same time.
    const body = { metadata: { uid: claim.metadata.uid, annotations: { [SELECTED_NODE]: node } } };
    const key = { namespace, name };
    const patch = { type: 'merge', body } as const;
    const { metadata } = await api.patch(persistentVolumeClaims, key, patch, { signal });
    told.set(keyOf(claim), Number(metadata.resourceVersion));
  }
  await untilBound(binding, pod, { plan, node, told });
}

/** `told`: the version of our own write about a claim. */
type Watched = { plan: VolumePlan; node: string; told: ReadonlyMap<string, number> };

async function untilBound(binding: VolumeBinding, pod: PodView, watched: Watched): Promise<void> {
  const { clock, signal, waits } = binding;
  const { plan, node } = watched;
  const claims = [...plan.reserve.map(({ claim }) => claim), ...plan.provision];
  const done = new AbortController();
  const either = AbortSignal.any([signal, done.signal]);
  let stop = (): void => {};
  const bound = new Promise<void>((resolve, reject) => {
    const look = (): void => {
      const state = stateOf(binding, pod, watched);
      if (state === 'bound') resolve();
      else if (state !== 'waiting') reject(new VolumeBindingError(`binding volumes: ${state.why}`));
    };
    const keys = [...claims.map(keyOf), `pod/${pod.key}`, `node/${node}`];
    stop = waits.on(keys, look);
    look();
  });
  const late = clock.sleep(BIND_TIMEOUT_MS, { signal: either }).then(() => {
    throw new VolumeBindingError('binding volumes: context deadline exceeded');
  });
  // Whichever comes second is nobody's business any more.
  late.catch(() => {});
  try {
    await Promise.race([bound, late]);
  } finally {
    stop();
    done.abort();
  }
}

type BindingState = 'bound' | 'waiting' | { why: string };

/** Where the claims stand, by what the informers show. */
function stateOf(
  { storage, cluster, isWanted, assumed }: VolumeBinding,
  pod: PodView,
  { plan, node, told }: Watched,
): BindingState {
  if (!isWanted(pod)) return { why: 'pod does not exist any more' };
  const place = cluster.node(node)?.node;
  if (!place) return { why: `node "${node}" not found` };
  let waiting = false;
  for (const { claim: before, volume } of plan.reserve) {
    const claim = current(storage, before);
    if (!claim) return { why: `claim "${keyOf(before)}" has gone` };
    const held = storage.volume(volume.metadata.name ?? '');
    if (!held) return { why: `pv "${volume.metadata.name}" has gone` };
    if (isBound(claim)) continue;
    waiting = true;
    const isOld = Number(held.metadata.resourceVersion) < (told.get(keyOf(before)) ?? 0);
    if (!isOld && !(held.spec?.claimRef?.uid === claim.metadata.uid)) {
      return { why: `ClaimRef got reset for pv "${held.metadata.name}"` };
    }
  }
  for (const before of plan.provision) {
    const claim = current(storage, before);
    if (!claim) return { why: `claim "${keyOf(before)}" has gone` };
    const isOld = Number(claim.metadata.resourceVersion) < (told.get(keyOf(before)) ?? 0);
    const selected = claim.metadata.annotations?.[SELECTED_NODE];
    const teller = assumed.ownerOf(before);
    const isUntold = !selected && teller !== undefined && teller !== pod.key;
    if (isOld || isUntold) {
      waiting = true;
      continue;
    }
    if (selected !== node) return { why: `provisioning failed for PVC "${claim.metadata.name}"` };
    const volume = storage.volume(claim.spec?.volumeName ?? '');
    if (volume && isFor(volume, claim) && !isReachable(volume, place)) {
      const which = `pv "${volume.metadata.name}"`;
      return { why: `${which} node affinity doesn't match node "${node}"` };
    }
    if (!isBound(claim)) waiting = true;
  }
  return waiting ? 'waiting' : 'bound';
}

function current(
  storage: StorageView,
  { metadata }: PersistentVolumeClaim,
): PersistentVolumeClaim | undefined {
  const claim = storage.claim(metadata.namespace ?? '', metadata.name ?? '');
  return claim?.metadata.uid === metadata.uid ? claim : undefined;
}

const isBound = ({ spec, status }: PersistentVolumeClaim): boolean =>
  Boolean(spec?.volumeName) && status?.phase === 'Bound';
