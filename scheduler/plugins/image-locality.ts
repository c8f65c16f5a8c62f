import { MAX_SCORE, type Plugin, SKIP } from '#scheduler/plugin.ts';
import type { PodView } from '#scheduler/snapshot.ts';

const NAME = 'ImageLocality';
const MIB = 1024 * 1024;
/** Below the first, images make no difference; above the second, no more than all. Source: upstream. */
const MIN_BYTES = 23 * MIB;
const MAX_BYTES_PER_CONTAINER = 1000 * MIB;

/** Share of the nodes that have an image, by its name. */
type Spread = Map<string, number>;

/** Likes nodes that have the pod's images, the more the larger and the more common they are. */
export const imageLocality: Plugin = {
  name: NAME,
  preScore({ pod, cluster, state }) {
    const nodes = cluster.nodes();
    const spread: Spread = new Map();
    for (const image of imagesOf(pod)) {
      const having = nodes.reduce((count, node) => count + (node.images.has(image) ? 1 : 0), 0);
      if (having > 0) spread.set(image, having / nodes.length);
    }
    if (spread.size === 0) return SKIP;
    state.set(NAME, spread);
    return null;
  },
  score({ pod, state }, node) {
    const spread = state.get(NAME) as Spread;
    const images = imagesOf(pod);
    const bytes = images.reduce(
      (sum, image) => sum + (node.images.get(image) ?? 0) * (spread.get(image) ?? 0),
      0,
    );
    const max = MAX_BYTES_PER_CONTAINER * images.length;
    const clamped = Math.min(Math.max(bytes, MIN_BYTES), max);
    return Math.floor((MAX_SCORE * (clamped - MIN_BYTES)) / (max - MIN_BYTES));
  },
};

/** Of every container, with the tag that is meant where none is named. */
const imagesOf = ({ pod: { spec } }: PodView): string[] =>
  [...spec.containers, ...(spec.initContainers ?? [])].map(({ image = '' }) =>
    image.lastIndexOf(':') <= image.lastIndexOf('/') && !image.includes('@')
      ? `${image}:latest`
      : image,
  );
