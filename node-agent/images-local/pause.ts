import { imageArchitecture, type ImageStore } from '#base/oci/image-store.ts';
import { pauseProgram } from './pause-program.ts';

/** Registry host of the images that the cluster itself carries; `.internal` is never a public name. */
export const LOCAL_REGISTRY = 'gantry.internal';

/** The sandbox image: holds a pod's namespaces open. A new program needs a new tag. */
export const PAUSE_IMAGE = `${LOCAL_REGISTRY}/pause:1`;

/** Puts the pause image into the store, unless it is there in full. */
export async function addPauseImage(images: ImageStore): Promise<void> {
  if (images.isComplete(PAUSE_IMAGE)) return;
  const content = pauseProgram(imageArchitecture());
  const layer = await images.addLayer([{ type: 'file', path: 'pause', mode: 0o755, content }]);
  images.addImage(PAUSE_IMAGE, [layer], { Entrypoint: ['/pause'], User: '65535:65535' });
}
