import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readElf } from '#base/oci/elf.ts';
import { imageArchitecture, openImageStore } from '#base/oci/image-store.ts';
import { until } from '#base/testing.ts';
import { addPauseImage, PAUSE_IMAGE } from './pause.ts';
import { pauseProgram } from './pause-program.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-pause-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const runs = ['amd64', 'arm64'].includes(imageArchitecture());

function childrenOf(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`pause waits, then exits with 0 on ${signal}`, { skip: !runs, timeout: 5_000 }, async () => {
    const file = join(dir, `pause-${signal}`);
    writeFileSync(file, pauseProgram(imageArchitecture()), { mode: 0o755 });
    const child = spawn(file, { stdio: 'ignore' });
    const ended = new Promise((done) => child.once('exit', (code, by) => done([code, by])));
    const pid = child.pid ?? 0;
    await until('the signal wait', () =>
      /^State:\tS/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')),
    );
    child.kill(signal);
    assert.deepEqual(await ended, [0, null]);
  });
}

test('pause reaps children it was left with', { skip: !runs, timeout: 5_000 }, async () => {
  const file = join(dir, 'pause-reap');
  writeFileSync(file, pauseProgram(imageArchitecture()), { mode: 0o755 });
  // The shell's child becomes pause's when the shell turns into pause.
  const shell = spawn('/bin/sh', ['-c', `sleep 0.05 & exec ${file}`], { stdio: 'ignore' });
  const pid = shell.pid ?? 0;
  try {
    const isPause = () => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(file);
    await until('the pause program', isPause);
    await until('reaped children', () => childrenOf(pid) === '');
  } finally {
    shell.kill('SIGKILL');
  }
});

test('both architectures give a small static program', () => {
  for (const [architecture, machine] of [['amd64', 62] as const, ['arm64', 183] as const]) {
    const program = Buffer.from(pauseProgram(architecture));
    assert.deepEqual(readElf(program), {
      interpreter: undefined,
      needed: [],
      runPath: [],
      machine,
    });
    assert.ok(program.length < 400);
  }
  assert.throws(() => pauseProgram('riscv64'), /no pause program for riscv64/);
});

test('the arm64 code branches where it should', () => {
  const code = Buffer.from(pauseProgram('arm64')).subarray(64 + 2 * 56);
  const words = Array.from({ length: code.length / 4 }, (_, i) => code.readUInt32LE(i * 4));
  const mask = words.length - 2;
  assert.equal(words[mask], 0x14002);
  // adr x1, mask stands third: its distance in bytes is four times the words between.
  assert.equal(words[2], (0x10000001 | ((mask - 2) << 5)) >>> 0);
  // The last branch before the exit goes back to the first instruction of the wait.
  const exit = mask - 3;
  assert.equal(words[exit - 1], (0x14000000 | ((6 - (exit - 1)) & 0x3ffffff)) >>> 0);
  assert.equal(words[6], 0xd2800000 + (137 << 5) + 8);
});

test('the image is built once and always the same', async () => {
  const images = openImageStore(join(dir, 'a'));
  await addPauseImage(images);
  const first = images.resolve(PAUSE_IMAGE);
  await addPauseImage(images);
  assert.deepEqual(images.resolve(PAUSE_IMAGE), first);
  const other = openImageStore(join(dir, 'b'));
  await addPauseImage(other);
  assert.deepEqual(other.resolve(PAUSE_IMAGE), first);
});
