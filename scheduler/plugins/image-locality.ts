import { MAX_SCORE, type Plugin } from '#scheduler/plugin.ts';

const MIB = 1024 * 1024;
/** Below the first, images make no difference; above the second, no more than all. Source: upstream. */
const MIN_BYTES = 23 * MIB;
const MAX_BYTES_PER_CONTAINER = 1000 * MIB;

/** Likes nodes that have the pod's images, the more the larger and the more common they are. */
export const imageLocality: Plugin = {
  name: 'ImageLocality',
  score({ pod, cluster }, node) {
    const containers = [...pod.pod.spec.containers, ...(pod.pod.spec.initContainers ?? [])];
    const nodes = cluster.nodes();
    let bytes = 0;
    for (const { image = '' } of containers) {
      const size = node.images.get(normalized(image));
      if (size === undefined) continue;
      const having = nodes.filter((other) => other.images.has(normalized(image))).length;
      bytes += (size * having) / nodes.length;
    }
    const max = MAX_BYTES_PER_CONTAINER * containers.length;
    const clamped = Math.min(Math.max(bytes, MIN_BYTES), max);
    return Math.floor((MAX_SCORE * (clamped - MIN_BYTES)) / (max - MIN_BYTES));
  },
};

const normalized = (image: string): string =>
  image.lastIndexOf(':') <= image.lastIndexOf('/') && !image.includes('@')
    ? `${image}:latest`
    : image;
