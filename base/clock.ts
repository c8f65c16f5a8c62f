/**
 * Time as an argument, so that a whole cluster can run inside one seeded test.
 * Units are milliseconds since the Unix epoch unless a name says otherwise.
 */
export type Clock = {
  /** Wall clock, milliseconds since the epoch. */
  now(): number;
  /** Resolves after `ms`; rejects with `signal.reason` when aborted first. */
  sleep(ms: number, options?: { signal?: AbortSignal | undefined }): Promise<void>;
};

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, options) => sleepOnTimer(ms, options?.signal),
};

function sleepOnTimer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

type Sleeper = { at: number; wake: () => void };

/** A clock that stands still until a test advances it. */
export type ManualClock = Clock & {
  /** Moves time forward, waking sleepers in the order of their deadlines. */
  advance(ms: number): Promise<void>;
};

export function manualClock(startMs = 0): ManualClock {
  let now = startMs;
  const sleepers = new Set<Sleeper>();
  return {
    now: () => now,
    sleep(ms, options) {
      return new Promise((resolve, reject) => {
        const signal = options?.signal;
        if (signal?.aborted) return reject(signal.reason);
        const sleeper: Sleeper = { at: now + ms, wake: resolve };
        sleepers.add(sleeper);
        signal?.addEventListener(
          'abort',
          () => {
            if (sleepers.delete(sleeper)) reject(signal.reason);
          },
          { once: true },
        );
      });
    },
    async advance(ms) {
      const end = now + ms;
      for (;;) {
        const due = [...sleepers].filter((s) => s.at <= end).sort((a, b) => a.at - b.at)[0];
        if (!due) break;
        sleepers.delete(due);
        now = due.at;
        due.wake();
        await settle();
      }
      now = end;
      await settle();
    },
  };
}

/** Lets every already-resolved promise run its continuations. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
