import { chmod, mkdir } from 'node:fs/promises';
import { podAmounts } from '#api/pod-resources.ts';
import { parseQuantity, quantityValue } from '#api/quantity.ts';
import type { Pod } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { mountHugepages, mountTmpfs } from '#node-agent/storage/mounts.ts';
import { giveToGroup } from '#node-agent/storage/volume-ownership.ts';
import type { VolumeType } from '#node-agent/storage/volume-type.ts';

/** A directory that lives as long as its pod; with a medium, on a file system of its own. */
export const emptyDirVolume: VolumeType = {
  plugin: 'empty-dir',
  live: false,
  readOnly: false,
  inMemory: false,
  handles: (volume) => volume.emptyDir !== undefined,
  async prepare({ pod, volume, dir }) {
    const { medium = '', sizeLimit } = volume.emptyDir ?? {};
    const pageBytes = medium.startsWith(HUGEPAGES) ? pageSize(pod, volume.name, medium) : undefined;
    if (medium !== '' && medium !== 'Memory' && !pageBytes)
      throw new ConfigError(`volume "${volume.name}": emptyDir medium ${medium} is not supported`);
    await mkdir(dir, { recursive: true });
    if (pageBytes) await mountHugepages(dir, pageBytes);
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

const HUGEPAGES = 'HugePages';
const REQUEST = 'hugepages-';

/**
 * Bytes of a page of the volume: the size that the medium names (`HugePages-2Mi`), or the one size that
 * the pod asks for. Throws ConfigError when the pod asks for none of that size, or for several.
 * Source: Kubernetes documentation, "Manage HugePages".
 */
export function pageSize({ spec }: Pod, volume: string, medium: string): number {
  const lists = [spec, ...spec.containers, ...(spec.initContainers ?? [])].map(
    ({ resources }) => resources?.requests ?? {},
  );
  const names = lists.flatMap((list) => Object.keys(list)).filter((n) => n.startsWith(REQUEST));
  const asked = [...new Set(names.map((name) => name.slice(REQUEST.length)))];
  const named = /^HugePages-(.+)$/.exec(medium)?.[1];
  const fitting = named === undefined ? asked : asked.filter((size) => size === named);
  const [size] = fitting;
  if (size !== undefined && fitting.length === 1) return quantityValue(parseQuantity(size));
  throw new ConfigError(
    `volume "${volume}": emptyDir medium ${medium} needs a container that requests ` +
      (size === undefined
        ? `${REQUEST}${named ?? '<size>'}`
        : `huge pages of one size; these are ${fitting.join(' and ')}: name one, like HugePages-${size}`),
  );
}

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
