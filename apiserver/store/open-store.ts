import type { EtcdConnection } from '#apiserver/store/etcd-client.ts';
import type { Store } from '#apiserver/store/store.ts';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';

/**
 * Where the cluster's state lives: in a file of ours below the data directory, or in an etcd that
 * several API servers may share.
 */
export type StoreConfig = { dataDir: string } | ({ etcdServers: readonly string[] } & EtcdFiles);

type EtcdFiles = Omit<EtcdConnection, 'endpoints'>;

export type StoreSurroundings = { clock: Clock; log: Log; signal?: AbortSignal };

/**
 * Opens the store that the flags ask for; only its code is loaded. Throws StoreUnavailableError,
 * or `signal.reason` when that aborts first.
 */
export async function openStore(
  config: StoreConfig,
  { clock, log, signal }: StoreSurroundings,
): Promise<Store> {
  signal?.throwIfAborted();
  const store = await open(config, { clock, log });
  if (!signal?.aborted) return store;
  await store.close();
  throw signal.reason;
}

async function open(config: StoreConfig, surroundings: { clock: Clock; log: Log }): Promise<Store> {
  if ('dataDir' in config) {
    const { openEmbeddedStore } = await import('#apiserver/store/embedded.ts');
    return openEmbeddedStore(config.dataDir, surroundings);
  }
  const { openEtcdStore } = await import('#apiserver/store/etcd.ts');
  const { etcdServers, ...files } = config;
  return openEtcdStore({ ...files, ...surroundings, endpoints: etcdServers });
}
