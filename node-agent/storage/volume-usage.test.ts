import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { listRecorder } from '#client/events.ts';
import type { CsiVolumes } from '#node-agent/csi/csi-volumes.ts';
import { LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import type { PodWorker } from '#node-agent/pods/pod-worker.ts';
import { agentMetrics } from '#node-agent/server/agent-metrics.ts';
import type { PodRuntimes } from '#node-agent/pods/pod-runtimes.ts';
import { VolumeUsage } from '#node-agent/storage/volume-usage.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-usage-'));
after(() => rmSync(dir, { recursive: true, force: true }));

test('directories and drivers are measured; what holds too much is told of once an hour', async () => {
  const events = listRecorder();
  const clock = manualClock(0);
  const local = new LocalVolumes(dir);
  let storage = '64Ki';
  const stats = {
    usage: [{ unit: 'BYTES' as const, used: 1, total: 3, available: 2 }],
    volumeCondition: null as { abnormal: boolean; message: string } | null,
  };
  const disk = { uid: 'u', volume: 'disk', claim: 'd', name: 'pv-d', stats };
  const csi = { measure: async () => [disk] };
  const usage = new VolumeUsage({
    csi: csi as unknown as CsiVolumes,
    local,
    objects: {
      configMap: async () => undefined,
      secret: async () => undefined,
      claim: async (namespace, name) => ({ metadata: { namespace, name } }),
      persistentVolume: async (name) => ({ metadata: { name }, spec: { capacity: { storage } } }),
    },
    events,
    clock,
    log: silentLog,
  });
  const pod = { metadata: { name: 'p', namespace: 'ns', uid: 'u' } };
  const workers = {
    get: (uid: string) => (uid === 'u' ? ({ pod } as unknown as PodWorker) : undefined),
  };
  const use = { uid: 'u', volume: 'v', claim: 'c', persistentVolume: 'pv', path: dir };
  local.use({ ...use, capacityBytes: 65536 }, { exclusive: false });
  await usage.measure(workers);
  assert.equal(events.said.length, 0);
  writeFileSync(join(dir, 'big'), Buffer.alloc(200_000, 1));
  await usage.measure(workers);
  await usage.measure(workers);
  assert.equal(events.said.length, 1);
  assert.match(events.said[0] ?? '', /VolumeOverCapacity volume "pv" holds \d+ bytes, 65536 were/);
  const [directory, measured] = usage.of('u');
  assert.deepEqual(directory?.pvcRef, { name: 'c', namespace: 'ns' });
  assert.ok((directory?.usedBytes ?? 0) >= 200_000);
  assert.equal(directory?.availableBytes, 0);
  assert.equal(measured?.capacityBytes, 3);
  storage = '1Mi';
  await usage.measure(workers);
  storage = '64Ki';
  await usage.measure(workers);
  assert.equal(events.said.length, 2, 'told again after it was well');
  stats.volumeCondition = { abnormal: true, message: 'the disk rots' };
  await usage.measure(workers);
  await usage.measure(workers);
  const ill = events.said.filter((said) => said.startsWith('Warning VolumeConditionAbnormal'));
  assert.deepEqual(ill, ['Warning VolumeConditionAbnormal Volume pv-d: the disk rots']);
  const runtimes = { pods: () => [] } as unknown as PodRuntimes;
  const services = { nodeName: 'n', runtimes, volumes: { usage } };
  const text = agentMetrics({ services, workers: { all: () => [] } });
  const labels = '{namespace="ns",persistentvolumeclaim="d"}';
  assert.ok(text.includes(`kubelet_volume_stats_capacity_bytes${labels} 3\n`), text);
  assert.ok(text.includes(`kubelet_volume_stats_health_status_abnormal${labels} 1\n`), text);
});
