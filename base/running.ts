/** What `start(config, { signal })` of every component returns. */
export type Running = {
  /** Settles when the component has stopped: after its signal aborted, or by a fatal error. */
  done: Promise<void>;
};

/**
 * Starts tasks that share one lifetime. The first failure aborts the rest; `done` settles after
 * every task has ended, and rejects with the first failure that is not the abort itself.
 */
export function runTogether(
  parent: AbortSignal,
  tasks: readonly ((signal: AbortSignal) => Promise<void>)[],
): Running {
  const own = new AbortController();
  const signal = AbortSignal.any([parent, own.signal]);
  let failure: { error: unknown } | undefined;
  const run = async (task: (signal: AbortSignal) => Promise<void>): Promise<void> => {
    try {
      await task(signal);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return;
      failure ??= { error };
      own.abort(error);
    }
  };
  const done = Promise.all(tasks.map(run)).then(() => {
    if (failure) throw failure.error;
  });
  // The starter awaits `done` later; until then a failure must not count as unhandled.
  done.catch(() => {});
  return { done };
}

/** Resolves when the signal aborts; for races that somebody else decides. */
export const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });

/** What `work` comes to, or the signal's reason thrown when it aborts first; `work` itself goes on. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
