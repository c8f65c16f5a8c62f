import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '#node-agent/config-error.ts';
import type { ReferencedObjects } from '#node-agent/storage/volume-type.ts';

/** Handles are names of PersistentVolumes, and become names of directories. */
const HANDLE = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

/** A directory of this node that a pod uses through a claim. */
export type LocalUse = {
  uid: string;
  /** Name in the pod's spec. */
  volume: string;
  claim: string;
  persistentVolume: string;
  path: string;
  capacityBytes: number;
};

/** Directories of the node that are volumes, and who uses them. */
export class LocalVolumes {
  readonly #dir: string;
  readonly #uses = new Map<string, LocalUse>();

  /** `dir` holds those that the agent makes itself; they outlive pods. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /**
   * The directory of a `local.gantry.dev` volume, made when first asked for. Directories whose
   * PersistentVolume is gone are removed on the way. Throws ConfigError.
   */
  async directory(handle: string, objects: ReferencedObjects): Promise<string> {
    if (!HANDLE.test(handle))
      throw new ConfigError(`volumeHandle "${handle}" is not a volume name`);
    const path = join(this.#dir, handle);
    await mkdir(this.#dir, { recursive: true, mode: 0o711 });
    // Whatever user a container has, and whatever our umask is; an existing one keeps its mode.
    if (await mkdir(path, { recursive: true })) await chmod(path, 0o777);
    for (const other of await readdir(this.#dir)) {
      if (other === handle) continue;
      // Only a clear "not found" lets data go; a failed read throws before.
      const volume = await objects.persistentVolume(other).catch(() => 'unknown');
      if (volume === undefined) await rm(join(this.#dir, other), { recursive: true, force: true });
    }
    return path;
  }

  /** Notes the use; a volume for one pod alone that another has throws ConfigError. */
  use(use: LocalUse, { exclusive }: { exclusive: boolean }): void {
    const other = [...this.#uses.values()].find(
      (one) => one.persistentVolume === use.persistentVolume && one.uid !== use.uid,
    );
    if (exclusive && other) throw new ConfigError(inUseText(use.persistentVolume));
    this.#uses.set(`${use.uid}/${use.volume}`, use);
  }

  uses(): LocalUse[] {
    return [...this.#uses.values()];
  }

  releasePod(uid: string): void {
    for (const [key, use] of this.#uses) if (use.uid === uid) this.#uses.delete(key);
  }
}

/** Source: the kubelet's words for a ReadWriteOncePod volume. */
export const inUseText = (volume: string): string =>
  `volume "${volume}" uses the ReadWriteOncePod access mode and is already in use by another pod`;
