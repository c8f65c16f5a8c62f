import type { FlowSchema } from '#api/types.ts';
import { isStatusError } from '#api/status.ts';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import { ensureFlowControl } from '#apiserver/bootstrap-flowcontrol.ts';
import { type BootstrapContext, kindOf, writeAsServer } from '#apiserver/bootstrap-context.ts';
import { FLOW_GROUP, FLOW_RESOURCES } from '#apiserver/fairness-start.ts';
import { timestamp } from '#apiserver/resource/server-context.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

const CONSUMER = 'api-priority-and-fairness-config-consumer-v1';
/** Changes that come together are looked at together; also bounds the writes of two that differ. */
const SETTLE_MS = 200;

/**
 * Keeps the mandatory and suggested objects, and each flow schema's `Dangling` condition, for as
 * long as the server runs. Works only when one of these objects has changed.
 */
export async function keepFlowControl(
  context: BootstrapContext & { clock: Clock; cache: WatchCache },
): Promise<void> {
  const { clock, cache, signal, log } = context;
  let wake: (() => void) | undefined;
  let changed = true;
  const note = (): void => {
    changed = true;
    wake?.();
  };
  const stops = FLOW_RESOURCES.map((resource) => cache.at(FLOW_GROUP, resource).listen(note));
  signal.addEventListener('abort', note, { once: true });
  try {
    while (!signal.aborted) {
      if (!changed) await new Promise<void>((resolve) => (wake = resolve));
      signal.throwIfAborted();
      changed = false;
      try {
        await ensureFlowControl(context);
        await writeConditions(context);
      } catch (error) {
        signal.throwIfAborted();
        log.warn('flow control objects are not as they should be', { error: errorText(error) });
      }
      await clock.sleep(SETTLE_MS, { signal });
    }
  } finally {
    for (const stop of stops) stop();
  }
}

type Condition = NonNullable<NonNullable<FlowSchema['status']>['conditions']>[number];

/** What a schema's condition says of its priority level. */
export function danglingCondition(level: string, exists: boolean): Condition {
  const what = `This FlowSchema references the PriorityLevelConfiguration object named ${JSON.stringify(level)}`;
  return {
    type: 'Dangling',
    status: exists ? 'False' : 'True',
    reason: exists ? 'Found' : 'NotFound',
    message: exists ? `${what} and it exists` : `${what} but there is no such object`,
  };
}

async function writeConditions(context: BootstrapContext & { clock: Clock }): Promise<void> {
  const { reader, resources, clock } = context;
  const kind = kindOf(context, FLOW_GROUP, 'v1', 'flowschemas');
  const as = { ...writeAsServer(context), fieldManager: CONSUMER, subresource: 'status' };
  for (const { metadata, spec, status } of reader.list<FlowSchema>(FLOW_GROUP, 'flowschemas')) {
    const level = spec?.priorityLevelConfiguration.name ?? '';
    const exists =
      reader.get(FLOW_GROUP, 'prioritylevelconfigurations', { name: level }) !== undefined;
    const wanted = danglingCondition(level, exists);
    const old = status?.conditions?.find(({ type }) => type === wanted.type);
    if (old?.status === wanted.status && old?.message === wanted.message) continue;
    const since = old?.status === wanted.status ? old?.lastTransitionTime : timestamp(clock.now());
    const condition = { ...wanted, ...(since ? { lastTransitionTime: since } : {}) };
    const change = (current: FlowSchema): void => {
      const others = (current.status?.conditions ?? []).filter(({ type }) => type !== wanted.type);
      current.status = { ...current.status, conditions: [...others, condition] };
    };
    try {
      await resources.modify<FlowSchema>(kind, { name: metadata.name ?? '' }, change, as);
    } catch (error) {
      if (!isStatusError(error, 'NotFound')) throw error;
    }
  }
}
