import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { processStat } from './process-stat.ts';

test('a process is known by its parent, its start and what it has used', () => {
  const before = processStat(process.pid);
  const begun = process.cpuUsage();
  while (process.cpuUsage(begun).user < 50_000); // a tick is 10 ms
  const after = processStat(process.pid);
  assert.equal(after?.parent, process.ppid);
  assert.match(after?.startTicks ?? '', /^\d+$/);
  assert.equal(after?.startTicks, before?.startTicks);
  assert.ok((after?.cpuMs ?? 0) > (before?.cpuMs ?? 0));
});

test('a name with parentheses and spaces shifts nothing; who has ended is unknown', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-stat-'));
  const program = join(dir, 'a) b (c');
  copyFileSync('/bin/sleep', program);
  const child = spawn(program, ['100']);
  await once(child, 'spawn');
  assert.equal(processStat(child.pid ?? 0)?.parent, process.pid);
  child.kill();
  await once(child, 'exit');
  rmSync(dir, { recursive: true });
  assert.equal(processStat(child.pid ?? 0), undefined);
});
