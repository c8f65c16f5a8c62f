import { inRange } from '#apiserver/store/key-range.ts';
import {
  LaggedError,
  MAX_WATCH_LAG,
  type Range,
  type Revision,
  type WatchBatch,
  type WatchEvent,
  type WatchOptions,
} from '#apiserver/store/store.ts';

/**
 * The commits after `from` out of the store's history, batch by batch; each batch's `revision`
 * says how far it has come. Goes on until the reader stops it.
 */
export type History = (
  range: Range,
  from: Revision,
  signal: AbortSignal,
) => AsyncIterable<WatchBatch>;

type Subscriber = {
  range: Range;
  from: Revision;
  maxLag: number;
  events: WatchEvent[];
  /** A batch is owed, be it an empty one. */
  due: boolean;
  failure: Error | undefined;
  wake: () => void;
};

/**
 * The one ordered feed of a store and its fan-out to watchers. A watcher reads history until it
 * has reached the feed's end, then gets what is published. Nothing is lost between the two,
 * because the check "is at the end" and the subscription happen without a pause.
 */
export class Feed {
  #revision: Revision;
  readonly #history: History;
  readonly #subscribers = new Set<Subscriber>();
  #waiters: { revision: Revision; resolve: () => void }[] = [];
  #failure: Error | undefined;

  constructor(revision: Revision, history: History) {
    this.#revision = revision;
    this.#history = history;
  }

  /** Everything up to here has been published. */
  get revision(): Revision {
    return this.#revision;
  }

  /** Events in commit order; those of one commit always together. */
  publish(events: readonly WatchEvent[], revision: Revision): void {
    this.#advance(revision);
    for (const subscriber of this.#subscribers) {
      const before = subscriber.events.length;
      for (const event of events) {
        if (revisionOf(event) > subscriber.from && inRange(subscriber.range, keyOf(event))) {
          subscriber.events.push(event);
        }
      }
      if (subscriber.events.length === before) continue;
      if (subscriber.events.length > subscriber.maxLag) {
        this.#fail(subscriber, new LaggedError(subscriber.events.length));
      }
      subscriber.due = true;
      subscriber.wake();
    }
  }

  /** Resolves when everything up to this revision has been published, or the feed is closed. */
  async reached(revision: Revision): Promise<void> {
    if (revision <= this.#revision || this.#failure) return;
    await new Promise<void>((resolve) => this.#waiters.push({ revision, resolve }));
  }

  /** Tells every watcher how far the feed is: call it about once a second. */
  progress(): void {
    for (const subscriber of this.#subscribers) {
      subscriber.due = true;
      subscriber.wake();
    }
  }

  /** Ends all watches with this error, those to come too. */
  close(error: Error): void {
    this.#failure = error;
    for (const subscriber of this.#subscribers) this.#fail(subscriber, error);
    this.#advance(Number.POSITIVE_INFINITY);
  }

  /** Ends the watches under way with this error; new ones may begin. */
  interrupt(revision: Revision, error: Error): void {
    for (const subscriber of this.#subscribers) this.#fail(subscriber, error);
    this.#advance(revision);
  }

  /** See Store.watch. */
  async *watch(range: Range, options: WatchOptions): AsyncGenerator<WatchBatch, void, void> {
    const { from, signal } = options;
    if (signal.aborted) return;
    if (this.#failure) throw this.#failure;
    let subscriber: Subscriber | undefined;
    if (from >= this.#revision) {
      subscriber = this.#subscribe(range, from, options);
    } else {
      for await (const batch of this.#history(range, from, signal)) {
        yield batch;
        if (signal.aborted) return;
        if (this.#failure) throw this.#failure;
        if (batch.revision < this.#revision) continue;
        // At the end right now: subscribe before anything else can be published.
        subscriber = this.#subscribe(range, batch.revision, options);
        break;
      }
    }
    if (subscriber !== undefined) yield* this.#follow(subscriber, signal);
  }

  async *#follow(
    subscriber: Subscriber,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch, void, void> {
    const onAbort = () => subscriber.wake();
    signal.addEventListener('abort', onAbort);
    try {
      for (;;) {
        if (signal.aborted) return;
        if (subscriber.failure) throw subscriber.failure;
        if (subscriber.due) {
          const { events } = subscriber;
          subscriber.events = [];
          subscriber.due = false;
          yield { events, revision: Math.max(this.#revision, subscriber.from) };
        } else {
          await new Promise<void>((resolve) => {
            subscriber.wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#subscribers.delete(subscriber);
    }
  }

  #subscribe(range: Range, from: Revision, { maxLag = MAX_WATCH_LAG }: WatchOptions): Subscriber {
    const subscriber: Subscriber = {
      range,
      from,
      maxLag,
      events: [],
      due: false,
      failure: undefined,
      wake: () => {},
    };
    this.#subscribers.add(subscriber);
    return subscriber;
  }

  #advance(revision: Revision): void {
    if (this.#failure === undefined) this.#revision = revision;
    if (this.#waiters.length === 0) return;
    const due = this.#waiters.filter((waiter) => waiter.revision <= revision);
    this.#waiters = this.#waiters.filter((waiter) => waiter.revision > revision);
    for (const { resolve } of due) resolve();
  }

  #fail(subscriber: Subscriber, error: Error): void {
    this.#subscribers.delete(subscriber);
    subscriber.failure = error;
    subscriber.events = [];
    subscriber.wake();
  }
}

function keyOf(event: WatchEvent): string {
  return event.type === 'put' ? event.entry.key : event.key;
}

function revisionOf(event: WatchEvent): Revision {
  return event.type === 'put' ? event.entry.modRevision : event.revision;
}
