import {
  createEtcdClient,
  type EtcdClient,
  type EtcdConnection,
  EtcdError,
  type RequestOp,
  type TxnRequest,
} from '#apiserver/store/etcd-client.ts';
import { createLeases, type Leases } from '#apiserver/store/etcd-lease.ts';
import { compactedRevision, toEntry, watchAll } from '#apiserver/store/etcd-watch.ts';
import { Feed } from '#apiserver/store/feed.ts';
import { assertKey, inRange, prefixEnd } from '#apiserver/store/key-range.ts';
import {
  CompactedError,
  FutureRevisionError,
  StoreUnavailableError,
  type CommitResult,
  type ListOptions,
  type ListResult,
  type Range,
  type Revision,
  type Store,
  type WatchBatch,
  type WatchEvent,
  type WatchOptions,
  type Write,
} from '#apiserver/store/store.ts';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { type Random, systemRandom } from '#base/random.ts';

export type EtcdOptions = EtcdConnection & {
  clock: Clock;
  log: Log;
  random?: Random;
};

/** How often watchers hear how far the feed is. */
const PROGRESS_MS = 1_000;
/** Entries per call of a list: a few megabytes of ordinary objects. */
const PAGE_ENTRIES = 1_000;
/** How quickly a broken feed comes back. */
const RECONNECT = { initialMs: 100, maxMs: 3_000 };

const encoder = new TextEncoder();
/** Ends a range that has no end: etcd reads a single zero byte as "and all that follow". */
const NO_END = Uint8Array.of(0);

/** Connects to etcd. Throws StoreUnavailableError when it does not answer. */
export async function openEtcdStore(options: EtcdOptions): Promise<Store> {
  const client = createEtcdClient(options);
  try {
    const { header } = await client.range({ key: NO_END, rangeEnd: NO_END, countOnly: true });
    return new EtcdStore(client, options, header.revision);
  } catch (error) {
    client.close();
    throw error;
  }
}

class EtcdStore implements Store {
  readonly #client: EtcdClient;
  readonly #endpoints: readonly string[];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #leases: Leases;
  readonly #feed: Feed;
  readonly #closing = new AbortController();
  readonly #tasks: Promise<unknown>;
  /** The last commit under way of each key: the next one of that key waits for it. */
  readonly #underWay = new Map<string, Promise<CommitResult>>();
  #compacted: Revision = 0;
  #closed: Promise<void> | undefined;

  constructor(client: EtcdClient, options: EtcdOptions, revision: Revision) {
    this.#client = client;
    this.#endpoints = options.endpoints;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#leases = createLeases(client, options.clock, options.random ?? systemRandom);
    this.#feed = new Feed(revision, (range, from, signal) => this.#history(range, from, signal));
    const { signal } = this.#closing;
    this.#tasks = Promise.all([this.#follow(signal), this.#tick(signal)]);
  }

  async revision(): Promise<Revision> {
    this.#assertOpen();
    const { header } = await this.#client.range({ key: NO_END, rangeEnd: NO_END, countOnly: true });
    return header.revision;
  }

  async get(key: string): ReturnType<Store['get']> {
    assertKey(key);
    this.#assertOpen();
    const { header, kvs } = await this.#client.range({ key: encoder.encode(key) });
    return { entry: kvs[0] ? toEntry(kvs[0]) : null, revision: header.revision };
  }

  async list(range: Range, options: ListOptions = {}): Promise<ListResult> {
    this.#assertOpen();
    const wanted = options.limit || Number.POSITIVE_INFINITY;
    const rangeEnd = endOf(range);
    const entries: ListResult['entries'] = [];
    let key = startOf(range, options.after);
    let revision = options.at ?? 0;
    for (;;) {
      // Also for a range that is empty, which etcd would not understand: its revision counts.
      const empty = rangeEnd !== NO_END && Buffer.compare(key, rangeEnd) >= 0;
      const limit = Math.min(PAGE_ENTRIES, wanted - entries.length);
      const request = { key, rangeEnd, limit, revision, countOnly: empty };
      const page = await this.#client
        .range(empty ? { ...request, key: rangeEnd, rangeEnd: NO_END } : request)
        .catch((error: unknown) => this.#rethrowRead(error, revision));
      revision ||= page.header.revision;
      if (empty) return { entries, revision, remaining: 0 };
      for (const kv of page.kvs) entries.push(toEntry(kv));
      const remaining = page.count - page.kvs.length;
      const last = page.kvs.at(-1);
      if (last === undefined || remaining === 0 || entries.length === wanted) {
        return { entries, revision, remaining };
      }
      key = justAfter(last.key);
    }
  }

  commit(write: Write): Promise<CommitResult> {
    assertKey(write.key);
    const before = this.#underWay.get(write.key);
    const result =
      before === undefined
        ? this.#transact(write)
        : before.then(
            () => this.#transact(write),
            () => this.#transact(write),
          );
    this.#underWay.set(write.key, result);
    const forget = () => {
      if (this.#underWay.get(write.key) === result) this.#underWay.delete(write.key);
    };
    result.then(forget, forget);
    return result;
  }

  watch(range: Range, options: WatchOptions): AsyncIterable<WatchBatch> {
    return this.#feed.watch(range, options);
  }

  async compact(before: Revision): Promise<void> {
    const current = await this.revision();
    if (before > current) throw new FutureRevisionError(before, current);
    // Never ahead of our own feed, which would lose what it has not read yet.
    await this.#feed.reached(before);
    this.#assertOpen();
    try {
      await this.#client.compact({ revision: before });
    } catch (error) {
      if (!(error instanceof EtcdError) || error.refusal !== 'compacted') throw error;
    }
    this.#compacted = Math.max(this.#compacted, before);
  }

  close(): Promise<void> {
    this.#closed ??= this.#shutDown();
    return this.#closed;
  }

  async #shutDown(): Promise<void> {
    this.#closing.abort();
    this.#feed.close(new StoreUnavailableError('the store is closed'));
    await Promise.allSettled(this.#underWay.values());
    await this.#tasks;
    this.#client.close();
  }

  async #transact(write: Write): Promise<CommitResult> {
    this.#assertOpen();
    const { header, succeeded, responses } = await this.#client.txn(await this.#toTxn(write));
    const revision = header.revision;
    if (succeeded) return { ok: true, revision };
    const kv = responses[0]?.responseRange?.kvs[0];
    return { ok: false, current: kv ? toEntry(kv) : null, revision };
  }

  async #toTxn({ key: name, expect, value, ttlSeconds }: Write): Promise<TxnRequest> {
    const key = encoder.encode(name);
    // A revision of 0 is etcd's word for absence.
    const modRevision = expect === 'absent' ? 0 : expect;
    const lease = ttlSeconds === undefined ? 0 : await this.#leases.leaseFor(ttlSeconds);
    const operation: RequestOp =
      value === null ? { requestDeleteRange: { key } } : { requestPut: { key, value, lease } };
    return {
      compare: modRevision === 'any' ? [] : [{ target: 'MOD', key, modRevision }],
      success: [operation],
      failure: [{ requestRange: { key } }],
    };
  }

  /** Keeps the feed going: a lost connection is taken up where it broke. */
  async #follow(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      try {
        const from = this.#feed.revision;
        for await (const batch of watchAll(this.#client, this.#endpoints, { from, signal })) {
          failures = 0;
          this.#feed.publish(batch.events, batch.revision);
        }
        if (!signal.aborted) throw new Error('etcd has closed the watch');
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CompactedError) await this.#startAnew(error);
        this.#log.warn('the watch on etcd is taken up again', { error: errorText(error) });
        await this.#clock
          .sleep(backoffMs(++failures, RECONNECT), { signal })
          .catch(() => undefined);
      }
    }
  }

  /** History has gone on without us for too long: watchers have to list again. */
  async #startAnew(error: CompactedError): Promise<void> {
    this.#compacted = Math.max(this.#compacted, error.compactedRevision);
    const revision = await this.revision().catch(() => this.#feed.revision);
    this.#feed.interrupt(revision, error);
  }

  async #tick(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(PROGRESS_MS, { signal }).catch(() => undefined);
      this.#feed.progress();
    }
  }

  async *#history(
    range: Range,
    from: Revision,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch, void, void> {
    if (from < this.#compacted) throw new CompactedError(this.#compacted);
    for await (const { events, revision } of watchAll(this.#client, this.#endpoints, {
      from,
      signal,
    })) {
      yield { events: events.filter((event) => inRange(range, keyOf(event))), revision };
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new StoreUnavailableError('the store is closed');
  }

  async #rethrowRead(error: unknown, at: Revision): Promise<never> {
    if (!(error instanceof EtcdError)) throw error;
    if (error.refusal === 'future') throw new FutureRevisionError(at, await this.revision());
    if (error.refusal === 'compacted') {
      const oldest = await compactedRevision(this.#client, this.#endpoints);
      throw new CompactedError(oldest);
    }
    throw error;
  }
}

function keyOf(event: WatchEvent): string {
  return event.type === 'put' ? event.entry.key : event.key;
}

function startOf({ prefix }: Range, after: string | undefined): Uint8Array {
  const start = encoder.encode(prefix);
  if (after === undefined) return start.length === 0 ? NO_END : start;
  const next = justAfter(encoder.encode(after));
  return Buffer.compare(next, start) > 0 ? next : start;
}

function endOf({ prefix }: Range): Uint8Array {
  const end = prefixEnd(prefix);
  return end === null ? NO_END : encoder.encode(end);
}

/** The smallest key above this one. */
function justAfter(key: Uint8Array): Uint8Array {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}
