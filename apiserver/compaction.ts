import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import type { Revision, Store } from '#apiserver/store/store.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

/** History of this age is forgotten, this often; upstream's period. */
const PERIOD_MS = 5 * 60_000;

/** Compacts the store until the signal aborts: what is forgotten is one to two periods old. */
export async function keepHistoryShort(options: {
  store: Store;
  cache: WatchCache;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}): Promise<void> {
  const { store, cache, clock, log, signal } = options;
  let before: Revision = cache.revision;
  for (;;) {
    await clock.sleep(PERIOD_MS, { signal });
    const now = cache.revision;
    try {
      await store.compact(before);
      cache.forget(before);
    } catch (error) {
      log.warn('compaction failed; trying again later', { error: errorText(error) });
    }
    before = now;
  }
}
