import { existsSync, readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import type { Pod, Volume } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { ImageResult, Images } from '#node-agent/images/images.ts';
import { isMounted, mountSnapshot, unmountAll } from '#node-agent/storage/mounts.ts';
import { podDir, type PodPaths } from '#node-agent/pods/pod-files.ts';
import type { ImageSnapshots } from '#node-agent/runtime/containerd-snapshots.ts';
import { NotYetError } from '#node-agent/storage/volume-type.ts';

/** A pull that is done within this time needs no second try of the pod's volumes. */
const SHORT_PULL_MS = 2_000;
export const IMAGE_PLUGIN = 'image';

export type ImageVolumesOptions = {
  /** Undefined where the runtime does not show its images. */
  snapshots: ImageSnapshots | undefined;
  images: Images;
  paths: PodPaths;
  clock: Clock;
  signal: AbortSignal;
};

/**
 * Images as read-only volumes: pulled like those of containers, then mounted by the agent itself, so
 * that it does not depend on the version of the runtime. Source: KEP-4639.
 */
export class ImageVolumes {
  readonly #options: ImageVolumesOptions;
  readonly #pulls = new Map<string, { done: ImageResult | undefined; promise: Promise<void> }>();
  /** Told of each pod that a pull has ended for. */
  onPulled: (uid: string) => void = () => {};

  constructor(options: ImageVolumesOptions) {
    this.#options = options;
  }

  /** Mounts the image at `dir`. Throws NotYetError while it is pulled, ConfigError when it cannot be. */
  async mount(pod: Pod, volume: Volume, dir: string): Promise<void> {
    const { snapshots } = this.#options;
    if (!snapshots)
      throw new ConfigError('image volumes are not supported with this container runtime');
    if (isMounted(dir)) return;
    const image = await this.#image(pod, volume);
    const mounts = await snapshots.view(image, keyOf(pod.metadata.uid ?? '', volume.name));
    await mkdir(dir, { recursive: true, mode: 0o755 });
    await mountSnapshot(mounts, dir);
  }

  /** Ids of the images that were mounted since the agent started. */
  inUse(): string[] {
    return [...this.#pulls.values()].flatMap(({ done }) =>
      done?.state === 'ready' ? [done.ref] : [],
    );
  }

  /** Unmounts a pod's images and lets the runtime forget that they are shown. */
  async releasePod(uid: string): Promise<void> {
    const { snapshots, paths } = this.#options;
    for (const key of this.#pulls.keys()) if (key.startsWith(`${uid} `)) this.#pulls.delete(key);
    const dir = join(podDir(paths, uid), 'volumes', `kubernetes.io~${IMAGE_PLUGIN}`);
    if (!existsSync(dir)) return;
    await unmountAll(dir);
    for (const name of readdirSync(dir)) await snapshots?.remove(keyOf(uid, name));
  }

  /** The image's id, once it is there. */
  async #image(pod: Pod, volume: Volume): Promise<string> {
    const { clock, images, signal } = this.#options;
    const { reference = '', pullPolicy } = volume.image ?? {};
    const uid = pod.metadata.uid ?? '';
    const key = `${uid} ${volume.name}`;
    let pull = this.#pulls.get(key);
    const failed = pull?.done?.state === 'failed' ? pull.done : undefined;
    if (!pull || (failed && clock.now() >= failed.retryAtMs)) {
      const wanted = {
        name: volume.name,
        image: reference,
        ...(pullPolicy ? { imagePullPolicy: pullPolicy } : {}),
      };
      const fresh: typeof pull = { done: undefined, promise: Promise.resolve() };
      fresh.promise = images.ensure(pod, wanted, signal).then(
        (result) => {
          fresh.done = result;
          this.onPulled(uid);
        },
        () => undefined, // only by `signal`: the agent is stopping
      );
      this.#pulls.set(key, fresh);
      pull = fresh;
    }
    const limit = new AbortController();
    const late = clock.sleep(SHORT_PULL_MS, { signal: limit.signal }).catch(() => undefined);
    await Promise.race([pull.promise, late]);
    limit.abort();
    const { done } = pull;
    if (!done) throw new NotYetError(`image "${reference}" is being pulled`);
    if (done.state === 'failed') throw new ConfigError(`${done.reason}: ${done.message}`);
    return done.ref;
  }
}

const keyOf = (uid: string, volume: string): string => `gantry-image-volume-${uid}-${volume}`;
