import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { openPool, type WaitingVm } from './pool.ts';

const SMALL = { memoryMib: 256, vcpus: 1 };
const LARGE = { memoryMib: 1024, vcpus: 2 };

function world(limit = 2) {
  const clock = manualClock();
  const stop = new AbortController();
  const made: string[] = [];
  const dropped: string[] = [];
  const headroom = { idleShare: 1, freeMib: 100_000 };
  const state = { failing: false };
  const pool = openPool({
    ...{ limit, clock, log: silentLog, signal: stop.signal, headroom: () => headroom },
    async make({ memoryMib }): Promise<WaitingVm> {
      if (state.failing) throw new Error('no room');
      await clock.sleep(1_500);
      made.push(`${memoryMib}#${made.length}`);
      return { dir: made.at(-1) ?? '', pid: 1 };
    },
    async discard({ dir }) {
      dropped.push(dir);
    },
  });
  const pass = async (seconds: number): Promise<void> => {
    for (let at = 0; at < seconds; at++) {
      await clock.advance(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { pool, made, dropped, headroom, state, pass, stop };
}

test('it is filled with the size that was asked for, to its limit, when starts are over', async () => {
  const { pool, made, pass, stop } = world();
  await pass(10);
  assert.deepEqual(made, [], 'nobody wants a VM yet');
  assert.equal(pool.take(SMALL), undefined);
  await pass(2);
  assert.deepEqual(made, [], 'more starts may come');
  await pass(20);
  assert.deepEqual(made, ['256#0', '256#1']);
  assert.equal(pool.take(SMALL)?.dir, '256#0');
  await pass(20);
  assert.deepEqual(made, ['256#0', '256#1', '256#2']);
  stop.abort();
  await pool.close();
});

test('one that is taken while the next is made does not lose that', async () => {
  const { pool, made, pass, stop } = world();
  pool.take(SMALL);
  await pass(6);
  assert.equal(made.length, 1, 'the second is being made');
  assert.equal(pool.take(SMALL)?.dir, '256#0');
  await pass(10);
  assert.deepEqual([pool.take(SMALL)?.dir, pool.take(SMALL)?.dir], ['256#1', '256#2']);
  stop.abort();
  await pool.close();
});

test('another size replaces what waits, and the end ends what waits', async () => {
  const { pool, made, dropped, pass, stop } = world(1);
  pool.take(SMALL);
  await pass(10);
  assert.equal(pool.take(LARGE), undefined);
  await pass(10);
  assert.deepEqual([made, dropped], [['256#0', '1024#1'], ['256#0']]);
  stop.abort();
  await pool.close();
  assert.deepEqual(dropped, ['256#0', '1024#1']);
});

test('a busy machine, one without memory, and a failure are left in peace', async () => {
  const { pool, made, headroom, state, pass, stop } = world();
  pool.take(SMALL);
  headroom.idleShare = 0.2;
  await pass(20);
  Object.assign(headroom, { idleShare: 1, freeMib: 900 });
  await pass(20);
  assert.deepEqual(made, []);
  headroom.freeMib = 100_000;
  state.failing = true;
  await pass(2);
  state.failing = false;
  await pass(30);
  assert.deepEqual(made, [], 'it failed a moment ago');
  await pass(60);
  assert.equal(made.length, 2);
  stop.abort();
  await pool.close();
});
