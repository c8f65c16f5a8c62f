import { backoffMs } from '#base/backoff.ts';
import { type Clock, systemClock } from '#base/clock.ts';

export type WorkQueueOptions = {
  signal: AbortSignal;
  clock?: Clock;
  /** First delay after a failure, milliseconds. Default 20. */
  initialBackoffMs?: number;
  /** Longest delay after failures, milliseconds. Default 60,000. */
  maxBackoffMs?: number;
};

/** Keys are unique, so there are never more than objects; past this something invents keys. */
const MAX_KEYS = 1_000_000;

/**
 * Keys waiting for work. A key waits at most once, is never worked on twice at the same time, and
 * one added while being worked on comes again after it.
 */
export class WorkQueue {
  readonly #signal: AbortSignal;
  readonly #clock: Clock;
  readonly #backoff: { initialMs: number; maxMs: number };
  readonly #ready = new Set<string>();
  readonly #working = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #delayed = new Map<string, number>();
  #takers: ((key: string | undefined) => void)[] = [];
  #alarm: { atMs: number; cancel: AbortController } | null = null;

  constructor(options: WorkQueueOptions) {
    this.#signal = options.signal;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = {
      initialMs: options.initialBackoffMs ?? 20,
      maxMs: options.maxBackoffMs ?? 60_000,
    };
    this.#signal.addEventListener('abort', () => this.#close(), { once: true });
  }

  /** Keys ready to be taken. */
  get length(): number {
    return this.#ready.size;
  }

  add(key: string): void {
    if (this.#signal.aborted) return;
    if (this.#working.has(key)) {
      this.#again.add(key);
      return;
    }
    const taker = this.#takers.shift();
    if (taker) {
      this.#working.add(key);
      taker(key);
      return;
    }
    if (this.#ready.size >= MAX_KEYS) throw new Error(`more than ${MAX_KEYS} keys in a work queue`);
    this.#ready.add(key);
  }

  /** Adds after `ms`; of several delays for a key the earliest counts. */
  addAfter(key: string, ms: number): void {
    if (ms <= 0) {
      this.add(key);
      return;
    }
    if (this.#signal.aborted) return;
    const atMs = this.#clock.now() + ms;
    const known = this.#delayed.get(key);
    if (known !== undefined && known <= atMs) return;
    this.#delayed.set(key, atMs);
    if (!this.#alarm || atMs < this.#alarm.atMs) this.#setAlarm(atMs);
  }

  /** Adds after the key's back-off and counts one more failure; returns the delay. */
  retry(key: string): number {
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const delay = backoffMs(failures, this.#backoff);
    this.addAfter(key, delay);
    return delay;
  }

  /** The key went well: its back-off starts anew. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** The next key, which is the caller's until `done(key)`; undefined once the signal aborted. */
  next(): Promise<string | undefined> {
    if (this.#signal.aborted) return Promise.resolve(undefined);
    for (const key of this.#ready) {
      this.#ready.delete(key);
      this.#working.add(key);
      return Promise.resolve(key);
    }
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  done(key: string): void {
    this.#working.delete(key);
    if (this.#again.delete(key)) this.add(key);
  }

  #setAlarm(atMs: number): void {
    this.#alarm?.cancel.abort();
    const cancel = new AbortController();
    this.#alarm = { atMs, cancel };
    const ring = (): void => {
      if (!cancel.signal.aborted) this.#ring();
    };
    const wait = Math.max(0, atMs - this.#clock.now());
    this.#clock.sleep(wait, { signal: cancel.signal }).then(ring, () => {});
  }

  #ring(): void {
    this.#alarm = null;
    const now = this.#clock.now();
    let earliest = Number.POSITIVE_INFINITY;
    for (const [key, atMs] of this.#delayed) {
      if (atMs <= now) {
        this.#delayed.delete(key);
        this.add(key);
      } else if (atMs < earliest) earliest = atMs;
    }
    if (earliest !== Number.POSITIVE_INFINITY) this.#setAlarm(earliest);
  }

  #close(): void {
    this.#alarm?.cancel.abort();
    this.#delayed.clear();
    this.#ready.clear();
    this.#again.clear();
    const takers = this.#takers;
    this.#takers = [];
    for (const taker of takers) taker(undefined);
  }
}
