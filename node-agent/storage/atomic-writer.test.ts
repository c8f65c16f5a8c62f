import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeAtomically } from '#node-agent/storage/atomic-writer.ts';

const dir = mkdtempSync('/tmp/G-atomic-');
after(() => rmSync(dir, { recursive: true, force: true }));
const skip = process.getuid?.() === 0 ? false : 'files are given away by root only';

/** Owner, group and mode of the one file of a volume written so. */
async function written(name: string, uid: number | undefined, gid: number | undefined) {
  const volume = join(dir, name);
  const file = { content: Buffer.from('x'), mode: 0o600, ...(uid === undefined ? {} : { uid }) };
  await writeAtomically(volume, new Map([['token', file]]), { gid });
  const { uid: owner, gid: group, mode } = statSync(join(volume, 'token'));
  return [owner, group, (mode & 0o777).toString(8)];
}

test('a file belongs to its user and to the group of the volume, else to root', {
  skip,
}, async () => {
  assert.deepEqual(await written('plain', undefined, undefined), [0, 0, '600']);
  assert.deepEqual(await written('user', 1000, undefined), [1000, 0, '600']);
  assert.deepEqual(await written('group', undefined, 2000), [0, 2000, '640']);
  assert.deepEqual(await written('both', 1000, 2000), [1000, 2000, '640']);
});
