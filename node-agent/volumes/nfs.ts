import { mountNfs } from '#node-agent/storage/mounts.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** A directory of an NFS server; the node needs the mount helper of its distribution. */
export const nfsVolume: VolumeType = {
  plugin: 'nfs',
  live: false,
  readOnly: false,
  inMemory: false,
  handles: (volume) => volume.nfs !== undefined,
  async prepare({ volume, dir }) {
    const { server = '', path = '', readOnly = false } = volume.nfs ?? {};
    await mountNfs(dir, { server, path, options: readOnly ? ['ro'] : [] });
    return dir;
  },
};
