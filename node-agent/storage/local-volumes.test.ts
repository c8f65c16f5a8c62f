import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { PersistentVolume } from '#api/types.ts';
import { LocalVolumes } from '#node-agent/storage/local-volumes.ts';

const localDir = mkdtempSync(join(tmpdir(), 'gantry-local-'));
after(() => rmSync(localDir, { recursive: true, force: true }));

function context(known: readonly string[], failing = '') {
  return {
    configMap: async () => undefined,
    secret: async () => undefined,
    claim: async () => undefined,
    async persistentVolume(name: string): Promise<PersistentVolume | undefined> {
      if (name === failing) throw new Error('the server is away');
      return known.includes(name) ? { metadata: { name } } : undefined;
    },
  };
}
const local = new LocalVolumes(localDir);

test('a directory is made once and keeps its content; those of gone volumes go', async () => {
  const path = await local.directory('pvc-a', context(['pvc-a']));
  assert.equal(path, join(localDir, 'pvc-a'));
  assert.equal(statSync(path).mode & 0o777, 0o777);
  writeFileSync(join(path, 'data'), 'kept');
  for (const name of ['pvc-gone', 'pvc-unknown']) mkdirSync(join(localDir, name));
  await local.directory('pvc-b', context(['pvc-a'], 'pvc-unknown'));
  assert.ok(existsSync(join(path, 'data')));
  assert.ok(!existsSync(join(localDir, 'pvc-gone')));
  assert.ok(existsSync(join(localDir, 'pvc-unknown')), 'not while nobody could tell');
});

test('a handle cannot lead elsewhere', async () => {
  for (const handle of ['../x', '', 'a/b', '.']) {
    await assert.rejects(local.directory(handle, context([])), /not a volume name/);
  }
});

test('a volume for one pod alone is refused to the next until it is given back', () => {
  const use = (uid: string) => ({
    uid,
    volume: 'v',
    claim: 'c',
    persistentVolume: 'pv',
    path: '/x',
    capacityBytes: 1,
  });
  const exclusive = { exclusive: true };
  local.use(use('a'), exclusive);
  local.use(use('a'), exclusive);
  assert.throws(() => local.use(use('b'), exclusive), /ReadWriteOncePod .* in use by another pod/);
  local.use(use('b'), { exclusive: false });
  void local.releasePod('a');
  local.use(use('b'), exclusive);
  assert.deepEqual(local.uses(), [use('b')]);
});
