import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import { type NodeOrder, StopOrders } from '#node-agent/pods/stop-orders.ts';

const root = mkdtempSync(join(tmpdir(), 'gantry-orders-'));
after(() => rmSync(root, { recursive: true, force: true }));
const pod = (uid: string, status: Pod['status'] = {}): Pod => ({
  metadata: { name: uid, namespace: 'ns', uid },
  spec: { containers: [], terminationGracePeriodSeconds: 7 },
  status,
});
const order: NodeOrder = {
  cause: 'failed',
  sinceMs: 5,
  graceSeconds: 3,
  reason: 'Evicted',
  message: 'the disk is full',
};

test('what has been begun is known to the next agent until the pod has ended', () => {
  const dir = join(root, 'orders');
  const first = new StopOrders(dir, silentLog);
  first.note(pod('a'), order);
  first.note(pod('gone'), order);
  const next = new StopOrders(dir, silentLog);
  assert.deepEqual(next.of(pod('a', { phase: 'Running' })), order);
  assert.equal(next.of(pod('a', { phase: 'Failed' })), undefined);
  assert.equal(next.of(pod('b')), undefined);
  next.prune((uid) => uid === 'a');
  assert.deepEqual(readdirSync(dir), ['a.json']);
  writeFileSync(join(dir, 'a.json'), '{"cause":');
  assert.equal(next.of(pod('a')), undefined, 'a file that was cut off');
  next.forget('a');
  assert.deepEqual(readdirSync(dir), []);
});

test('without a place to write, the condition of the pod says it', () => {
  writeFileSync(join(root, 'file'), '');
  const orders = new StopOrders(join(root, 'file/below'), silentLog);
  orders.note(pod('a'), order);
  const condition = (message: string, reason = 'TerminationByKubelet') => ({
    conditions: [
      {
        type: 'DisruptionTarget',
        status: 'True',
        reason,
        message,
        lastTransitionTime: '1970-01-01T00:00:09Z',
      },
    ],
  });
  const evicted = orders.of(pod('a', condition('low on memory')));
  assert.deepEqual(evicted, {
    ...order,
    sinceMs: 9000,
    graceSeconds: 7,
    message: 'low on memory',
  });
  const preempted = orders.of(pod('a', condition('Pod was preempted by Kubelet to accommodate')));
  assert.equal(preempted?.reason, 'Preempting');
  assert.equal(orders.of(pod('a', condition('by others', 'PreemptionByScheduler'))), undefined);
});
