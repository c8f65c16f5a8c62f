import type { PersistentVolume, PersistentVolumeClaim } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { persistentVolumeClaims } from '#client/resources.ts';
import type { CsiDriver } from '#node-agent/csi/csi-driver.ts';
import { sizeOf } from '#node-agent/csi/csi-request.ts';

const STORAGE = 'storage';
const RESIZE_CONDITIONS = new Set(['FileSystemResizePending', 'Resizing']);

/** The claim as it is once its volume has the whole size. Pure. */
export function grownClaim(
  claim: PersistentVolumeClaim,
  volume: PersistentVolume,
): PersistentVolumeClaim {
  const size = volume.spec?.capacity?.[STORAGE] ?? '0';
  const { allocatedResourceStatuses, conditions, ...status } = claim.status ?? {};
  const { [STORAGE]: _, ...statuses } = allocatedResourceStatuses ?? {};
  const left = (conditions ?? []).filter(({ type }) => !RESIZE_CONDITIONS.has(type));
  return {
    ...claim,
    status: {
      ...status,
      capacity: { ...status.capacity, [STORAGE]: size },
      ...(left.length > 0 ? { conditions: left } : {}),
      ...(Object.keys(statuses).length > 0 ? { allocatedResourceStatuses: statuses } : {}),
    },
  };
}

/**
 * The node's part of making a volume larger: the driver grows what is on it, then the claim says its
 * new size. Source: KEP-284 and KEP-1790, node expansion.
 */
export async function growVolume({
  api,
  driver,
  growth: { claim, volume },
  call,
}: {
  api: Api;
  driver: CsiDriver;
  growth: { claim: PersistentVolumeClaim; volume: PersistentVolume };
  call: Omit<Parameters<CsiDriver['expand']>[0], 'requiredBytes'>;
}): Promise<void> {
  const requiredBytes = sizeOf(volume.spec?.capacity?.[STORAGE]);
  await driver.expand({ ...call, requiredBytes });
  await api.update(persistentVolumeClaims, grownClaim(claim, volume), { subresource: 'status' });
}
