import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import type { Store } from '#apiserver/store/store.ts';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';

/** Where the cluster's state lives. */
export type StoreConfig = { dataDir: string };

export type StoreSurroundings = { clock: Clock; log: Log; signal?: AbortSignal };

/** Opens the store that the flags ask for. Throws StoreUnavailableError. */
export async function openStore(
  config: StoreConfig,
  { clock, log, signal }: StoreSurroundings,
): Promise<Store> {
  signal?.throwIfAborted();
  return openEmbeddedStore(config.dataDir, { clock, log });
}
