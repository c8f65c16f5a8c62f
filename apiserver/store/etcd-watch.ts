import type { EtcdEvent, KeyValue, WatchResponse, WatchStream } from './etcd-client.ts';
import { type EtcdClient, toEtcdError } from '#apiserver/store/etcd-client.ts';
import {
  CompactedError,
  type Entry,
  type Revision,
  type WatchBatch,
  type WatchEvent,
} from '#apiserver/store/store.ts';

/** etcd's spelling of "every key": from the zero byte to the end. */
const ALL_KEYS = Uint8Array.of(0);

/**
 * Every commit after `from` of the whole etcd, in order, at the reader's pace. All keys are
 * watched on purpose: each revision has an event then, so the last event tells exactly how far
 * the stream has come. (Progress answers of etcd before 3.4.25 may overtake events.)
 * Ends when `signal` aborts. Throws CompactedError, StoreUnavailableError.
 */
export async function* watchAll(
  client: EtcdClient,
  endpoints: readonly string[],
  { from, signal }: { from: Revision; signal: AbortSignal },
): AsyncGenerator<WatchBatch, void, void> {
  const stream = client.watch({
    // From the last known one, and that one dropped: etcd answers for the very revision it has
    // compacted to, but may have lost a deletion in it. Zero would mean "from now on".
    createRequest: {
      key: ALL_KEYS,
      rangeEnd: ALL_KEYS,
      startRevision: Math.max(1, from),
      prevKv: true,
    },
  });
  const onAbort = () => stream.cancel();
  signal.addEventListener('abort', onAbort);
  try {
    if (signal.aborted) return;
    for await (const response of stream as AsyncIterable<WatchResponse>) {
      const batch = toBatch(response, from);
      if (batch !== null) yield batch;
    }
  } catch (error) {
    if (signal.aborted) return;
    throw error instanceof CompactedError ? error : toEtcdError(error, endpoints);
  } finally {
    signal.removeEventListener('abort', onAbort);
    end(stream);
  }
}

/** The revision that etcd's history begins at, learnt by asking for the very first one. */
export async function compactedRevision(
  client: EtcdClient,
  endpoints: readonly string[],
): Promise<Revision> {
  const { signal } = new AbortController();
  try {
    for await (const batch of watchAll(client, endpoints, { from: 0, signal })) {
      if (batch.events.length > 0) break;
    }
  } catch (error) {
    if (error instanceof CompactedError) return error.compactedRevision;
    throw error;
  }
  return 0;
}

function end(stream: WatchStream): void {
  // Cancelling makes the stream fail; nobody listens any more.
  stream.on('error', () => {});
  stream.cancel();
}

function toBatch(response: WatchResponse, from: Revision): WatchBatch | null {
  if (response.compactRevision > 0) throw new CompactedError(response.compactRevision);
  if (response.canceled) throw new Error(response.cancelReason || 'etcd has ended the watch');
  const events = response.events.filter(({ kv }) => kv.modRevision > from).map(toEvent);
  const last = response.events.at(-1);
  return last === undefined ? null : { events, revision: Math.max(from, last.kv.modRevision) };
}

function toEvent({ type, kv, prevKv }: EtcdEvent): WatchEvent {
  const key = keyText(kv.key);
  const previous = prevKv === null ? null : toEntry(prevKv);
  if (type === 'PUT') {
    // Compaction was quicker than this watch: what was before is not known any more.
    if (previous === null && kv.createRevision !== kv.modRevision) throw lost(kv);
    return { type: 'put', entry: toEntry(kv), previous };
  }
  if (previous === null) throw lost(kv);
  return { type: 'delete', key, revision: kv.modRevision, previous };
}

function lost({ modRevision }: KeyValue): CompactedError {
  return new CompactedError(modRevision);
}

/** With a copy of the value: etcd's is a view of the whole message, which it would keep alive. */
export function toEntry({ key, value, createRevision, modRevision }: KeyValue): Entry {
  return { key: keyText(key), value: new Uint8Array(value), createRevision, modRevision };
}

const decoder = new TextDecoder();
function keyText(key: Uint8Array): string {
  return decoder.decode(key);
}
