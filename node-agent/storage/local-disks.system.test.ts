import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import { isMounted, unmountAll } from '#node-agent/storage/mounts.ts';

/** Volumes of a node that are file systems of their own: real loop devices, real ext4. */
const skip =
  process.getuid?.() !== 0
    ? 'needs root'
    : !existsSync('/dev/loop-control')
      ? 'no loop devices here'
      : !existsSync('/usr/sbin/mkfs.ext4') && 'needs e2fsprogs';
const MiB = 1024 * 1024;
const dir = mkdtempSync('/tmp/G-disks-');
const devices: string[] = [];
after(async () => {
  await unmountAll(dir);
  for (const device of devices) execFileSync('losetup', ['--detach', device]);
  rmSync(dir, { recursive: true, force: true });
});

const objects = {
  configMap: async () => undefined,
  secret: async () => undefined,
  claim: async () => undefined,
  persistentVolume: async (name: string) => ({ metadata: { name } }),
};
const useOf = (uid: string, persistentVolume: string, path: string) => ({
  uid,
  volume: 'v',
  claim: 'c',
  persistentVolume,
  path,
  capacityBytes: 0,
  mounted: true as const,
});

test('a volume in an image holds its size and no more, grows, and is away when unused', {
  skip,
}, async () => {
  const local = new LocalVolumes(join(dir, 'local-volumes'));
  const image = (sizeBytes: number) =>
    local.image('pvc-1', { sizeBytes, options: [], objects, isThere: false });
  const { path } = await image(16 * MiB);
  assert.deepEqual(readdirSync(path), []);
  assert.equal(statSync(path).mode & 0o777, 0o777);
  writeFileSync(join(path, 'kept'), 'data');
  assert.throws(() => writeFileSync(join(path, 'big'), Buffer.alloc(20 * MiB)), /ENOSPC/);
  local.use(useOf('a', 'pvc-1', path), { exclusive: false });
  await image(16 * MiB);
  local.use(useOf('b', 'pvc-1', path), { exclusive: false });
  await local.releasePod('a');
  assert.ok(isMounted(path), 'another pod has it');
  const room = (): number => statfsSync(path).blocks * statfsSync(path).bsize;
  const before = room();
  const { hasSize } = await image(48 * MiB);
  // Without CAP_SYS_RESOURCE a mounted file system stays as it is.
  assert.equal(room() > before, hasSize);
  await local.releasePod('b');
  assert.ok(!isMounted(path));
  await image(48 * MiB);
  assert.ok(room() > 40 * MiB, 'it has grown, at the next mount at the latest');
  assert.equal(readFileSync(join(path, 'kept'), 'utf8'), 'data');
  local.use(useOf('c', 'pvc-1', path), { exclusive: false });
  await local.releasePod('c');
  assert.equal(execFileSync('losetup', ['-a'], { encoding: 'utf8' }).includes(dir), false);
});

function disk(name: string): string {
  const file = join(dir, name);
  writeFileSync(file, '');
  truncateSync(file, 16 * MiB);
  const device = execFileSync('losetup', ['-f', '--show', file], { encoding: 'utf8' }).trim();
  devices.push(device);
  return device;
}

test('a blank disk is formatted once; what holds something else is left alone', {
  skip,
}, async () => {
  const local = new LocalVolumes(join(dir, 'local-volumes'));
  const device = disk('blank');
  const wanted = { device, fsType: '', options: ['noatime'], readOnly: false };
  await assert.rejects(local.disk('pv-1', { ...wanted, readOnly: true }), /is blank/);
  const path = await local.disk('pv-1', wanted);
  assert.equal(path, join(dir, 'plugins/kubernetes.io/local-volume/mounts/pv-1'));
  writeFileSync(join(path, 'kept'), 'data');
  local.use(useOf('a', 'pv-1', path), { exclusive: false });
  await local.releasePod('a');
  assert.ok(!isMounted(path));
  await assert.rejects(local.disk('pv-1', { ...wanted, fsType: 'xfs' }), /holds ext4, not xfs/);
  await local.disk('pv-1', wanted);
  assert.equal(readFileSync(join(path, 'kept'), 'utf8'), 'data');
  const swap = disk('swap');
  execFileSync('mkswap', [swap]);
  await assert.rejects(local.disk('pv-2', { ...wanted, device: swap }), /holds swap, not ext4/);
});
