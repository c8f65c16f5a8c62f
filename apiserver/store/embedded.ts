import type { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { describeFailure, openForReading, storeFiles } from '#apiserver/store/embedded-file.ts';
import {
  type CommitOutcomes,
  NUMBERS_PER_OUTCOME,
  OUTCOME_CONFLICT,
  OUTCOME_WRITTEN,
  packCommits,
  type WorkerReply,
  type WorkerRequest,
} from '#apiserver/store/embedded-messages.ts';
import { createReader, type EmbeddedReader } from '#apiserver/store/embedded-reader.ts';
import type { WorkerSettings } from '#apiserver/store/embedded-worker.ts';
import { Feed } from '#apiserver/store/feed.ts';
import { assertKey } from '#apiserver/store/key-range.ts';
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
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';

export type EmbeddedOptions = {
  clock: Clock;
  log: Log;
  /** The file may grow to this size, bytes; default DEFAULT_MAX_BYTES. */
  maxBytes?: number;
};

/** Twice etcd's own recommended maximum. */
const DEFAULT_MAX_BYTES = 16 * 2 ** 30;
/** How often watchers hear how far the feed is, and time-to-live is looked after. */
const TICK_MS = 1_000;
/** Expired entries deleted per tick: Events of a busy cluster come at a tenth of this. */
const MAX_EXPIRED_PER_TICK = 1_000;
/** Entries read without letting others run: a few milliseconds. */
const PAGE_ENTRIES = 500;
/** Commits waiting for the disk; far above what the API server lets in at once. */
const MAX_IN_FLIGHT = 20_000;

type Pending = {
  write: Write;
  resolve: (result: CommitResult) => void;
  reject: (error: Error) => void;
};

type Waiter = { resolve: () => void; reject: (error: Error) => void };

/**
 * Opens (or creates) the store in `<dataDir>/store`: node:sqlite in a worker that writes, and a
 * read connection here. Throws StoreUnavailableError: file damaged, foreign or in use.
 */
export async function openEmbeddedStore(dataDir: string, options: EmbeddedOptions): Promise<Store> {
  const { clock, log, maxBytes = DEFAULT_MAX_BYTES } = options;
  const workerData: WorkerSettings = { dataDir, maxBytes };
  const worker = new Worker(new URL('./embedded-worker.ts', import.meta.url), {
    workerData,
    name: 'store',
  });
  const opened = await new Promise<Extract<WorkerReply, { type: 'opened' }>>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (reply: WorkerReply) => {
      if (reply.type === 'opened') resolve(reply);
      else reject(new StoreUnavailableError('message' in reply ? reply.message : reply.type));
    });
  });
  worker.removeAllListeners('error');
  return new EmbeddedStore({ worker, dataDir, clock, log }, opened);
}

type Parts = { worker: Worker; dataDir: string; clock: Clock; log: Log };

class EmbeddedStore implements Store {
  readonly #worker: Worker;
  readonly #dataDir: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #db: DatabaseSync;
  readonly #reader: EmbeddedReader;
  readonly #feed: Feed;
  readonly #ticking: Promise<void>;
  readonly #ended: Promise<void>;
  readonly #closing = new AbortController();
  #compacted: Revision;
  /** Commits of this turn, not yet sent. */
  #turn: Pending[] = [];
  /** Commits sent and not answered, oldest first. */
  #sent: Pending[] = [];
  #compactions: Waiter[] = [];
  #closed: Promise<void> | undefined;
  #failure: StoreUnavailableError | undefined;

  constructor(
    { worker, dataDir, clock, log }: Parts,
    { revision, compacted }: { revision: Revision; compacted: Revision },
  ) {
    this.#worker = worker;
    this.#dataDir = dataDir;
    this.#clock = clock;
    this.#log = log;
    this.#compacted = compacted;
    this.#db = openForReading(storeFiles(dataDir));
    this.#reader = createReader(this.#db);
    this.#feed = new Feed(revision, (range, from) => this.#history(range, from));
    worker.on('message', (reply: WorkerReply) => this.#onReply(reply));
    worker.on('error', (error) => this.#fail('the store has failed', error));
    this.#ended = new Promise((resolve) => {
      worker.on('exit', () => {
        this.#fail('the store is closed');
        resolve();
      });
    });
    this.#ticking = this.#tick(this.#closing.signal);
  }

  async revision(): Promise<Revision> {
    this.#assertOpen();
    return this.#feed.revision;
  }

  async get(key: string): ReturnType<Store['get']> {
    assertKey(key);
    const revision = this.#feed.revision;
    return { entry: this.#read((reader) => reader.entryAt(key, revision)), revision };
  }

  async list(range: Range, options: ListOptions = {}): Promise<ListResult> {
    const at = options.at ?? this.#feed.revision;
    const wanted = options.limit || Number.POSITIVE_INFINITY;
    const entries: ListResult['entries'] = [];
    let after = options.after ?? '';
    for (;;) {
      this.#assertReadable(at);
      const limit = Math.min(PAGE_ENTRIES, wanted - entries.length);
      const page = this.#read((reader) => reader.page({ range, at, after, limit }));
      for (const entry of page) entries.push(entry);
      after = page.at(-1)?.key ?? after;
      if (page.length < limit) return { entries, revision: at, remaining: 0 };
      if (entries.length === wanted) break;
      await nextTurn();
    }
    const remaining = this.#read((reader) => reader.count({ range, at, after }));
    return { entries, revision: at, remaining };
  }

  commit(write: Write): Promise<CommitResult> {
    assertKey(write.key);
    return new Promise((resolve, reject) => {
      this.#assertOpen();
      if (this.#sent.length + this.#turn.length >= MAX_IN_FLIGHT) {
        throw new StoreUnavailableError(`${MAX_IN_FLIGHT} writes are waiting for the disk already`);
      }
      if (this.#turn.push({ write, resolve, reject }) === 1) setImmediate(() => this.#sendTurn());
    });
  }

  watch(range: Range, options: WatchOptions): AsyncIterable<WatchBatch> {
    return this.#feed.watch(range, options);
  }

  async compact(before: Revision): Promise<void> {
    this.#assertOpen();
    if (before > this.#feed.revision) throw new FutureRevisionError(before, this.#feed.revision);
    if (before <= this.#compacted) return;
    await new Promise<void>((resolve, reject) => {
      this.#compactions.push({ resolve, reject });
      this.#send({ type: 'compact', before });
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#shutDown();
    return this.#closed;
  }

  async #shutDown(): Promise<void> {
    this.#closing.abort();
    await this.#ticking;
    this.#sendTurn();
    if (this.#failure === undefined) {
      // Before the worker closes, so that the worker's connection is the last and tidies up.
      this.#feed.close(new StoreUnavailableError('the store is closed'));
      this.#db.close();
      this.#send({ type: 'close' });
    }
    await this.#ended;
  }

  #sendTurn(): void {
    const turn = this.#turn;
    if (turn.length === 0 || this.#failure !== undefined) return;
    this.#turn = [];
    for (const pending of turn) this.#sent.push(pending);
    this.#send(
      packCommits(
        turn.map((pending) => pending.write),
        this.#clock.now(),
      ),
    );
  }

  #send(request: WorkerRequest): void {
    const moved = request.type === 'commits' ? [request.numbers.buffer, request.values.buffer] : [];
    this.#worker.postMessage(request, moved);
  }

  #onReply(reply: WorkerReply): void {
    switch (reply.type) {
      case 'committed':
        try {
          this.#acknowledge(reply);
        } catch (error) {
          this.#fail(errorText(error), error);
        }
        return;
      case 'failed':
        for (const pending of this.#sent.splice(0, reply.count)) {
          pending.reject(new StoreUnavailableError(reply.message));
        }
        return;
      case 'compacted':
        this.#compacted = reply.before;
        this.#compactions.shift()?.resolve();
        return;
      case 'compact-failed':
        this.#compactions.shift()?.reject(new StoreUnavailableError(reply.message));
        return;
      case 'broken':
        this.#fail(reply.message);
        return;
      case 'opened':
      case 'closed':
    }
  }

  /** The commits are durable: watchers hear of them, then their callers. */
  #acknowledge({ outcomes, conflicts }: CommitOutcomes): void {
    const done = this.#sent.slice(0, outcomes.length / NUMBERS_PER_OUTCOME);
    const events: WatchEvent[] = [];
    const results: CommitResult[] = [];
    let conflict = 0;
    let revision = this.#feed.revision;
    done.forEach(({ write }, n) => {
      const at = n * NUMBERS_PER_OUTCOME;
      const outcome = outcomes[at];
      revision = outcomes[at + 1] ?? revision;
      if (outcome === OUTCOME_CONFLICT) {
        results.push({ ok: false, current: conflicts[conflict++] ?? null, revision });
        return;
      }
      results.push({ ok: true, revision });
      if (outcome !== OUTCOME_WRITTEN) return;
      events.push(
        this.#event(write, {
          revision,
          createRevision: outcomes[at + 2] ?? 0,
          replaced: outcomes[at + 3] ?? 0,
        }),
      );
    });
    this.#sent.splice(0, done.length);
    if (events.length > 0) this.#feed.publish(events, revision);
    done.forEach(({ resolve }, n) => {
      const result = results[n];
      if (result) resolve(result);
    });
  }

  #event(
    { key, value }: Write,
    commit: { revision: Revision; createRevision: Revision; replaced: Revision },
  ): WatchEvent {
    const { revision, createRevision, replaced } = commit;
    // Still there: compaction is asked for after this, and only up to the feed's revision.
    const previous = replaced === 0 ? null : this.#read((reader) => reader.entryOf(replaced));
    if (value !== null) {
      const entry = { key, value, createRevision, modRevision: revision };
      return { type: 'put', entry, previous };
    }
    if (previous === null) throw new Error(`commit ${revision} deleted nothing`);
    return { type: 'delete', key, revision, previous };
  }

  async *#history(range: Range, from: Revision): AsyncGenerator<WatchBatch, void, void> {
    let reached = from;
    for (;;) {
      if (reached < this.#compacted) throw new CompactedError(this.#compacted);
      const span = { from: reached, to: this.#feed.revision, limit: PAGE_ENTRIES };
      const batch = this.#read((reader) => reader.changes(range, span));
      yield batch;
      reached = batch.revision;
      await nextTurn();
    }
  }

  /** Once a second: progress to the watchers, and an end to what has lived its time. */
  async #tick(signal: AbortSignal): Promise<void> {
    let cursor = 0;
    while (!signal.aborted) {
      try {
        await this.#clock.sleep(TICK_MS, { signal });
        this.#feed.progress();
        cursor = await this.#expire(cursor);
      } catch (error) {
        if (signal.aborted || this.#failure !== undefined) return;
        this.#log.warn('expired entries could not be deleted', { error: errorText(error) });
      }
    }
  }

  /** Deletes what expired after `cursor`, by ordinary commits; returns the next cursor. */
  async #expire(cursor: number): Promise<number> {
    const now = this.#clock.now();
    // A clock set back makes times due again that the cursor has passed.
    const since = cursor > now ? 0 : cursor;
    const due = this.#read((reader) => reader.expired(since, now, MAX_EXPIRED_PER_TICK));
    await Promise.all(
      due.map(({ key, revision }) => this.commit({ key, expect: revision, value: null })),
    );
    return due.length < MAX_EXPIRED_PER_TICK ? now : since;
  }

  #assertOpen(): void {
    if (this.#failure) throw this.#failure;
    if (this.#closed) throw new StoreUnavailableError('the store is closed');
  }

  #assertReadable(at: Revision): void {
    if (at > this.#feed.revision) throw new FutureRevisionError(at, this.#feed.revision);
    if (at < this.#compacted) throw new CompactedError(this.#compacted);
  }

  #read<T>(read: (reader: EmbeddedReader) => T): T {
    this.#assertOpen();
    try {
      return read(this.#reader);
    } catch (error) {
      throw describeFailure(error, storeFiles(this.#dataDir));
    }
  }

  /** The worker is gone: what waited was not acknowledged, and nothing more will be. */
  #fail(message: string, cause?: unknown): void {
    if (this.#failure) return;
    this.#failure = new StoreUnavailableError(message, { cause });
    for (const { reject } of [...this.#sent, ...this.#turn, ...this.#compactions]) {
      reject(this.#failure);
    }
    this.#sent = [];
    this.#turn = [];
    this.#compactions = [];
    this.#feed.close(this.#failure);
    if (this.#db.isOpen) this.#db.close();
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
