import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { namesIn } from '#base/files.ts';
import { errorText } from '#base/log.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import type { PodIdentity } from '#node-agent/pods/pod-files.ts';
import type { KnownPod } from '#node-agent/pods/pod-runtimes.ts';
import { releaseVolumes } from '#node-agent/storage/pod-volumes.ts';

const SWEEP_MS = 60_000;
/** Pods nobody knows get this long to end. */
const ORPHAN_GRACE_S = 2;

export type GarbageOptions = {
  services: NodeServices;
  /** A pod of the API, or one whose worker still cleans up. */
  isWanted: (uid: string) => boolean;
  clock: Clock;
  signal: AbortSignal;
};

/** Sweeps now and then what no worker is responsible for: traces of pods that are gone. */
export async function collectGarbage(options: GarbageOptions): Promise<void> {
  const { clock, signal, services } = options;
  while (!signal.aborted) {
    await sweep(options).catch((error: unknown) =>
      services.log.warn('could not remove what old pods left', { error: errorText(error) }),
    );
    await clock.sleep(SWEEP_MS, { signal }).catch(() => undefined);
  }
}

/** One sweep: containers and sandboxes, mounts and files, cgroups. */
export async function sweep({ services, isWanted }: Omit<GarbageOptions, 'clock' | 'signal'>) {
  const orphans = services.runtimes.pods().filter((pod) => !isWanted(pod.uid));
  await Promise.all(orphans.map((pod) => removePod(pod, services)));
  const { paths, volumes, cgroups } = services;
  const ofPods = [paths.podsDir, volumes.memoryDir].flatMap((dir) => (dir ? namesIn(dir) : []));
  for (const uid of new Set(ofPods)) {
    if (isWanted(uid) || services.runtimes.get(uid).sandboxes.length > 0) continue;
    try {
      await releaseVolumes(uid, volumes);
      await rm(join(paths.podsDir, uid), { recursive: true, force: true });
    } catch (error) {
      // A driver that is away must not keep the others from being cleaned up.
      services.log.warn('could not release the volumes of a pod that is gone', {
        uid,
        error: errorText(error),
      });
    }
  }
  for (const name of namesIn(paths.logsDir)) {
    const uid = name.split('_').at(-1) ?? '';
    if (!isWanted(uid)) await rm(join(paths.logsDir, name), { recursive: true, force: true });
  }
  for (const uid of cgroups?.pods() ?? []) {
    if (isWanted(uid) || services.runtimes.get(uid).sandboxes.length > 0) continue;
    // What the runtime does not know any more can end by us only; the next sweep removes the groups.
    if (!(await cgroups?.remove(uid))) cgroups?.killLeft(uid);
  }
}

/** Ends and removes a pod of which only the runtime still knows. */
async function removePod(pod: KnownPod, services: NodeServices): Promise<void> {
  const { runtime, runtimes, log } = services;
  const identity: PodIdentity = pod;
  log.info('removing a pod that the API no longer has', {
    pod: `${pod.namespace}/${pod.name}`,
    uid: pod.uid,
  });
  const running = pod.state.containers.filter((c) => c.state === 'running');
  await Promise.all(running.map((c) => runtime.stopContainer(c.id, ORPHAN_GRACE_S)));
  for (const sandbox of pod.state.sandboxes) {
    await runtime.stopPodSandbox(sandbox.id);
    await runtime.removePodSandbox(sandbox.id);
    runtimes.forgetSandbox(sandbox.id, identity);
  }
  for (const { id } of runtimes.get(pod.uid).containers) {
    await runtime.removeContainer(id);
    runtimes.forgetContainer(id, identity);
  }
}
