import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SIGNALS } from '#api/meta/field-rules.ts';
import { criSignal, linuxSignal, linuxSignalOfCri } from '#node-agent/containers/stop-signal.ts';

test('signals in the numbers of CRI and of the kernel', () => {
  assert.deepEqual(
    ['SIGABRT', 'SIGTERM', 'SIGUSR1', 'SIGXFSZ', 'SIGRTMIN', 'SIGRTMIN+1', 'SIGRTMAX'].map(
      criSignal,
    ),
    [1, 23, 29, 34, 35, 36, 65],
  );
  assert.deepEqual(
    ['SIGHUP', 'SIGTERM', 'SIGCLD', 'SIGRTMIN+3', 'SIGRTMAX-1', 'NONE'].map(linuxSignal),
    [1, 15, 17, 37, 63, undefined],
  );
  assert.equal(new Set(SIGNALS.map(criSignal)).size, SIGNALS.length);
  for (const name of SIGNALS)
    assert.ok(linuxSignal(name) && linuxSignal(name) === linuxSignalOfCri(criSignal(name)), name);
  assert.deepEqual([0, -1, 66].map(linuxSignalOfCri), [undefined, undefined, undefined]);
});
