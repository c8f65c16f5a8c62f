import { chmod, mkdir } from 'node:fs/promises';
import { podAmounts } from '#api/pod-resources.ts';
import { parseQuantity, quantityValue } from '#api/quantity.ts';
import type { Pod } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { mountTmpfs } from '#node-agent/storage/mounts.ts';
import { giveToGroup } from '#node-agent/storage/volume-ownership.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** A directory that lives as long as its pod; on a tmpfs of its own with medium Memory. */
export const emptyDirVolume: VolumeType = {
  plugin: 'empty-dir',
  live: false,
  readOnly: false,
  inMemory: false,
  handles: (volume) => volume.emptyDir !== undefined,
  async prepare({ pod, volume, dir }) {
    const { medium = '', sizeLimit } = volume.emptyDir ?? {};
    if (medium !== '' && medium !== 'Memory')
      throw new ConfigError(`volume "${volume.name}": emptyDir medium ${medium} is not supported`);
    await mkdir(dir, { recursive: true });
    if (medium === 'Memory') {
      const sizeBytes = memorySize(pod, sizeLimit);
      await mountTmpfs(dir, { ...(sizeBytes === undefined ? {} : { sizeBytes }), mode: 0o777 });
    }
    // mkdir's mode is cut by the umask; the contract is a directory everyone can write to.
    await chmod(dir, 0o777);
    const { fsGroup, fsGroupChangePolicy } = pod.spec.securityContext ?? {};
    const onlyIfNeeded = fsGroupChangePolicy === 'OnRootMismatch';
    await giveToGroup(dir, fsGroup, 'writable', { onlyIfNeeded });
    return dir;
  },
};

/**
 * The smaller of what the volume and what the pod may have; undefined leaves it to the host.
 * Source: Kubernetes documentation, "emptyDir", size of memory backed volumes.
 */
function memorySize(pod: Pod, sizeLimit: string | undefined): number | undefined {
  const { spec } = pod;
  const isLimited =
    spec.resources?.limits?.['memory'] !== undefined ||
    spec.containers.every(({ resources }) => resources?.limits?.['memory'] !== undefined);
  const limits = [
    sizeLimit ? quantityValue(parseQuantity(sizeLimit)) : 0,
    isLimited ? (podAmounts(spec, 'limits').get('memory') ?? 0) : 0,
  ].filter((limit) => limit > 0);
  return limits.length > 0 ? Math.min(...limits) : undefined;
}
