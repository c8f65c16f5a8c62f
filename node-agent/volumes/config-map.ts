import { writeAtomically } from '#node-agent/storage/atomic-writer.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { configMapData } from '#node-agent/containers/env-vars.ts';
import { DEFAULT_MODE, keyFiles } from '#node-agent/storage/volume-content.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** A ConfigMap's keys as files. */
export const configMapVolume: VolumeType = {
  plugin: 'configmap',
  live: true,
  readOnly: true,
  inMemory: false,
  handles: (volume) => volume.configMap !== undefined,
  async prepare({ pod, volume, dir, objects }) {
    const {
      name = '',
      items,
      optional = false,
      defaultMode = DEFAULT_MODE,
    } = volume.configMap ?? {};
    const data = configMapData(await objects.configMap(pod.metadata.namespace ?? '', name));
    if (!data && !optional) throw new ConfigError(`configmap "${name}" not found`);
    const what = `configmap "${name}"`;
    const files = keyFiles(data ?? new Map(), items, { defaultMode, optional, what });
    await writeAtomically(dir, files, { gid: pod.spec.securityContext?.fsGroup });
    return dir;
  },
};
