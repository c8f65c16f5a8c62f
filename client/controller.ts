import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject, ObjectKey } from '#api/types.ts';
import {
  type Action,
  describeAction,
  execute,
  isNamespaceTerminating,
  type Outcome,
} from '#client/actions.ts';
import type { Api, Resource } from '#client/api.ts';
import { ConsistencyGate } from '#client/consistency-gate.ts';
import type { EventRecorder } from '#client/events.ts';
import type { Informer } from '#client/informer.ts';
import { WorkQueue } from '#client/workqueue.ts';

/** What to do now, and when to look again if nothing happens, milliseconds. */
export type Plan = { actions: readonly Action[]; requeueAfterMs?: number };

/** One cache a controller reads, with the resource it copies. */
export type Cache = { resource: Resource; informer: Informer };

export const cacheOf = <T extends KubeObject>(
  resource: Resource<T>,
  informer: Informer<T>,
): Cache => ({ resource: resource as Resource, informer: informer as unknown as Informer });

/**
 * Observe → plan → execute, per key. `plan` is pure; it gets the state of the world, never the
 * event that made it look. `Observed` undefined means that there is nothing (any more) to do.
 */
export type Controller<Observed> = {
  name: string;
  /** Keys worked on at the same time. Default 2. */
  workers?: number;
  /** Work starts when all are synced, and pauses per key until they show our own writes. */
  caches: readonly Cache[];
  /** Subscribes to changes and adds the keys that each concerns. */
  triggers(add: (key: string, afterMs?: number) => void): void;
  observe(key: ObjectKey, now: number): Observed | undefined | Promise<Observed | undefined>;
  plan(observed: Observed, now: number): Plan;
  /** What to write down about how it went (status), executed after the plan, failed or not. */
  report?(observed: Observed, outcome: Outcome, now: number): readonly Action[];
};

export type ControllerContext = {
  api: Api;
  recorder: EventRecorder;
  log: Log;
  signal: AbortSignal;
  clock?: Clock;
};

/** Runs until the signal aborts; then resolves when the last key is done. */
export async function runController<Observed>(
  controller: Controller<Observed>,
  context: ControllerContext,
): Promise<void> {
  const { signal, clock = systemClock } = context;
  const log = context.log.child(controller.name);
  const queue = new WorkQueue({ signal, clock });
  const gate = new ConsistencyGate(controller.caches, { clock, signal });
  try {
    await untilSynced(controller.caches, signal);
    controller.triggers((key, afterMs = 0) => queue.addAfter(key, afterMs));
    const run = { ...context, controller, queue, gate, clock, log };
    await Promise.all(Array.from({ length: controller.workers ?? 2 }, () => work(run)));
  } finally {
    gate.close();
  }
}

type Run<Observed> = Omit<ControllerContext, 'clock'> & {
  controller: Controller<Observed>;
  queue: WorkQueue;
  gate: ConsistencyGate;
  clock: Clock;
};

async function work<Observed>(run: Run<Observed>): Promise<void> {
  const { queue, signal, log } = run;
  for (;;) {
    const key = await queue.next();
    if (key === undefined) return;
    try {
      await reconcile(run, key);
    } catch (error) {
      if (!signal.aborted) {
        const retryMs = queue.retry(key);
        log.error('reconcile failed', { key, retryMs, error: errorText(error) });
      }
    } finally {
      queue.done(key);
    }
  }
}

async function reconcile<Observed>(run: Run<Observed>, key: string): Promise<void> {
  const { controller, queue, gate, clock, log } = run;
  if (!gate.isOpen(key)) {
    gate.whenOpen(key, () => queue.add(key));
    return;
  }
  const observed = await controller.observe(parseKey(key), clock.now());
  if (observed === undefined) {
    queue.forget(key);
    return;
  }
  const plan = controller.plan(observed, clock.now());
  for (const action of plan.actions) log.debug(describeAction(action), { key });
  const outcome = await execute(plan.actions, run);
  const { failures, written } = outcome;
  if (controller.report) {
    const said = await execute(controller.report(observed, outcome, clock.now()), run);
    failures.push(...said.failures);
    written.push(...said.written);
  }
  gate.expect(key, written);
  if (failures.length > 0) retry(run, key, outcome);
  else {
    queue.forget(key);
    if (plan.requeueAfterMs !== undefined) queue.addAfter(key, plan.requeueAfterMs);
  }
}

function retry<Observed>(run: Run<Observed>, key: string, outcome: Outcome): void {
  const { failures } = outcome;
  if (failures.every((failure) => isNamespaceTerminating(failure.error))) return;
  const retryMs = run.queue.retry(key);
  const [first] = failures;
  const fields = {
    key,
    retryMs,
    failures: failures.length,
    action: first ? describeAction(first.action).slice(0, 200) : '',
    error: errorText(first?.error),
  };
  // A conflict only says that the cache was behind.
  const expected = failures.every((failure) => isStatusError(failure.error, 'Conflict'));
  if (expected) run.log.debug('will try again', fields);
  else run.log.warn('will try again', fields);
}

async function untilSynced(caches: readonly Cache[], signal: AbortSignal): Promise<void> {
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  const synced = Promise.all(caches.map((cache) => cache.informer.synced()));
  await Promise.race([synced, aborted]);
}

/** `namespace/name`, or `name` alone for cluster-wide objects. */
export function keyText(object: KubeObject): string {
  const { namespace, name = '' } = object.metadata;
  return namespace ? `${namespace}/${name}` : name;
}

export function parseKey(text: string): ObjectKey {
  const slash = text.indexOf('/');
  return slash < 0
    ? { name: text }
    : { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}

/** Adds each changed object's own key. */
export function onSelf<T extends KubeObject>(
  informer: Informer<T>,
  add: (key: string) => void,
): void {
  informer.onChange((change) => add(keyText(change.object)));
}

/** Adds the key of the controlling owner of `kind`, of the object now and as it was before. */
export function onController<T extends KubeObject>(
  informer: Informer<T>,
  kind: string,
  add: (key: string) => void,
): void {
  informer.onChange((change) => {
    const keys = new Set([controllerKey(change.object, kind)]);
    if (change.type === 'updated') keys.add(controllerKey(change.old, kind));
    for (const key of keys) if (key) add(key);
  });
}

function controllerKey(object: KubeObject, kind: string): string {
  const owner = object.metadata.ownerReferences?.find((ref) => ref.controller);
  if (owner?.kind !== kind) return '';
  const { namespace } = object.metadata;
  return namespace ? `${namespace}/${owner.name}` : owner.name;
}
