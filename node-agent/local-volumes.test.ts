import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { PersistentVolume } from '#api/types.ts';
import { localDirectory } from '#node-agent/local-volumes.ts';

const localDir = mkdtempSync(join(tmpdir(), 'gantry-local-'));
after(() => rmSync(localDir, { recursive: true, force: true }));

function context(known: readonly string[], failing = '') {
  return {
    localDir,
    objects: {
      configMap: async () => undefined,
      secret: async () => undefined,
      claim: async () => undefined,
      async persistentVolume(name: string): Promise<PersistentVolume | undefined> {
        if (name === failing) throw new Error('the server is away');
        return known.includes(name) ? { metadata: { name } } : undefined;
      },
    },
  };
}

test('a directory is made once and keeps its content; those of gone volumes go', async () => {
  const path = await localDirectory(context(['pvc-a']), 'pvc-a');
  assert.equal(path, join(localDir, 'pvc-a'));
  assert.equal(statSync(path).mode & 0o777, 0o777);
  writeFileSync(join(path, 'data'), 'kept');
  for (const name of ['pvc-gone', 'pvc-unknown']) mkdirSync(join(localDir, name));
  await localDirectory(context(['pvc-a'], 'pvc-unknown'), 'pvc-b');
  assert.ok(existsSync(join(path, 'data')));
  assert.ok(!existsSync(join(localDir, 'pvc-gone')));
  assert.ok(existsSync(join(localDir, 'pvc-unknown')), 'not while nobody could tell');
});

test('a handle cannot lead elsewhere', async () => {
  for (const handle of ['../x', '', 'a/b', '.']) {
    await assert.rejects(localDirectory(context([]), handle), /not a volume name/);
  }
});
