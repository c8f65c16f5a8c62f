import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { namesIn } from '#base/files.ts';
import { podCsiDir, podDevicesDir } from '#node-agent/csi/csi-paths.ts';
import type { PodPaths } from '#node-agent/pods/pod-files.ts';

const FILE = 'vol_data.json';

/**
 * What a pod has of a CSI driver. Written before the driver is asked for anything and removed after
 * it has taken all back, so that an agent that starts anew knows what there may be to undo.
 */
export type CsiRecord = {
  uid: string;
  /** The PersistentVolume, or the pod's volume when it is inline. */
  name: string;
  driver: string;
  handle: string;
  block: boolean;
  lifecycle: 'Persistent' | 'Ephemeral';
  /** Controllers wait until the node lets go of it. */
  attachable: boolean;
};

/** Field names of the kubelet's file, with two of our own behind them. */
type Stored = {
  specVolID: string;
  volumeHandle: string;
  driverName: string;
  nodeName: string;
  attachmentID: string;
  volumeLifecycleMode: 'Persistent' | 'Ephemeral';
  attachable?: string;
};

/** Writes the record into `dir`, whole or not at all. */
export async function writeRecord(
  dir: string,
  record: CsiRecord,
  { nodeName, attachmentId }: { nodeName: string; attachmentId: string },
): Promise<void> {
  const stored: Stored = {
    specVolID: record.name,
    volumeHandle: record.handle,
    driverName: record.driver,
    nodeName,
    attachmentID: attachmentId,
    volumeLifecycleMode: record.lifecycle,
    attachable: String(record.attachable),
  };
  await mkdir(dir, { recursive: true, mode: 0o750 });
  const draft = join(dir, `.${FILE}`);
  await writeFile(draft, JSON.stringify(stored));
  await rename(draft, join(dir, FILE));
}

export const hasRecord = (dir: string): boolean => existsSync(join(dir, FILE));

export async function removeRecord(dir: string): Promise<void> {
  await rm(join(dir, FILE), { force: true });
}

/** The records of one pod; a file that cannot be read names itself in the Error. */
export function recordsOf(paths: PodPaths, uid: string): CsiRecord[] {
  return [
    ...readAll(podCsiDir(paths, uid), uid, false),
    ...readAll(podDevicesDir(paths, uid), uid, true),
  ];
}

/** The records of all pods of the node. */
export function allRecords(paths: PodPaths): CsiRecord[] {
  return namesIn(paths.podsDir).flatMap((uid) => recordsOf(paths, uid));
}

function readAll(dir: string, uid: string, block: boolean): CsiRecord[] {
  return namesIn(dir).flatMap((name) => {
    const file = join(dir, name, FILE);
    if (!existsSync(file)) return [];
    try {
      const stored = JSON.parse(readFileSync(file, 'utf8')) as Stored;
      return [
        {
          uid,
          name: stored.specVolID,
          driver: stored.driverName,
          handle: stored.volumeHandle,
          block,
          lifecycle: stored.volumeLifecycleMode,
          attachable: stored.attachable !== 'false' && stored.volumeLifecycleMode !== 'Ephemeral',
        },
      ];
    } catch (error) {
      throw new Error(`${file} cannot be read`, { cause: error });
    }
  });
}
