import { type Log, silentLog } from '#base/log.ts';
import { type ImageStore, openImageStore } from '#base/oci/image-store.ts';
import type { Running } from '#base/running.ts';
import { addPauseImage, LOCAL_REGISTRY } from './pause.ts';
import { createPacer, limited } from './peer-limits.ts';
import type { Peers } from './peers.ts';
import { type RegistryHandler, registryHandler, startRegistry } from './registry.ts';

/** Stands for all registries that have no entry of their own: asked first, then the registry itself. */
export const ANY_REGISTRY = '_default';

export type LocalImagesConfig = {
  /** The image store, an OCI layout; several nodes of a machine may share it. */
  storeDir: string;
  host?: string;
  port?: number;
  /** Blobs that the runtime has pulled. */
  contentDir?: string | undefined;
  peers?: Peers | undefined;
};

/** Which registry hosts should be asked for at `url`; for `setRegistries` of containerd-daemon.ts. */
export type LocalImages = Running & {
  url: string;
  images: ImageStore;
  registries: Record<string, string>;
  /** The same for other nodes: they are never sent on to others. */
  forPeers: RegistryHandler;
};

/**
 * Makes the images that the machine itself holds available to its runtime: the pause image is
 * added, and the store is served on loopback. What is added to the store later (by another
 * process, too) is served at once.
 */
export async function startLocalImages(
  config: LocalImagesConfig,
  { signal, log = silentLog }: { signal: AbortSignal; log?: Log },
): Promise<LocalImages> {
  const images = openImageStore(config.storeDir);
  await addPauseImage(images);
  const { storeDir: _, ...address } = config;
  const { url, done } = await startRegistry({ images, ...address }, { signal, log });
  log.debug('serving local images', { url, store: config.storeDir });
  const forPeers = limited(
    registryHandler({ images, contentDir: config.contentDir, through: createPacer() }, log),
  );
  return {
    url,
    images,
    registries: { [LOCAL_REGISTRY]: url, [ANY_REGISTRY]: url },
    forPeers,
    done,
  };
}
