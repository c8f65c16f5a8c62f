import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PersistentVolume, PersistentVolumeClaim } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { createSlots, type Slots } from '#node-agent/pods/slots.ts';
import {
  imageMount,
  type LocalDisk,
  mountDisk,
  mountImage,
} from '#node-agent/storage/local-disks.ts';
import { unmountAll } from '#node-agent/storage/mounts.ts';
import type { ReferencedObjects } from '#node-agent/storage/volume-type.ts';

/** Handles are names of PersistentVolumes, and become names of directories. */
const HANDLE = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

/** Source: the kubelet's local volume plugin. */
const MOUNTS = 'kubernetes.io/local-volume/mounts';

/** A directory of this node that a pod uses through a claim. */
export type LocalUse = {
  uid: string;
  /** Name in the pod's spec. */
  volume: string;
  claim: string;
  persistentVolume: string;
  path: string;
  capacityBytes: number;
  /** It has a file system of its own: it cannot hold more than that, and is mounted while in use. */
  mounted?: true;
  /** It may grow while the pod has it. */
  growable?: true;
};

/** Pods remembered as gone, so that whatever was under way for them does not bring them back. */
const MAX_GONE = 1_000;

/** Directories and disks of the node that are volumes, and who uses them. */
export class LocalVolumes {
  readonly #dir: string;
  readonly #mountsDir: string;
  readonly #uses = new Map<string, LocalUse>();
  readonly #gone = new Set<string>();
  readonly #looked = new Set<string>();
  readonly #locks = new Map<string, Slots>();
  /** Told of a volume that is larger than its claim says: whether it has that size by now. */
  onGrown: (
    claim: PersistentVolumeClaim,
    volume: PersistentVolume,
    hasSize: boolean,
  ) => Promise<void> = async () => {};

  /**
   * `dir` holds those that the agent makes itself; they outlive pods. Disks are mounted below
   * `mountsDir`, as the kubelet does.
   */
  constructor(dir: string, mountsDir: string = join(dir, '..', 'plugins', MOUNTS)) {
    this.#dir = dir;
    this.#mountsDir = mountsDir;
  }

  /**
   * The directory of a `local.gantry.dev` volume, made when first asked for. Directories whose
   * PersistentVolume is gone are removed on the way. Throws ConfigError.
   */
  async directory(handle: string, objects: ReferencedObjects): Promise<string> {
    checkName(handle);
    const path = join(this.#dir, handle);
    await mkdir(this.#dir, { recursive: true, mode: 0o711 });
    // Whatever user a container has, and whatever our umask is; an existing one keeps its mode.
    if (await mkdir(path, { recursive: true })) await chmod(path, 0o777);
    for (const other of await readdir(this.#dir)) {
      if (other === handle) continue;
      // Only a clear "not found" lets data go; a failed read throws before.
      const volume = await objects.persistentVolume(other).catch(() => 'unknown');
      if (volume !== undefined) continue;
      await unmountAll(join(this.#dir, other));
      await rm(join(this.#dir, other), { recursive: true, force: true });
    }
    return path;
  }

  /**
   * The same as a file system of a size of its own. Returns where it is mounted, and whether it has
   * that size by now. Throws ConfigError, else with the words of mount and its like.
   */
  async image(
    handle: string,
    of: {
      sizeBytes: number;
      options: readonly string[];
      objects: ReferencedObjects;
      /** A pod has it, and it is to stay as it is. */
      isThere: boolean;
    },
  ): Promise<{ path: string; hasSize: boolean }> {
    if (of.isThere) return { path: imageMount(join(this.#dir, handle)), hasSize: true };
    const dir = await this.directory(handle, of.objects);
    const hasSize = await this.#alone(handle, () => mountImage(dir, of));
    return { path: imageMount(dir), hasSize };
  }

  /** Where the file system on a block device of the node is mounted. Throws as `mountDisk`. */
  async disk(persistentVolume: string, disk: LocalDisk): Promise<string> {
    checkName(persistentVolume);
    const path = join(this.#mountsDir, persistentVolume);
    await this.#alone(persistentVolume, () => mountDisk(disk, path));
    return path;
  }

  #alone<T>(volume: string, task: () => Promise<T>): Promise<T> {
    const lock = this.#locks.get(volume) ?? createSlots(1);
    this.#locks.set(volume, lock);
    return lock.run(task);
  }

  /**
   * Notes the use; a volume for one pod alone that another has throws ConfigError. A refresh that comes
   * late does not bring back a pod that has been released.
   */
  use(
    use: LocalUse,
    { exclusive, refresh = false }: { exclusive: boolean; refresh?: boolean },
  ): void {
    if (!refresh) this.#gone.delete(use.uid);
    const other = [...this.#uses.values()].find(
      (one) => one.persistentVolume === use.persistentVolume && one.uid !== use.uid,
    );
    if (exclusive && other) throw new ConfigError(inUseText(use.persistentVolume));
    if (!this.#gone.has(use.uid)) this.#uses.set(`${use.uid}/${use.volume}`, use);
  }

  /** Whether a pod's volume has to be looked at again: it may have grown, or nothing is known of it. */
  mayChange(uid: string, volume: string): boolean {
    const key = `${uid}/${volume}`;
    return !this.#looked.has(key) || this.#uses.get(key)?.growable === true;
  }

  /** This agent has looked at the pod's volume. */
  looked(uid: string, volume: string): void {
    this.#looked.add(`${uid}/${volume}`);
  }

  /** The pod has volumes that may grow while it runs. */
  hasGrowable(uid: string): boolean {
    return this.uses().some((use) => use.uid === uid && use.growable);
  }

  uses(): LocalUse[] {
    return [...this.#uses.values()];
  }

  /** Forgets the pod, and unmounts what nobody else has. May be repeated. */
  async releasePod(uid: string): Promise<void> {
    if (this.#gone.size >= MAX_GONE) this.#gone.clear();
    this.#gone.add(uid);
    for (const key of this.#looked) if (key.startsWith(`${uid}/`)) this.#looked.delete(key);
    for (const [key, use] of this.#uses) {
      if (use.uid !== uid) continue;
      if (use.mounted) await this.#alone(use.persistentVolume, () => this.#unmount(use));
      this.#uses.delete(key);
    }
  }

  async #unmount({ uid, persistentVolume, path }: LocalUse): Promise<void> {
    const isShared = this.uses().some(
      (other) => other.persistentVolume === persistentVolume && other.uid !== uid,
    );
    if (isShared) return;
    await unmountAll(path);
    this.#locks.delete(persistentVolume);
  }
}

function checkName(name: string): void {
  if (!HANDLE.test(name)) throw new ConfigError(`volumeHandle "${name}" is not a volume name`);
}

/** Source: the kubelet's words for a ReadWriteOncePod volume. */
export const inUseText = (volume: string): string =>
  `volume "${volume}" uses the ReadWriteOncePod access mode and is already in use by another pod`;
