import { join } from 'node:path';
import { sha256 } from '#base/sha256.ts';
import { podDir, type PodPaths } from '#node-agent/pods/pod-files.ts';

/**
 * Where volumes of CSI drivers are, below the agent's root directory, exactly as the kubelet lays
 * them, so that either agent finds what the other left. Source: kubelet pkg/volume/csi.
 */

const PLUGIN = 'kubernetes.io~csi';

export const pluginsDir = (rootDir: string): string => join(rootDir, 'plugins');
export const registrationDir = (rootDir: string): string => join(rootDir, 'plugins_registry');
const csiDir = (rootDir: string): string => join(pluginsDir(rootDir), 'kubernetes.io/csi');
const devicesDir = (rootDir: string): string => join(csiDir(rootDir), 'volumeDevices');

/** Of all filesystem volumes of a pod. */
export const podCsiDir = (paths: PodPaths, uid: string): string =>
  join(podDir(paths, uid), 'volumes', PLUGIN);
/** Of all block volumes of a pod: links to where they are. */
export const podDevicesDir = (paths: PodPaths, uid: string): string =>
  join(podDir(paths, uid), 'volumeDevices', PLUGIN);

/** The places of one volume. `target` is what the pod sees; `stagingParent` holds the record. */
export type CsiPlaces = { staging: string; target: string; podRecord: string };

/** `name` is the PersistentVolume's, or for an inline volume that of the pod's volume. */
export function csiPlaces(
  root: { rootDir: string; paths: PodPaths },
  of: { uid: string; name: string; driver: string; handle: string; block: boolean },
): CsiPlaces {
  const { uid, name, driver, handle, block } = of;
  if (block) {
    const dir = devicesDir(root.rootDir);
    return {
      staging: join(dir, 'staging', name),
      target: join(dir, 'publish', name, uid),
      podRecord: join(podDevicesDir(root.paths, uid), name),
    };
  }
  return {
    staging: join(csiDir(root.rootDir), driver, sha256(handle), 'globalmount'),
    target: join(podCsiDir(root.paths, uid), name, 'mount'),
    podRecord: join(podCsiDir(root.paths, uid), name),
  };
}

/** Handle of a volume that lives and dies with a pod. */
export const inlineHandle = (uid: string, volume: string): string =>
  `csi-${sha256(`${uid}${volume}`)}`;
