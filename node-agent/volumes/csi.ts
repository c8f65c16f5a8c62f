import { inlineRequest } from '#node-agent/csi/csi-request.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** A volume that a CSI driver makes for one pod alone. Source: "CSI ephemeral volumes". */
export const csiVolume: VolumeType = {
  plugin: 'csi',
  live: true,
  readOnly: false,
  inMemory: false,
  handles: (volume) => volume.csi !== undefined,
  async prepare({ pod, volume, csi, refresh }) {
    const request = inlineRequest(pod, volume);
    if (refresh && !csi.republishes(request.driver)) return '';
    return csi.mount(request, { refresh });
  },
};
