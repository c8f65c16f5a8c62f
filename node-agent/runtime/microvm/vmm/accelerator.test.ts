import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { chooseAccelerator } from './accelerator.ts';

const cacheDir = mkdtempSync(join(tmpdir(), 'gantry-accelerator-'));
after(() => rmSync(cacheDir, { recursive: true, force: true }));
const options = { cacheDir, log: silentLog, hasKvm: true };

test('without /dev/kvm nothing is tried', async () => {
  const boot = (): Promise<void> => assert.fail('tried');
  const answer = await chooseAccelerator({ ...options, key: 'a', boot, hasKvm: false });
  assert.equal(answer.kind, 'TCG');
});

test('an answer holds for its boot, kernel and QEMU', async () => {
  let boots = 0;
  const boot = (): Promise<void> => Promise.resolve(void boots++);
  assert.equal((await chooseAccelerator({ ...options, key: 'a', boot })).kind, 'KVM');
  assert.equal((await chooseAccelerator({ ...options, key: 'a', boot })).kind, 'KVM');
  assert.equal(boots, 1);
  await chooseAccelerator({ ...options, key: 'b', boot });
  assert.equal(boots, 2);
});

test('a guest that does not start means emulation, with the reason', async () => {
  const boot = (): Promise<void> => Promise.reject(new Error('assertion failed'));
  const answer = await chooseAccelerator({ ...options, key: 'c', boot });
  assert.equal(answer.kind, 'TCG');
  assert.match(answer.reason, /does not start under it: assertion failed/);
  const late = (): Promise<void> => Promise.reject(AbortSignal.abort(timeout()).reason as Error);
  assert.match(
    (await chooseAccelerator({ ...options, key: 'd', boot: late })).reason,
    /within 4 s/,
  );
});

const timeout = (): DOMException => new DOMException('late', 'TimeoutError');
