import { IMAGE_PLUGIN } from '#node-agent/storage/image-volumes.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** An image's files, to be read. Source: Kubernetes documentation, "Use an Image Volume With a Pod". */
export const imageVolume: VolumeType = {
  plugin: IMAGE_PLUGIN,
  live: false,
  readOnly: true,
  inMemory: false,
  handles: (volume) => volume.image !== undefined,
  async prepare({ pod, volume, dir, images }) {
    await images.mount(pod, volume, dir);
    return dir;
  },
};
