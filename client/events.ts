import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import { formatTime } from '#api/time.ts';
import type { Event, KubeObject } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { events as eventResource } from '#client/resources.ts';

/** What is said about an object. `reason` is one CamelCase word, `message` a sentence. */
export type EventNote = {
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
  /** `spec.containers{web}`: the part of the object that is meant. */
  fieldPath?: string;
};

export type EventRecorder = {
  /** Returns at once; events are sent in the background and may be dropped under pressure. */
  record(about: KubeObject, note: EventNote): void;
  /** Resolves when everything recorded so far was sent or dropped. */
  flush(): Promise<void>;
};

export type EventRecorderOptions = {
  /** Who speaks: `deployment-controller`, `kubelet`. */
  component: string;
  host?: string;
  clock?: Clock;
  log?: Log;
};

/** Events waiting to be sent; more are dropped, because they tell of the past and cost memory. */
const MAX_QUEUED = 1000;
/** Remembered series, events and objects. */
const MAX_REMEMBERED = 4096;
/** Per object: this many at once, then one in `REFILL_MS`. Source: client-go's spam filter. */
const BURST = 25;
const REFILL_MS = 300_000;
/** More than this many messages of one reason within the window become one combined event. */
const MAX_SIMILAR = 10;
const SIMILAR_WINDOW_MS = 600_000;

type Draft = { event: Event; series: string };
type Known = { name: string; namespace: string; count: number; firstTimestamp: string };
type Similar = { messages: Set<string>; sinceMs: number };
type Bucket = { tokens: number; atMs: number };

/**
 * Writes core/v1 Events: repeats raise `count` of the first, floods of similar ones are combined,
 * and an object that says too much is silenced for a while. Source: client-go's event correlator.
 */
export function createEventRecorder(api: Api, options: EventRecorderOptions): EventRecorder {
  const { clock = systemClock, log = silentLog } = options;
  const queue: Draft[] = [];
  const known = new Map<string, Known>();
  const similar = new Map<string, Similar>();
  const buckets = new Map<string, Bucket>();
  let sending: Promise<void> = Promise.resolve();
  let active = false;
  let serial = 0;

  function record(about: KubeObject, note: EventNote): void {
    const nowMs = clock.now();
    const object = referenceTo(about, note.fieldPath);
    const objectKey = [object.kind, object.namespace, object.name, object.uid].join('/');
    if (!takeToken(buckets, objectKey, nowMs)) return;
    const groupKey = [objectKey, object.fieldPath, note.type, note.reason].join('|');
    const combined = isFlood(similar, groupKey, note.message, nowMs);
    const message = combined ? `(combined from similar events): ${note.message}` : note.message;
    const series = combined ? groupKey : `${groupKey}|${note.message}`;
    serial += 1;
    const event = eventOf(object, { ...note, message }, { ...options, nowMs, serial });
    if (queue.length >= MAX_QUEUED) {
      log.warn('event dropped', { reason: note.reason, object: objectKey });
      return;
    }
    queue.push({ event, series });
    if (!active) {
      active = true;
      sending = drain();
    }
  }

  async function drain(): Promise<void> {
    for (let draft = queue.shift(); draft; draft = queue.shift()) {
      try {
        await send(draft);
      } catch (error) {
        log.debug('event not sent', { reason: draft.event.reason, error: errorText(error) });
      }
    }
    active = false;
  }

  async function send({ event, series }: Draft): Promise<void> {
    const before = known.get(series);
    if (before && (await raiseCount(api, before, event))) return;
    known.delete(series);
    await api.create(eventResource, event);
    remember(known, series, {
      name: event.metadata.name ?? '',
      namespace: event.metadata.namespace ?? '',
      count: 1,
      firstTimestamp: event.firstTimestamp ?? '',
    });
  }

  return {
    record,
    async flush() {
      while (active) await sending;
    },
  };
}

/** Counts one more of a known event; false when that is gone. */
async function raiseCount(api: Api, before: Known, event: Event): Promise<boolean> {
  const { lastTimestamp, message } = event;
  const count = before.count + 1;
  try {
    const body = { count, lastTimestamp, message };
    await api.patch(eventResource, before, { type: 'merge', body });
    before.count = count;
    return true;
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return false;
    throw error;
  }
}

function eventOf(
  object: Event['involvedObject'],
  note: EventNote,
  by: { component: string; host?: string; nowMs: number; serial: number },
): Event {
  const { component, host, nowMs, serial } = by;
  const time = formatTime(nowMs);
  // Like upstream's name.hex(nanoseconds), with a serial where we have no nanoseconds.
  const nanoseconds = BigInt(nowMs) * 1_000_000n + BigInt(serial % 1_000_000);
  return {
    metadata: {
      name: `${object.name}.${nanoseconds.toString(16)}`,
      namespace: object.namespace ?? 'default',
    },
    involvedObject: object,
    reason: note.reason,
    message: note.message,
    type: note.type,
    source: { component, ...(host ? { host } : {}) },
    reportingComponent: component,
    reportingInstance: host ?? '',
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}

/** For tests and tools: keeps what was said as `Type Reason message`. */
export function listRecorder(): EventRecorder & { said: string[] } {
  const said: string[] = [];
  return {
    said,
    record: (_, note) => void said.push(`${note.type} ${note.reason} ${note.message}`),
    flush: () => Promise.resolve(),
  };
}

function referenceTo(about: KubeObject, fieldPath: string | undefined): Event['involvedObject'] {
  const { name, namespace, uid, resourceVersion } = about.metadata;
  return {
    kind: about.kind ?? '',
    apiVersion: about.apiVersion ?? '',
    name: name ?? '',
    ...(namespace ? { namespace } : {}),
    ...(uid ? { uid } : {}),
    ...(resourceVersion ? { resourceVersion } : {}),
    ...(fieldPath ? { fieldPath } : {}),
  };
}

function takeToken(buckets: Map<string, Bucket>, key: string, nowMs: number): boolean {
  const bucket = buckets.get(key) ?? { tokens: BURST, atMs: nowMs };
  const tokens = Math.min(BURST, bucket.tokens + (nowMs - bucket.atMs) / REFILL_MS);
  const may = tokens >= 1;
  remember(buckets, key, { tokens: may ? tokens - 1 : tokens, atMs: nowMs });
  return may;
}

function isFlood(
  similar: Map<string, Similar>,
  key: string,
  message: string,
  nowMs: number,
): boolean {
  let group = similar.get(key);
  if (!group || nowMs - group.sinceMs > SIMILAR_WINDOW_MS) {
    group = { messages: new Set(), sinceMs: nowMs };
  }
  if (group.messages.size <= MAX_SIMILAR) group.messages.add(message);
  remember(similar, key, group);
  return group.messages.size > MAX_SIMILAR;
}

/** Keeps the newest; a Map iterates in the order of insertion. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MAX_REMEMBERED) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
