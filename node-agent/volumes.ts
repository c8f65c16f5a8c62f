import type { VolumeType } from '#node-agent/storage/volume-type.ts';
import { configMapVolume } from '#node-agent/volumes/config-map.ts';
import { csiVolume } from '#node-agent/volumes/csi.ts';
import { downwardApiVolume } from '#node-agent/volumes/downward-api.ts';
import { emptyDirVolume } from '#node-agent/volumes/empty-dir.ts';
import { hostPathVolume } from '#node-agent/volumes/host-path.ts';
import { imageVolume } from '#node-agent/volumes/image.ts';
import { nfsVolume } from '#node-agent/volumes/nfs.ts';
import { persistentVolumeClaimVolume } from '#node-agent/volumes/persistent-volume-claim.ts';
import { projectedVolume } from '#node-agent/volumes/projected.ts';
import { secretVolume } from '#node-agent/volumes/secret.ts';

/** The kinds of volumes this agent can give to a pod. */
export const volumeTypes: readonly VolumeType[] = [
  emptyDirVolume,
  hostPathVolume,
  configMapVolume,
  secretVolume,
  downwardApiVolume,
  projectedVolume,
  persistentVolumeClaimVolume,
  csiVolume,
  imageVolume,
  nfsVolume,
];
