import { writeAtomically } from '#node-agent/storage/atomic-writer.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { secretData } from '#node-agent/containers/env-vars.ts';
import { DEFAULT_MODE, keyFiles } from '#node-agent/storage/volume-content.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** A Secret's keys as files. */
export const secretVolume: VolumeType = {
  plugin: 'secret',
  live: true,
  readOnly: true,
  inMemory: true,
  handles: (volume) => volume.secret !== undefined,
  async prepare({ pod, volume, dir, objects }) {
    const {
      secretName = '',
      items,
      optional = false,
      defaultMode = DEFAULT_MODE,
    } = volume.secret ?? {};
    const data = secretData(await objects.secret(pod.metadata.namespace ?? '', secretName));
    if (!data && !optional) throw new ConfigError(`secret "${secretName}" not found`);
    const what = `secret "${secretName}"`;
    const files = keyFiles(data ?? new Map(), items, { defaultMode, optional, what });
    await writeAtomically(dir, files, { gid: pod.spec.securityContext?.fsGroup });
    return dir;
  },
};
