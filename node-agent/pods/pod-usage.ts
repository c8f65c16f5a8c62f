import { join } from 'node:path';
import type { Pod } from '#api/types.ts';
import { type TreeUsage, treeUsage } from '#node-agent/node/disk-walk.ts';
import type { Usage } from '#node-agent/node/eviction.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { identityOf, podLogDir, volumeDir } from '#node-agent/pods/pod-files.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import { LABEL } from '#node-agent/runtime/service.ts';
import { emptyDirVolume } from '#node-agent/volumes/empty-dir.ts';

/** What pods use of memory, disk, inodes and process ids, by uid. Walks their files: not for often. */
export async function podUsage(
  pods: readonly Pod[],
  services: NodeServices,
): Promise<Map<string, Usage>> {
  const stats = await services.runtime.listContainerStats();
  const usages = new Map<string, Usage>();
  for (const pod of pods) {
    const identity = identityOf(pod);
    const containers = new Map<
      string,
      { memoryBytes: number; diskBytes: number; logBytes: number }
    >();
    const total: TreeUsage = { bytes: 0, inodes: 0 };
    const add = ({ bytes, inodes }: TreeUsage): void => {
      total.bytes += bytes;
      total.inodes += inodes;
    };
    for (const { attributes, memory, writableLayer } of stats) {
      if (attributes.labels[LABEL.podUid] !== identity.uid) continue;
      const { name } = attributes.metadata;
      const logs = await treeUsage(join(podLogDir(services.paths, identity), name));
      const rootfsBytes = writableLayer?.usedBytes?.value ?? 0;
      add(logs);
      add({ bytes: rootfsBytes, inodes: writableLayer?.inodesUsed?.value ?? 0 });
      containers.set(name, {
        memoryBytes: memory?.workingSetBytes?.value ?? 0,
        diskBytes: rootfsBytes + logs.bytes,
        logBytes: logs.bytes,
      });
    }
    const emptyDirBytes = new Map<string, number>();
    for (const { name, emptyDir } of pod.spec.volumes ?? []) {
      if (!emptyDir || emptyDir.medium) continue;
      const dir = volumeDir(services.paths, identity.uid, emptyDirVolume.plugin, name);
      const usage = await treeUsage(dir);
      emptyDirBytes.set(name, usage.bytes);
      add(usage);
    }
    usages.set(identity.uid, {
      memoryBytes: [...containers.values()].reduce((sum, c) => sum + c.memoryBytes, 0),
      diskBytes: total.bytes,
      inodes: total.inodes,
      pids: services.cgroups?.processes(identity.uid, qosClass(pod)) ?? 0,
      containers,
      emptyDirBytes,
    });
  }
  return usages;
}
