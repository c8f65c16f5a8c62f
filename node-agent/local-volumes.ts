import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '#node-agent/config-error.ts';
import type { VolumeContext } from '#node-agent/volume-type.ts';

/** Handles are names of PersistentVolumes, and become names of directories. */
const HANDLE = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

type Context = Pick<VolumeContext, 'localDir' | 'objects'>;

/**
 * The directory of a `local.gantry.dev` volume, made when first asked for; it outlives its pods.
 * Directories whose PersistentVolume is gone are removed on the way. Throws ConfigError.
 */
export async function localDirectory(
  { localDir, objects }: Context,
  handle: string,
): Promise<string> {
  if (!HANDLE.test(handle)) throw new ConfigError(`volumeHandle "${handle}" is not a volume name`);
  const path = join(localDir, handle);
  await mkdir(localDir, { recursive: true, mode: 0o711 });
  // Whatever user a container has, and whatever our umask is; an existing one keeps its mode.
  if (await mkdir(path, { recursive: true })) await chmod(path, 0o777);
  for (const other of await readdir(localDir)) {
    if (other === handle) continue;
    // Only a clear "not found" lets data go; a failed read throws before.
    const volume = await objects.persistentVolume(other).catch(() => 'unknown');
    if (volume === undefined) await rm(join(localDir, other), { recursive: true, force: true });
  }
  return path;
}
