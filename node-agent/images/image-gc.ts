import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import { type DiskUsage, diskUsage } from '#node-agent/node/node-facts.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import type { Image, ImageService } from '#node-agent/runtime/service.ts';

/** Source: kubelet's imageGCHighThresholdPercent and -LowThresholdPercent. */
const HIGH = 0.85;
const LOW = 0.8;
const CHECK_MS = 5 * 60_000;
/** An image just pulled may be about to be used. */
const MIN_AGE_MS = 2 * 60_000;

/** Remembers since when each image is there and when it was last in use. */
export type ImageAges = Map<string, { seenAtMs: number; usedAtMs: number }>;

export type ImageSweep = {
  images: readonly Image[];
  inUse: ReadonlySet<string>;
  ages: ImageAges;
  disk: Pick<DiskUsage, 'totalBytes' | 'availableBytes'>;
  now: number;
};

/** Which images to remove, the longest unused first, until the disk is emptier than the low mark. */
export function imagesToRemove({ images, inUse, ages, disk, now }: ImageSweep): Image[] {
  const usedBytes = disk.totalBytes - disk.availableBytes;
  if (usedBytes < disk.totalBytes * HIGH) return [];
  let excess = usedBytes - disk.totalBytes * LOW;
  const age = (image: Image) => ages.get(image.id) ?? { seenAtMs: now, usedAtMs: now };
  const candidates = images
    .filter((i) => !i.pinned && !inUse.has(i.id) && now - age(i).seenAtMs >= MIN_AGE_MS)
    .sort((a, b) => age(a).usedAtMs - age(b).usedAtMs || age(a).seenAtMs - age(b).seenAtMs);
  const chosen: Image[] = [];
  for (const image of candidates) {
    if (excess <= 0) break;
    chosen.push(image);
    excess -= image.size;
  }
  return chosen;
}

/** Updates the ages from what is there and in use now. */
export function noteImages(
  ages: ImageAges,
  images: readonly Image[],
  inUse: ReadonlySet<string>,
  now: number,
): void {
  const there = new Set(images.map((i) => i.id));
  for (const id of ages.keys()) if (!there.has(id)) ages.delete(id);
  for (const { id } of images) {
    const known = ages.get(id);
    if (!known) ages.set(id, { seenAtMs: now, usedAtMs: inUse.has(id) ? now : 0 });
    else if (inUse.has(id)) known.usedAtMs = now;
  }
}

/** Those of containers, and those that are shown as volumes. */
const imagesInUse = (
  containers: readonly { imageRef: string }[],
  { volumes }: Pick<NodeServices, 'volumes'>,
): Set<string> => new Set([...containers.map((c) => c.imageRef), ...volumes.images.inUse()]);

/** Removes every image that no container uses. Returns how many. */
export async function removeUnusedImages(
  service: ImageService,
  services: NodeServices,
): Promise<number> {
  const [images, containers] = await Promise.all([
    service.listImages(),
    services.runtime.listContainers(),
  ]);
  const inUse = imagesInUse(containers, services);
  const unused = images.filter((image) => !image.pinned && !inUse.has(image.id));
  for (const { id } of unused) {
    await service.removeImage(id);
    await services.images.removed(id);
  }
  return unused.length;
}

export type ImageGcOptions = {
  service: ImageService;
  services: NodeServices;
  clock: Clock;
  signal: AbortSignal;
};

/** Frees the disk of images that nobody uses, whenever it gets too full. */
export async function collectImages({
  service,
  services,
  clock,
  signal,
}: ImageGcOptions): Promise<void> {
  const ages: ImageAges = new Map();
  while (!signal.aborted) {
    await clock.sleep(CHECK_MS, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      const [images, containers, filesystems] = await Promise.all([
        service.listImages(),
        services.runtime.listContainers(),
        service.imageFsInfo(),
      ]);
      const inUse = imagesInUse(containers, services);
      const now = clock.now();
      noteImages(ages, images, inUse, now);
      const disk = diskUsage(filesystems[0]?.mountpoint ?? '/');
      for (const image of imagesToRemove({ images, inUse, ages, disk, now })) {
        await service.removeImage(image.id);
        await services.images.removed(image.id);
        services.log.info('removed an unused image', {
          image: image.repoTags[0] ?? image.id,
          sizeBytes: image.size,
        });
      }
    } catch (error) {
      services.log.warn('image garbage collection failed', { error: errorText(error) });
    }
  }
}
