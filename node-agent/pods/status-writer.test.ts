import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTime } from '#api/time.ts';
import type { Pod, PodStatus } from '#api/types.ts';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { Api } from '#client/api.ts';
import { createStatusWriter, type StatusWriter } from '#node-agent/pods/status-writer.ts';

const POD = { metadata: { name: 'p', namespace: 'ns', uid: 'u' }, spec: {} } as unknown as Pod;

/** An API whose patches wait until they are let through. */
function slowApi() {
  const waiting: (() => void)[] = [];
  let patches = 0;
  const api = {
    patch: () => {
      patches++;
      return new Promise<void>((resolve) => waiting.push(resolve));
    },
  } as unknown as Api;
  const answer = async (): Promise<void> => {
    waiting.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { api, answer, patches: () => patches };
}

/** A status as the pod's worker makes it at a moment: what holds already keeps its times. */
function statusAt(writer: StatusWriter, nowMs: number): PodStatus {
  const before = writer.reported(POD);
  const old = before?.conditions?.find((one) => one.type === 'Ready' && one.status === 'True');
  return {
    phase: 'Running',
    startTime: before?.startTime ?? formatTime(nowMs),
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        lastTransitionTime: old?.lastTransitionTime ?? formatTime(nowMs),
      },
    ],
  };
}

test('a status made while the one before is being written keeps its times, and ends', async () => {
  const { api, answer, patches } = slowApi();
  const clock = manualClock();
  const { signal } = new AbortController();
  const writer = createStatusWriter(api, { clock, log: silentLog, signal });
  writer.set(POD, statusAt(writer, 1_000));
  await new Promise((resolve) => setImmediate(resolve));
  writer.set(POD, statusAt(writer, 2_000));
  // Each answer makes the informer wake the worker, which makes its status anew.
  for (let n = 0; n < 5; n++) {
    await answer();
    writer.set(POD, statusAt(writer, 3_000 + n * 1_000));
  }
  assert.equal(patches(), 1);
  assert.equal(writer.reported(POD)?.startTime, formatTime(1_000));
});
