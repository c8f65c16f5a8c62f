import { existsSync } from 'node:fs';
import { rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ConfigError } from '#node-agent/config-error.ts';
import type { CsiDriver } from '#node-agent/csi/csi-driver.ts';
import { type CsiPlaces, csiPlaces } from '#node-agent/csi/csi-paths.ts';
import { allRecords, type CsiRecord, removeRecord } from '#node-agent/csi/csi-records.ts';
import { isMounted } from '#node-agent/storage/mounts.ts';
import type { PodPaths } from '#node-agent/pods/pod-files.ts';

/** What giving a volume back takes: no API, for it must work when there is none. */
export type CsiRelease = {
  rootDir: string;
  paths: PodPaths;
  driver: (name: string) => CsiDriver | undefined;
};

/** The driver of that name. Throws ConfigError in the kubelet's words while it is not there. */
export function driverNamed({ driver }: Pick<CsiRelease, 'driver'>, name: string): CsiDriver {
  const found = driver(name);
  if (found) return found;
  throw new ConfigError(
    `driver name ${name} not found in the list of registered CSI drivers of this node`,
  );
}

/**
 * Gives back what a record says: unpublished, unstaged when no other pod has the volume, and the
 * record removed last. May be repeated. Throws when the driver refuses or is not there. `gone` is told
 * of the paths at which nothing is, or soon will be. Returns whether another pod has the volume still.
 */
export async function releaseVolume(
  release: CsiRelease,
  record: CsiRecord,
  gone: (path: string) => void = () => {},
): Promise<{ shared: boolean }> {
  const { handle, driver: name, lifecycle, uid } = record;
  const places = csiPlaces(release, record);
  const driver = driverNamed(release, name);
  await driver.unpublish(handle, places.target);
  await removeMountPoint(places.target);
  gone(places.target);
  const shared = allRecords(release.paths).some(
    (other) => other.uid !== uid && other.driver === name && other.handle === handle,
  );
  if (lifecycle === 'Persistent' && !shared) {
    gone(places.staging);
    await unstage(driver, handle, places);
  }
  await removeRecord(places.podRecord);
  await rm(places.podRecord, { recursive: true, force: true });
  return { shared };
}

async function unstage(driver: CsiDriver, handle: string, places: CsiPlaces): Promise<void> {
  if (!(await driver.capabilities()).has('STAGE_UNSTAGE_VOLUME')) return;
  if (existsSync(places.staging)) await driver.unstage(handle, places.staging);
  await removeMountPoint(places.staging);
  await rmdir(dirname(places.staging)).catch(ignoring('ENOTEMPTY', 'ENOENT'));
  await rmdir(dirname(places.target)).catch(ignoring('ENOTEMPTY', 'ENOENT'));
}

/** Only ever what is empty: a volume that is still mounted must not be removed with its data. */
async function removeMountPoint(path: string): Promise<void> {
  if (isMounted(path)) throw new Error(`the driver left a mount at ${path}`);
  await rmdir(path).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return;
    if (error.code !== 'ENOTDIR') throw error;
    await rm(path, { force: true });
  });
}

export const ignoring =
  (...codes: readonly string[]) =>
  (error: NodeJS.ErrnoException): void => {
    if (!codes.includes(error.code ?? '')) throw error;
  };
