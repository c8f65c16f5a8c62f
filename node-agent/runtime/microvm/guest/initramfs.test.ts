import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { cpioArchive } from './initramfs.ts';

test('an archive has its members in order, each aligned, and a trailer', () => {
  const archive = cpioArchive([
    { name: 'dev', kind: 'directory', mode: 0o755 },
    { name: 'dev/console', kind: 'character device', mode: 0o600, major: 5, minor: 1 },
    { name: 'init', kind: 'file', mode: 0o755, content: Buffer.from('hello') },
  ]);
  assert.equal(archive.length % 4, 0);
  const names: string[] = [];
  for (let at = 0; at < archive.length; ) {
    const field = (n: number): number =>
      Number.parseInt(archive.toString('latin1', at + 6 + n * 8, at + 14 + n * 8), 16);
    assert.equal(archive.toString('latin1', at, at + 6), '070701');
    const nameEnd = at + 110 + field(11);
    names.push(archive.toString('latin1', at + 110, nameEnd - 1));
    const dataAt = Math.ceil(nameEnd / 4) * 4;
    if (names.at(-1) === 'init') {
      assert.equal(archive.toString('latin1', dataAt, dataAt + field(6)), 'hello');
      assert.equal(field(1), 0o100755);
    }
    if (names.at(-1) === 'dev/console') assert.deepEqual([field(9), field(10)], [5, 1]);
    at = Math.ceil((dataAt + field(6)) / 4) * 4;
  }
  assert.deepEqual(names, ['dev', 'dev/console', 'init', 'TRAILER!!!']);
});

const hasCpio = ((): boolean => {
  try {
    execFileSync('cpio', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

test('cpio reads it', { skip: !hasCpio && 'no cpio here' }, () => {
  const input = cpioArchive([{ name: 'a', kind: 'file', mode: 0o644, content: Buffer.from('x') }]);
  assert.match(execFileSync('cpio', ['-t'], { input, encoding: 'utf8' }), /^a$/m);
});
