import { isDeepStrictEqual } from 'node:util';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import type { Pod, PodStatus } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { pods } from '#client/resources.ts';
import { createSlots } from '#node-agent/pods/slots.ts';

/** Writes at a time: a node that starts 110 pods at once shall not flood the API server. */
const PARALLEL_WRITES = 8;
const RETRY = { initialMs: 100, maxMs: 10_000 };

export type StatusWriter = {
  /** Makes the API show this status soon; only the newest one of a pod counts. */
  set(pod: Pod, status: PodStatus): void;
  /**
   * The status the API is known to have: what was last written, or what the object says. Times are
   * those of the newest status set: dated anew while it is on its way, each status would differ
   * from the one before, and the two would be written by turns without end.
   */
  reported(pod: Pod): PodStatus | undefined;
  /** Resolves when the last status set for the pod has been written, or the pod is gone. */
  written(uid: string): Promise<void>;
  /** Removes the object of a pod that has ended, once its last status was written. */
  deleteObject(pod: Pod): Promise<void>;
  forget(uid: string): void;
};

type Entry = {
  pod: Pod;
  wanted: PodStatus;
  /** Last status written by us, until the object of the informer catches up. */
  sent: PodStatus | undefined;
  /** Of the object it was written to. */
  shownUid: string | undefined;
  writing: Promise<void> | undefined;
};

export type StatusWriterOptions = {
  clock: Clock;
  log: Log;
  signal: AbortSignal;
  /** The object that shows a pod's status; undefined while there is none. */
  shownBy?: (pod: Pod) => Pod | undefined;
};

export function createStatusWriter(
  api: Api,
  { clock, log, signal, shownBy = (pod) => pod }: StatusWriterOptions,
): StatusWriter {
  const entries = new Map<string, Entry>();
  const slots = createSlots(PARALLEL_WRITES);

  async function write(uid: string, entry: Entry): Promise<void> {
    for (let failures = 0; entries.get(uid) === entry && !signal.aborted; ) {
      const { wanted } = entry;
      const pod = shownBy(entry.pod);
      if (!pod) return;
      if (entry.shownUid !== pod.metadata.uid) entry.sent = undefined;
      entry.shownUid = pod.metadata.uid;
      const body = statusPatch(entry.sent ?? pod.status, wanted);
      if (!body) return;
      try {
        await slots.run(() => patch(pod, body));
        entry.sent = wanted;
        failures = 0;
      } catch (error) {
        if (isStatusError(error, 'NotFound') || (await isReplaced(pod, error))) {
          entries.delete(uid);
          return;
        }
        failures++;
        log.warn('could not write the status of a pod', {
          pod: `${pod.metadata.namespace}/${pod.metadata.name}`,
          error: errorText(error),
        });
        await clock.sleep(backoffMs(failures, RETRY), { signal }).catch(() => undefined);
      }
    }
  }

  /** Another pod may have the name by now: its uid differs, which may not be changed. */
  async function isReplaced(pod: Pod, error: unknown): Promise<boolean> {
    if (!isStatusError(error, 'Conflict') && !isStatusError(error, 'Invalid')) return false;
    const { name = '', namespace, uid } = pod.metadata;
    const there = await api.get(pods, { namespace, name }).catch(() => undefined);
    return there !== undefined && there.metadata.uid !== uid;
  }

  async function patch(pod: Pod, status: object): Promise<void> {
    const { name = '', namespace, uid } = pod.metadata;
    await api.patch(
      pods,
      { namespace, name },
      { type: 'strategic', body: { metadata: { uid }, status } },
      { subresource: 'status', signal },
    );
  }

  const writer: StatusWriter = {
    set(pod, status) {
      const uid = pod.metadata.uid ?? '';
      let entry = entries.get(uid);
      if (!entry) {
        entry = { pod, wanted: status, sent: undefined, shownUid: undefined, writing: undefined };
        entries.set(uid, entry);
      }
      entry.pod = pod;
      entry.wanted = status;
      if (entry.writing) return;
      const current = entry;
      entry.writing = write(uid, current).finally(() => (current.writing = undefined));
    },
    reported(pod) {
      const entry = entries.get(pod.metadata.uid ?? '');
      if (!entry) return pod.status ?? shownBy(pod)?.status;
      const { sent, wanted } = entry;
      const own = wanted.conditions ?? [];
      const foreign = (pod.status?.conditions ?? []).filter(
        (c) => !PASSING.has(c.type) && !own.some((o) => o.type === c.type),
      );
      const known = sent ? { ...pod.status, ...sent } : (pod.status ?? shownBy(pod)?.status);
      const { startTime } = wanted;
      return { ...known, ...(startTime ? { startTime } : {}), conditions: [...own, ...foreign] };
    },
    written: async (uid) => entries.get(uid)?.writing,
    async deleteObject(pod) {
      const { name = '', namespace, uid = '' } = pod.metadata;
      for (let failures = 1; !signal.aborted; failures++) {
        await writer.written(uid);
        try {
          await api.delete(
            pods,
            { namespace, name },
            { gracePeriodSeconds: 0, preconditions: { uid }, signal },
          );
          return;
        } catch (error) {
          if (isStatusError(error, 'NotFound') || isStatusError(error, 'Conflict')) return;
          log.warn('could not delete the object of an ended pod', {
            pod: `${namespace}/${name}`,
            error: errorText(error),
          });
          await clock.sleep(backoffMs(failures, RETRY), { signal });
        }
      }
    },
    forget: (uid) => void entries.delete(uid),
  };
  return writer;
}

const FIELDS = [
  'observedGeneration',
  'phase',
  'reason',
  'message',
  'hostIP',
  'hostIPs',
  'podIP',
  'podIPs',
  'startTime',
  'initContainerStatuses',
  'containerStatuses',
  'ephemeralContainerStatuses',
  'resources',
  'allocatedResources',
  'qosClass',
] as const;

/** Conditions of the agent's own that are there only while they hold. */
const PASSING = new Set(['PodResizePending', 'PodResizeInProgress']);

/** Lists of addresses merge by address; saying so replaces them as a whole. */
const REPLACED = new Set<string>(['hostIPs', 'podIPs']);

/** What has to change from `before` to `after`, as a strategic merge patch; undefined for nothing. */
export function statusPatch(
  before: PodStatus | undefined,
  after: PodStatus,
): Record<string, unknown> | undefined {
  const patch: Record<string, unknown> = {};
  for (const field of FIELDS) {
    const value = after[field];
    if (isDeepStrictEqual(before?.[field], value)) continue;
    if (value === undefined) patch[field] = null;
    else if (REPLACED.has(field) && Array.isArray(value) && before?.[field])
      patch[field] = [{ $patch: 'replace' }, ...(value as unknown[])];
    else patch[field] = value;
  }
  // Conditions merge by type, so those of others stay.
  const conditions = (after.conditions ?? []).filter((condition) => {
    const old = before?.conditions?.find((c) => c.type === condition.type);
    return !isDeepStrictEqual(old && { ...old, lastProbeTime: undefined }, {
      ...condition,
      lastProbeTime: undefined,
    });
  });
  const over = (before?.conditions ?? []).filter(
    ({ type }) => PASSING.has(type) && !after.conditions?.some((c) => c.type === type),
  );
  if (conditions.length + over.length > 0) {
    const removed = over.map(({ type }) => ({ $patch: 'delete', type }));
    const changed = conditions.map((condition) => ({
      ...(before?.conditions?.some((c) => c.type === condition.type)
        ? { reason: null, message: null }
        : {}),
      ...condition,
    }));
    patch['conditions'] = [...changed, ...removed];
  }
  return Object.keys(patch).length > 0 ? patch : undefined;
}
