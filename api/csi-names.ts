import { sha256 } from '#base/sha256.ts';

/** Names that node agents, controllers and CSI's sidecars must all come to by themselves. */

/** Name of the VolumeAttachment of a volume and a node. Source: kubelet pkg/volume/csi. */
export const attachmentName = (handle: string, driver: string, node: string): string =>
  `csi-${sha256(`${handle}${driver}${node}`)}`;

/** Name of a volume in node.status.volumesInUse and volumesAttached. */
export const uniqueVolumeName = (driver: string, handle: string): string =>
  `kubernetes.io/csi/${driver}^${handle}`;

/** Volumes with this CSI driver are directories that node agents make themselves. */
export const LOCAL_DRIVER = 'local.gantry.dev';
/**
 * Parameter of such classes and attribute of such volumes: `directory`, whose size is counted only,
 * or `image`, a file system of the claim's size in a sparse file.
 */
export const LOCAL_TYPE = 'type';
