import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import { untilAborted } from '#base/running.ts';
import { isStatusError } from '#api/status.ts';
import type { Node, Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import type { EventRecorder } from '#client/events.ts';
import type { Informers } from '#client/informer-factory.ts';
import {
  csiDrivers,
  csiNodes,
  csiStorageCapacities,
  namespaces,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  podDisruptionBudgets,
  pods,
  storageClasses,
  volumeAttachments,
} from '#client/resources.ts';
import { bind, evictVictim, reportUnscheduled } from '#scheduler/bind.ts';
import { decide, type Decision, type SearchStart, unschedulableMessage } from '#scheduler/cycle.ts';
import type { WeightedPlugin } from '#scheduler/plugin.ts';
import { planVolumes, type VolumePlan } from '#scheduler/plugins/volume-binding.ts';
import { planPreemption } from '#scheduler/preemption.ts';
import { type Attempt, SchedulingQueue } from '#scheduler/queue.ts';
import {
  ClusterCache,
  isTerminal,
  podKey,
  podView,
  type PodView,
  type StorageView,
} from '#scheduler/snapshot.ts';
import {
  AssumedStorage,
  bindVolumes,
  type VolumeBinding,
  VolumeBindingError,
  VolumeWaits,
} from '#scheduler/volume-binder.ts';

export const DEFAULT_SCHEDULER = 'default-scheduler';

/** Bindings under way at the same time: enough to hide the latency of the API server. */
const MAX_BINDING = 64;

export type SchedulerOptions = {
  api: Api;
  informers: Informers;
  recorder: EventRecorder;
  plugins: readonly WeightedPlugin[];
  /** Only pods that name this scheduler are ours. */
  schedulerName?: string;
  signal: AbortSignal;
  log: Log;
  clock: Clock;
  random: Random;
};

/**
 * Unbound pod in the informer → decision → one bind POST. Deciding is synchronous and one at a
 * time; what follows (binding, status, eviction) runs beside it, bounded.
 */
export async function runScheduler(options: SchedulerOptions): Promise<void> {
  const { informers, plugins, signal, clock, schedulerName = DEFAULT_SCHEDULER } = options;
  const namespaceInformer = informers.of(namespaces);
  const storage = storageInformers(informers);
  const assumed = new AssumedStorage(storage.view);
  const waits = new VolumeWaits();
  const budgetInformer = informers.of(podDisruptionBudgets);
  const cache = new ClusterCache({
    namespaceLabels: (name) => namespaceInformer.get({ name })?.metadata.labels,
    storage: assumed.view,
    budgets: (namespace) => budgetInformer.list(namespace),
  });
  const gateOf = (pod: Pod) => plugins.map(({ plugin }) => plugin.preEnqueue?.(pod)).find(Boolean);
  const queue = new SchedulingQueue(clock, (pod) => gateOf(pod) !== undefined);
  const inFlight = new Set<Promise<void>>();
  const waiting = new Set<Promise<void>>();
  const track = (tasks: Set<Promise<void>>, task: Promise<void>): void => {
    const tracked = task.finally(() => tasks.delete(tracked));
    tasks.add(tracked);
  };
  const begin = (task: Promise<void>): void => track(inFlight, task);
  const podInformer = informers.of(pods);
  const isWanted = ({ pod: { metadata } }: PodView): boolean => {
    const { namespace = '', name = '', uid } = metadata;
    const pod = podInformer.get({ namespace, name });
    return pod?.metadata.uid === uid && !pod?.spec.nodeName && !pod?.metadata.deletionTimestamp;
  };
  const volumes = { storage: storage.view, assumed, waits, isWanted };
  const begun = { beginWaiting: (task: Promise<void>) => track(waiting, task), volumes };
  const scheduler: Scheduler = { ...options, ...begun, cache, queue, start: { index: 0 } };
  const nodeInformer = informers.of(nodes);
  await Promise.race([
    Promise.all([
      podInformer.synced(),
      nodeInformer.synced(),
      namespaceInformer.synced(),
      budgetInformer.synced(),
      storage.synced(),
    ]),
    untilAborted(signal),
  ]);
  storage.onChange(() => queue.clusterChanged());
  storage.onBinding((key) => waits.changed(key));
  nodeInformer.onChange((change) => {
    if (change.type === 'deleted') cache.removeNode(change.object.metadata.name ?? '');
    else cache.setNode(change.object);
    waits.changed(`node/${change.object.metadata.name}`);
    if (change.type !== 'updated' || mayHelp(change.old, change.object)) queue.clusterChanged();
  });
  podInformer.onChange((change) => {
    const pod = change.object;
    const wanted = change.type !== 'deleted' && !pod.spec.nodeName && !isTerminal(pod);
    if (change.type === 'deleted') cache.removePod(podKey(pod));
    else cache.setPod(pod);
    waits.changed(`pod/${podKey(pod)}`);
    if (!wanted) {
      queue.delete(podKey(pod));
      // A pod that left its node frees room; one that came may be wanted near by another.
      if (pod.spec.nodeName && isPlacementChange(change)) queue.clusterChanged();
    } else if (pod.spec.schedulerName === schedulerName && !pod.metadata.deletionTimestamp) {
      queue.set(pod);
      if (change.type === 'added' && gateOf(pod)) begin(reportGated(scheduler, pod));
    } else if (pod.metadata.deletionTimestamp) {
      queue.delete(podKey(pod));
    }
  });
  while (!signal.aborted) {
    await queue.ready(signal).catch(rethrowUnlessAborted(signal));
    for (let attempt = queue.take(); attempt && !signal.aborted; attempt = queue.take()) {
      begin(attemptOne(scheduler, attempt));
      if (inFlight.size >= MAX_BINDING) await Promise.race(inFlight);
    }
  }
  await Promise.allSettled([...inFlight, ...waiting]);
}

type Scheduler = SchedulerOptions & {
  cache: ClusterCache;
  queue: SchedulingQueue;
  start: SearchStart;
  volumes: Pick<VolumeBinding, 'storage' | 'assumed' | 'waits' | 'isWanted'>;
  /**
   * For pods that wait for their volumes: for minutes perhaps, so they take no place from others.
   * They hold room on a node, which bounds them.
   */
  beginWaiting(task: Promise<void>): void;
};

const NODE_INDEX = 'node';

/** Claims, volumes, classes and drivers; any change of them may let a pod fit. */
function storageInformers(informers: Informers) {
  const claims = informers.of(persistentVolumeClaims);
  const volumes = informers.of(persistentVolumes);
  const classes = informers.of(storageClasses);
  const csiNodeCache = informers.of(csiNodes);
  const drivers = informers.of(csiDrivers);
  const capacities = informers.of(csiStorageCapacities);
  const attachments = informers.of(volumeAttachments, {
    indexes: { [NODE_INDEX]: ({ spec }) => [spec.nodeName] },
  });
  const all = [claims, volumes, classes, csiNodeCache, drivers, capacities, attachments];
  const view: StorageView = {
    claim: (namespace, name) => claims.get({ namespace, name }),
    volume: (name) => volumes.get({ name }),
    volumes: () => volumes.list(),
    storageClass: (name) => classes.get({ name }),
    csiNode: (name) => csiNodeCache.get({ name }),
    csiDriver: (name) => drivers.get({ name }),
    capacities: () => capacities.list(),
    attachments: (node) => attachments.byIndex(NODE_INDEX, node),
  };
  return {
    view,
    synced: () => Promise.all(all.map((informer) => informer.synced())),
    onChange(changed: () => void): void {
      for (const informer of all) informer.onChange(changed);
    },
    /** A claim, or the volume that is bound to it or meant for it, changed: `namespace/name`. */
    onBinding(changed: (claim: string) => void): void {
      claims.onChange(({ object: { metadata } }) =>
        changed(`${metadata.namespace}/${metadata.name}`),
      );
      volumes.onChange((change) => {
        const old = change.type === 'updated' ? change.old.spec?.claimRef : undefined;
        for (const ref of [old, change.object.spec?.claimRef]) {
          if (ref) changed(`${ref.namespace}/${ref.name}`);
        }
      });
    },
  };
}

type PodChange = { type: 'added' | 'updated' | 'deleted'; object: Pod; old?: Pod };

const isPlacementChange = (change: PodChange): boolean =>
  change.type !== 'updated' ||
  change.old?.spec.nodeName !== change.object.spec.nodeName ||
  isTerminal(change.object) !== (change.old ? isTerminal(change.old) : false) ||
  JSON.stringify(change.old?.metadata.labels) !== JSON.stringify(change.object.metadata.labels);

/** Heartbeats change a node's status all the time; only these parts can let a pod fit. */
function mayHelp(before: Node, after: Node): boolean {
  const parts = (node: Node): string =>
    JSON.stringify([node.status?.allocatable, node.metadata.labels, node.spec]);
  return parts(before) !== parts(after);
}

/** One pod's turn: decides at once (before the first await), then does what was decided. */
async function attemptOne(scheduler: Scheduler, attempt: Attempt): Promise<void> {
  const { cache, plugins, random, start } = scheduler;
  const view = podView(attempt.pod);
  try {
    const decision = decide(view, cache, plugins, { random, start });
    if (decision.type === 'bind') await carryOut(scheduler, view, decision.node);
    else await refuse(scheduler, view, decision);
  } catch (error) {
    failed(scheduler, view, error);
  }
}

function failed({ cache, queue, log, signal }: Scheduler, view: PodView, error: unknown): void {
  if (signal.aborted) return;
  log.warn('scheduling failed', { pod: view.key, error: errorText(error) });
  cache.forget(view.key);
  queue.failed(view.key, 'error');
}

async function carryOut(scheduler: Scheduler, view: PodView, name: string): Promise<void> {
  const { cache, volumes } = scheduler;
  const node = cache.node(name)?.node;
  const plan = node && planVolumes({ pod: view, cluster: cache, state: new Map() }, node);
  cache.assume(view, name);
  if (!plan) return await bindTo(scheduler, view, name);
  volumes.assumed.assume(view.key, plan, name);
  scheduler.beginWaiting(
    bindWithVolumes(scheduler, view, { plan, node: name }).catch((error: unknown) =>
      failed(scheduler, view, error),
    ),
  );
}

/** The volumes first: a pod that is bound to a node cannot look for another. */
async function bindWithVolumes(
  scheduler: Scheduler,
  view: PodView,
  { plan, node }: { plan: VolumePlan; node: string },
): Promise<void> {
  const { api, cache, queue, recorder, signal, clock, volumes } = scheduler;
  const binding = { ...volumes, api, cluster: cache, clock, signal };
  try {
    await bindVolumes(binding, view, plan, node);
  } catch (error) {
    if (!(error instanceof VolumeBindingError) && !isStatusError(error)) throw error;
    cache.forget(view.key);
    queue.failed(view.key, 'error');
    queue.clusterChanged();
    if (!volumes.isWanted(view)) return;
    const message = `running PreBind plugin "VolumeBinding": ${errorText(error)}`;
    recorder.record(view.pod, { type: 'Warning', reason: 'FailedScheduling', message });
    const why = { reason: 'SchedulerError', message, nowIso: isoSeconds(clock) };
    return await reportUnscheduled(api, view.pod, why, { signal });
  } finally {
    for (const claim of volumes.assumed.forget(view.key)) volumes.waits.changed(claim);
  }
  await bindTo(scheduler, view, node);
}

async function bindTo(scheduler: Scheduler, view: PodView, node: string): Promise<void> {
  const { api, cache, queue, recorder, signal, log } = scheduler;
  try {
    await bind(api, view.pod, node, { signal });
  } catch (error) {
    cache.forget(view.key);
    queue.clusterChanged();
    // Gone, or bound by somebody else: the informer will say so.
    if (isStatusError(error, 'NotFound') || isStatusError(error, 'Conflict')) {
      log.debug('binding refused', { pod: view.key, error: errorText(error) });
      queue.failed(view.key, 'error');
      return;
    }
    throw error;
  }
  queue.delete(view.key);
  recorder.record(view.pod, {
    type: 'Normal',
    reason: 'Scheduled',
    message: `Successfully assigned ${view.key} to ${node}`,
  });
}

async function refuse(
  scheduler: Scheduler,
  view: PodView,
  decision: Extract<Decision, { type: 'unschedulable' }>,
): Promise<void> {
  const { api, cache, queue, plugins, random, recorder, signal, clock } = scheduler;
  const { refusals } = decision;
  const preemption = planPreemption({ pod: view, cluster: cache, plugins, refusals, random });
  const plan = preemption.type === 'plan' ? preemption.plan : undefined;
  const message = unschedulableMessage(
    decision,
    preemption.type === 'plan'
      ? `preemption: ${preemption.plan.victims.length} pod(s) on ${preemption.plan.node} make room.`
      : preemption.message,
  );
  if (plan) cache.nominate(view, plan.node);
  queue.failed(view.key, 'unschedulable');
  recorder.record(view.pod, { type: 'Warning', reason: 'FailedScheduling', message });
  const nowIso = isoSeconds(clock);
  await reportUnscheduled(
    api,
    view.pod,
    {
      reason: 'Unschedulable',
      message,
      nowIso,
      ...(plan ? { nominatedNodeName: plan.node } : {}),
    },
    { signal },
  );
  for (const victim of plan?.victims ?? []) {
    if (victim.pod.metadata.deletionTimestamp) continue;
    recorder.record(victim.pod, {
      type: 'Normal',
      reason: 'Preempted',
      message: `Preempted by pod ${view.pod.metadata.uid} on node ${plan?.node}`,
    });
    await evictVictim(api, victim.pod, view.pod, { signal, nowIso });
  }
}

async function reportGated({ api, signal, clock, log }: Scheduler, pod: Pod): Promise<void> {
  try {
    await reportUnscheduled(
      api,
      pod,
      {
        reason: 'SchedulingGated',
        message: 'Scheduling is blocked due to non-empty scheduling gates',
        nowIso: isoSeconds(clock),
      },
      { signal },
    );
  } catch (error) {
    if (!signal.aborted) log.warn('cannot report a gated pod', { error: errorText(error) });
  }
}

const isoSeconds = (clock: Clock): string =>
  new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');

const rethrowUnlessAborted =
  (signal: AbortSignal) =>
  (error: unknown): void => {
    if (!signal.aborted) throw error;
  };
