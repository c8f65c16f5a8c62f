/**
 * The store knows bytes and revisions only. Two implementations, one suite (suite.ts):
 * embedded (node:sqlite in a worker) and etcd.
 *
 * Guarantees, the same to the letter in both:
 * - One sequence of commits; a commit's revision is a positive integer that only grows, and a
 *   new store's first commit has a revision above 1.
 * - `commit` is acknowledged only after it is durable: it survives kill -9 and power loss.
 * - A read without `at` sees every commit acknowledged before the read began.
 * - A watch delivers every commit of its range after `from`, in order, without gap or repeat;
 *   events of one commit are never split over two batches.
 */
export type Revision = number;

export type Entry = {
  key: string;
  value: Uint8Array;
  /** Revision of the commit that created the key. */
  createRevision: Revision;
  /** Revision of the commit that wrote this value. */
  modRevision: Revision;
  /** With what the value is sealed, where values are (encrypted.ts); '' = not at all. */
  readonly seal?: string;
};

/** Keys with this prefix. Keys are non-empty strings without NUL, ordered by their UTF-8 bytes. */
export type Range = { prefix: string };

export type ListOptions = {
  /** Read as of this revision; default: now. Throws CompactedError, FutureRevisionError. */
  at?: Revision;
  /** Only keys greater than this one. */
  after?: string;
  /** At most this many entries; 0 or absent = all. */
  limit?: number;
};

export type ListResult = {
  entries: Entry[];
  /** The revision that the list is a snapshot of. */
  revision: Revision;
  /** Entries beyond the limit, exact. */
  remaining: number;
};

/** Compare-and-swap of one key. */
export type Write = {
  key: string;
  /** The key's modRevision now, or 'absent' (it must not exist), or 'any'. */
  expect: Revision | 'absent' | 'any';
  /** null deletes. */
  value: Uint8Array | null;
  /** Removed by the store (as an ordinary delete commit) this many seconds after its last write. */
  ttlSeconds?: number;
};

export type CommitResult =
  /** A delete of an absent key with expect 'any' succeeds without a new revision. */
  | { ok: true; revision: Revision }
  /** `current` is what stands in the way; null = the key does not exist. */
  | { ok: false; current: Entry | null; revision: Revision };

export type WatchEvent =
  | { type: 'put'; entry: Entry; previous: Entry | null }
  /** `revision` of the delete; `previous` is the last value. */
  | { type: 'delete'; key: string; revision: Revision; previous: Entry };

/** Events in commit order; `revision` = everything up to here has been delivered (progress). */
export type WatchBatch = { events: WatchEvent[]; revision: Revision };

export type WatchOptions = {
  /** Deliver commits with a greater revision. Throws CompactedError when history is gone. */
  from: Revision;
  signal: AbortSignal;
  /** Bound of undelivered events before LaggedError; default MAX_WATCH_LAG. */
  maxLag?: number;
};

/** Undelivered events a watcher may have: about 10 s of a busy cluster's writes. */
export const MAX_WATCH_LAG = 20_000;

export type Store = {
  /** Revision of the newest acknowledged commit. */
  revision(): Promise<Revision>;
  get(key: string): Promise<{ entry: Entry | null; revision: Revision }>;
  list(range: Range, options?: ListOptions): Promise<ListResult>;
  /**
   * Compare-and-swap. Callers may have many in flight: those of one key take effect in call order.
   * The store keeps the value's bytes: do not change them afterwards. Throws StoreUnavailableError.
   */
  commit(write: Write): Promise<CommitResult>;
  /**
   * A `from` that is still to come waits for it. Ends quietly (return) when the signal aborts. The watch is established when the first
   * `next()` is called. Throws CompactedError, LaggedError, StoreUnavailableError.
   * Yields an empty batch as progress at least once a second while nothing happens.
   */
  watch(range: Range, options: WatchOptions): AsyncIterable<WatchBatch>;
  /**
   * Forgets history before `before`; reads and watches from older revisions throw CompactedError.
   * Nothing happens when that is forgotten already. Throws FutureRevisionError.
   */
  compact(before: Revision): Promise<void>;
  /** With what a value written now would be sealed; absent where values are not. */
  sealFor?(key: string): string;
  /** Flushes and lets go of files and connections. */
  close(): Promise<void>;
};

export class CompactedError extends Error {
  readonly compactedRevision: Revision;
  constructor(compactedRevision: Revision) {
    super(`required revision has been compacted; oldest is ${compactedRevision}`);
    this.name = 'CompactedError';
    this.compactedRevision = compactedRevision;
  }
}

export class FutureRevisionError extends Error {
  constructor(asked: Revision, current: Revision) {
    super(`revision ${asked} is in the future; the store is at ${current}`);
    this.name = 'FutureRevisionError';
  }
}

/** The watcher did not keep up with the bound; it must list again. */
export class LaggedError extends Error {
  constructor(lag: number) {
    super(`watcher is ${lag} events behind`);
    this.name = 'LaggedError';
  }
}

/** The store cannot be reached or written (disk full, etcd away); nothing was acknowledged. */
export class StoreUnavailableError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'StoreUnavailableError';
  }
}
