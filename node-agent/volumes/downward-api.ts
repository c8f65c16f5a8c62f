import { writeAtomically } from '#node-agent/storage/atomic-writer.ts';
import { DEFAULT_MODE, downwardFiles } from '#node-agent/storage/volume-content.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** The pod's own fields as files. */
export const downwardApiVolume: VolumeType = {
  plugin: 'downward-api',
  live: true,
  readOnly: true,
  inMemory: false,
  handles: (volume) => volume.downwardAPI !== undefined,
  async prepare({ pod, volume, dir, downward }) {
    const { items = [], defaultMode = DEFAULT_MODE } = volume.downwardAPI ?? {};
    const files = downwardFiles(items, downward, defaultMode);
    await writeAtomically(dir, files, { gid: pod.spec.securityContext?.fsGroup });
    return dir;
  },
};
