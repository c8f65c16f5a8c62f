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
    volumeCondition: null,
  };
  const csi = { measure: async () => [{ uid: 'u', volume: 'disk', claim: 'd', stats }] };
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
  assert.deepEqual(events.said, []);
  writeFileSync(join(dir, 'big'), Buffer.alloc(200_000, 1));
  await usage.measure(workers);
  await usage.measure(workers);
  assert.equal(events.said.length, 1);
  assert.match(events.said[0] ?? '', /VolumeOverCapacity volume "pv" holds \d+ bytes, 65536 were/);
  const [directory, disk] = usage.of('u');
  assert.deepEqual(directory?.pvcRef, { name: 'c', namespace: 'ns' });
  assert.ok((directory?.usedBytes ?? 0) >= 200_000);
  assert.equal(directory?.availableBytes, 0);
  assert.equal(disk?.capacityBytes, 3);
  storage = '1Mi';
  await usage.measure(workers);
  storage = '64Ki';
  await usage.measure(workers);
  assert.equal(events.said.length, 2, 'told again after it was well');
});
