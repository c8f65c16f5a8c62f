import type { Clock } from '#base/clock.ts';
import { backoffMs } from '#base/backoff.ts';
import type { Pod } from '#api/types.ts';
import { podKey } from '#scheduler/snapshot.ts';

/** Waits after a failed attempt. Source: upstream's podInitialBackoffSeconds, podMaxBackoffSeconds. */
const BACKOFF = { initialMs: 1_000, maxMs: 10_000 };
/** Unschedulable pods are tried again after this long even if nothing seemed to change. */
const FLUSH_UNSCHEDULABLE_MS = 300_000;

type Waiting = {
  pod: Pod;
  priority: number;
  queuedAt: number;
  attempts: number;
  state: 'active' | 'backoff' | 'unschedulable' | 'in-flight' | 'gated';
  /** backoff: when to become active; unschedulable: when to be flushed. */
  at: number;
  /** Something changed while the attempt was under way: do not park the pod as unschedulable. */
  moved: boolean;
};

export type Attempt = { pod: Pod; attempts: number };

/**
 * Pods that want a node. Active ones are taken by priority, then by age; a failed one waits
 * until something in the cluster changes that could help (and at least its back-off).
 */
export class SchedulingQueue {
  readonly #clock: Clock;
  readonly #isGated: (pod: Pod) => boolean;
  readonly #pods = new Map<string, Waiting>();
  /** Active pods, best last, sorted lazily: most turns add few and take one. */
  #active: Waiting[] = [];
  #sorted = true;
  /** Nearest deadline of a pod that waits for time to pass. */
  #nextAt = Number.POSITIVE_INFINITY;
  #wake: (() => void) | undefined;

  constructor(clock: Clock, isGated: (pod: Pod) => boolean) {
    this.#clock = clock;
    this.#isGated = isGated;
  }

  /** A pod without a node was added or changed. */
  set(pod: Pod): void {
    const key = podKey(pod);
    const known = this.#pods.get(key);
    if (known && known.pod.metadata.uid === pod.metadata.uid) {
      const wasWaiting = known.state === 'unschedulable' && mayFitNow(known.pod, pod);
      const wasGated = known.state === 'gated' && !this.#isGated(pod);
      known.pod = pod;
      if (wasWaiting || wasGated) this.#activate(known);
      return;
    }
    if (known) this.delete(key);
    const waiting: Waiting = {
      pod,
      priority: pod.spec.priority ?? 0,
      queuedAt: this.#clock.now(),
      attempts: 0,
      state: 'gated',
      at: 0,
      moved: false,
    };
    this.#pods.set(key, waiting);
    if (!this.#isGated(pod)) this.#activate(waiting);
  }

  delete(key: string): void {
    const known = this.#pods.get(key);
    if (!known) return;
    this.#pods.delete(key);
    if (known.state === 'active') this.#active = this.#active.filter((w) => w !== known);
  }

  /** The best active pod; null when none is. It stays in flight until `done` or `failed`. */
  take(): Attempt | null {
    this.#promote();
    if (!this.#sorted) {
      this.#active.sort((a, b) => a.priority - b.priority || b.queuedAt - a.queuedAt);
      this.#sorted = true;
    }
    const best = this.#active.pop();
    if (!best) return null;
    best.state = 'in-flight';
    best.moved = false;
    best.attempts++;
    return { pod: best.pod, attempts: best.attempts };
  }

  /** No node fits, or an error: wait. `error` backs off; otherwise only a change wakes it. */
  failed(key: string, kind: 'unschedulable' | 'error'): void {
    const known = this.#pods.get(key);
    if (!known) return;
    const now = this.#clock.now();
    const backoff = now + backoffMs(known.attempts, BACKOFF);
    if (kind === 'error' || known.moved) {
      known.state = 'backoff';
      known.at = backoff;
    } else {
      known.state = 'unschedulable';
      known.at = now + FLUSH_UNSCHEDULABLE_MS;
    }
    this.#nextAt = Math.min(this.#nextAt, known.at);
    this.#wake?.();
  }

  /** Something changed that may let unschedulable pods fit. */
  clusterChanged(): void {
    for (const waiting of this.#pods.values()) {
      waiting.moved = true;
      if (waiting.state !== 'unschedulable') continue;
      waiting.state = 'backoff';
      // Back-off counts from the attempt, which the flush deadline remembers.
      waiting.at = waiting.at - FLUSH_UNSCHEDULABLE_MS + backoffMs(waiting.attempts, BACKOFF);
      this.#nextAt = Math.min(this.#nextAt, waiting.at);
    }
    this.#wake?.();
  }

  counts(): { active: number; backoff: number; unschedulable: number; gated: number } {
    const counts = { active: 0, backoff: 0, unschedulable: 0, gated: 0 };
    for (const { state } of this.#pods.values()) if (state !== 'in-flight') counts[state]++;
    return counts;
  }

  /** Resolves when `take` may have something: a pod became active, or a back-off ran out. */
  async ready(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      this.#promote();
      if (this.#active.length > 0) return;
      await this.#untilWoken(signal);
    }
  }

  async #untilWoken(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true, signal: stop.signal });
    });
    const timer =
      this.#nextAt === Number.POSITIVE_INFINITY
        ? []
        : [
            this.#clock
              .sleep(Math.max(0, this.#nextAt - this.#clock.now()), { signal: stop.signal })
              .catch(() => {}),
          ];
    await Promise.race([woken, aborted, ...timer]);
    this.#wake = undefined;
    stop.abort();
  }

  /** Activates whatever has waited long enough; looks only when the nearest deadline has passed. */
  #promote(): void {
    const now = this.#clock.now();
    if (now < this.#nextAt) return;
    this.#nextAt = Number.POSITIVE_INFINITY;
    for (const waiting of this.#pods.values()) {
      if (waiting.state !== 'backoff' && waiting.state !== 'unschedulable') continue;
      if (waiting.at <= now) this.#activate(waiting);
      else this.#nextAt = Math.min(this.#nextAt, waiting.at);
    }
  }

  #activate(waiting: Waiting): void {
    if (waiting.state === 'active') return;
    waiting.state = 'active';
    this.#active.push(waiting);
    this.#sorted = false;
    this.#wake?.();
  }
}

/** A status write does not make a pod fit; a changed spec or label may. */
function mayFitNow(before: Pod, after: Pod): boolean {
  return (
    JSON.stringify(before.spec) !== JSON.stringify(after.spec) ||
    JSON.stringify(before.metadata.labels) !== JSON.stringify(after.metadata.labels)
  );
}
