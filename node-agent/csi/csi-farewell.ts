import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { connectCsiDriver } from '#node-agent/csi/csi-driver.ts';
import { registrationDir } from '#node-agent/csi/csi-paths.ts';
import { allRecords } from '#node-agent/csi/csi-records.ts';
import { type CsiRelease, releaseVolume } from '#node-agent/csi/csi-release.ts';
import { answeringDrivers } from '#node-agent/csi/plugin-registry.ts';
import { podPaths } from '#node-agent/pods/pod-files.ts';

/** A node that stops waits so long for its drivers; then what is left is unmounted by force. */
const FAREWELL_MS = 30_000;

export type Farewell = { given: number; left: string[] };

/**
 * Gives the volumes of a node that stops for good back to their drivers: a driver may have opened,
 * mapped or logged in to something that an unmount does not undo. The agent has ended; pods with such
 * volumes must have, drivers must still run. Whoever does not answer in time is left out.
 */
export async function giveBackVolumes(
  rootDir: string,
  { clock, log }: { clock: Clock; log: Log },
): Promise<Farewell> {
  const paths = podPaths(rootDir);
  const records = allRecords(paths);
  if (records.length === 0) return { given: 0, left: [] };
  const there = await answeringDrivers(registrationDir(rootDir));
  const drivers = there.map(({ name, endpoint }) => connectCsiDriver(name, endpoint));
  const release: CsiRelease = {
    rootDir,
    paths,
    driver: (name) => drivers.find((one) => one.name === name),
  };
  const over = new AbortController();
  const late = clock.sleep(FAREWELL_MS, { signal: over.signal }).then(
    () => Promise.reject(new Error('no answer in time')),
    () => undefined,
  );
  late.catch(() => {}); // told of by whoever waits for it
  const left: string[] = [];
  for (const record of records) {
    const { driver, handle } = record;
    try {
      await Promise.race([releaseVolume(release, record), late]);
    } catch (error) {
      left.push(`${driver}^${handle}`);
      log.warn('a driver did not take a volume back', { driver, handle, error: errorText(error) });
    }
  }
  over.abort();
  for (const driver of drivers) driver.close();
  return { given: records.length - left.length, left };
}
