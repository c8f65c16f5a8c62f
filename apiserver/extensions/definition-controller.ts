import { storedKindOf } from '#api/apiextensions/custom-kinds.ts';
import { setCondition } from '#api/apiextensions/definition-defaults.ts';
import { planDefinitionStatus } from '#api/apiextensions/definition-status.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { CLEANUP_FINALIZER, isTrue } from '#api/apiextensions/definition-types.ts';
import { cloneJson } from '#api/json.ts';
import { isStatusError } from '#api/status.ts';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import { kindOf, writeAsServer } from '#apiserver/bootstrap-context.ts';
import { DEFINITIONS } from '#apiserver/extensions/live-scheme.ts';
import { timestamp } from '#apiserver/resource/server-context.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import type { Resources } from '#apiserver/subresources/handler.ts';

/** A definition whose turn failed is looked at again after this long. */
const RETRY_MS = 1_000;

type Controller = {
  server: ServerContext;
  resources: Resources;
  clock: Clock;
  log: Log;
  /** Names to look at, in order. */
  queue: Set<string>;
  wake: () => void;
};

/**
 * Keeps the definitions' status true and removes the objects of those that go, until the signal
 * aborts. Every server does so: who comes second finds nothing to do.
 */
export async function runDefinitions(
  server: ServerContext,
  resources: Resources,
  signal: AbortSignal,
): Promise<void> {
  const { clock, log } = server;
  const cache = server.cache.at(DEFINITIONS.group, DEFINITIONS.plural);
  let wake = (): void => {};
  const controller: Controller = {
    server,
    resources,
    clock,
    log,
    queue: new Set(cache.all().map(({ name }) => name)),
    wake: () => wake(),
  };
  const stop = cache.listen(({ entry, current }) => {
    controller.queue.add(entry.name);
    // Names may have become free.
    if (current === null || isUnsettled(current.object as CustomResourceDefinition)) {
      for (const other of cache.all()) {
        if (isUnsettled(other.object as CustomResourceDefinition)) controller.queue.add(other.name);
      }
    }
    wake();
  });
  const onAbort = (): void => wake();
  signal.addEventListener('abort', onAbort);
  try {
    while (!signal.aborted) {
      const [name] = controller.queue;
      if (name === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      controller.queue.delete(name);
      await turn(controller, name, signal);
    }
  } finally {
    stop();
    signal.removeEventListener('abort', onAbort);
  }
}

const isUnsettled = (definition: CustomResourceDefinition): boolean =>
  !isTrue(definition, 'NamesAccepted');

async function turn(controller: Controller, name: string, signal: AbortSignal): Promise<void> {
  try {
    await settle(controller, name, signal);
  } catch (error) {
    if (signal.aborted) return;
    // Somebody else was faster; the change that they made brings the name back.
    if (isStatusError(error, 'Conflict') || isStatusError(error, 'NotFound')) return;
    controller.log.warn('definition not settled', { name, error: errorText(error) });
    again(controller, name, signal);
  }
}

function again({ clock, queue, wake }: Controller, name: string, signal: AbortSignal): void {
  clock.sleep(RETRY_MS, { signal }).then(
    () => {
      queue.add(name);
      wake();
    },
    () => {},
  );
}

async function settle(controller: Controller, name: string, signal: AbortSignal): Promise<void> {
  const { server, clock } = controller;
  const { group, plural } = DEFINITIONS;
  const definition = server.reader.get<CustomResourceDefinition>(group, plural, { name });
  if (!definition) return;
  const { deletionTimestamp, finalizers = [] } = definition.metadata;
  if (deletionTimestamp) {
    if (finalizers.includes(CLEANUP_FINALIZER)) await remove(controller, definition, signal);
    return;
  }
  const all = server.reader.list<CustomResourceDefinition>(group, plural);
  const planned = planDefinitionStatus(definition, all, timestamp(clock.now()));
  if (planned) await writeStatus(controller, planned, signal);
}

async function writeStatus(
  { server, resources }: Controller,
  definition: CustomResourceDefinition,
  signal: AbortSignal,
): Promise<CustomResourceDefinition> {
  const kind = kindOf(server, DEFINITIONS.group, 'v1', DEFINITIONS.plural);
  const as = { ...writeAsServer({ signal }), subresource: 'status' };
  return resources.update(kind, definition, as);
}

/** Removes a definition's objects, and lets it go when there are none. */
async function remove(
  controller: Controller,
  definition: CustomResourceDefinition,
  signal: AbortSignal,
): Promise<void> {
  const now = timestamp(controller.clock.now());
  let current = cloneJson(definition);
  if (isTrue(definition, 'Established')) {
    if (!isAtWork(definition)) {
      setCondition(current, now, {
        type: 'Terminating',
        status: 'True',
        reason: 'InstanceDeletionInProgress',
        message: 'CustomResource deletion is in progress',
      });
      current = await writeStatus(controller, current, signal);
    }
    if (!(await removeObjects(controller, definition, signal))) return;
    setCondition(current, now, {
      type: 'Terminating',
      status: 'False',
      reason: 'InstanceDeletionCompleted',
      message: 'removed all instances',
    });
  } else {
    setCondition(current, now, {
      type: 'Terminating',
      status: 'False',
      reason: 'NeverEstablished',
      message: 'resource was never established',
    });
  }
  const left = current.metadata.finalizers?.filter((name) => name !== CLEANUP_FINALIZER);
  current.metadata.finalizers = left ?? [];
  await writeStatus(controller, current, signal);
}

const isAtWork = ({ status }: CustomResourceDefinition): boolean =>
  status?.conditions?.some(
    ({ type, reason }) => type === 'Terminating' && reason === 'InstanceDeletionInProgress',
  ) === true;

/** False while objects remain that their finalizers hold: their end brings the definition back. */
async function removeObjects(
  controller: Controller,
  definition: CustomResourceDefinition,
  signal: AbortSignal,
): Promise<boolean> {
  const { server, resources } = controller;
  const kind = storedKindOf(definition);
  if (!kind) return true;
  const objects = server.cache.of(kind);
  for (const { namespace, name } of [...objects.all()]) {
    try {
      const key = { ...(namespace === '' ? {} : { namespace }), name };
      await resources.delete(kind, key, {}, writeAsServer({ signal }));
    } catch (error) {
      if (!isStatusError(error, 'NotFound')) throw error;
    }
  }
  if (objects.size === 0) {
    objects.forget(server.cache.revision);
    return true;
  }
  const stop = objects.listen(() => {
    if (objects.size > 0) return;
    stop();
    controller.queue.add(definition.metadata.name ?? '');
    controller.wake();
  });
  signal.addEventListener('abort', stop, { once: true });
  return false;
}
