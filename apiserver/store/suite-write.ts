import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bytes, collect, put, remove, text, write } from '#apiserver/store/suite-material.ts';
import type { SuiteContext } from '#apiserver/store/suite.ts';
import type { CommitResult, Store, Write } from '#apiserver/store/store.ts';

/** Commits: revisions, compare-and-swap, order, time to live. */
export function writeSuite(context: SuiteContext): void {
  describe('commit', () => {
    revisionTests(context);
    outcomeTests(context);
    orderTests(context);
    timeToLiveTests(context);
  });
}

function revisionTests({ store, prefix }: SuiteContext): void {
  test('every commit gets the next revision, the first one above 1', async () => {
    const key = `${prefix()}a`;
    const start = await store().revision();
    assert.ok(start >= 1);
    assert.equal(await put(store(), key, '1'), start + 1);
    assert.equal(await put(store(), key, '2'), start + 2);
    assert.equal(await remove(store(), key), start + 3);
    assert.equal(await store().revision(), start + 3);
  });

  test('the create revision stays until the key is deleted', async () => {
    const key = `${prefix()}a`;
    const created = await put(store(), key, '1');
    const changed = await put(store(), key, '2');
    const { entry } = await store().get(key);
    assert.deepEqual([entry?.createRevision, entry?.modRevision], [created, changed]);
    await remove(store(), key);
    const again = await put(store(), key, '3');
    assert.equal((await store().get(key)).entry?.createRevision, again);
  });

  test('values come back as they were: empty, binary, a megabyte', async () => {
    const values = {
      empty: new Uint8Array(),
      binary: Uint8Array.from({ length: 256 }, (_, n) => n),
      large: new Uint8Array(1 << 20).fill(7),
    };
    const own = prefix();
    for (const [name, value] of Object.entries(values)) {
      await write(store(), { key: own + name, expect: 'absent', value });
      const { entry } = await store().get(own + name);
      assert.ok(entry && Buffer.from(entry.value).equals(value), name);
    }
  });
}

/** Outcome of a commit on a key with value 'old', or on an absent key. */
type Case = {
  name: string;
  present: boolean;
  expect: 'absent' | 'any' | 'same' | 'other';
  value: string | null;
  ok: boolean;
  /** Whether the commit made a new revision. */
  moves: boolean;
};

const CASES: Case[] = [
  { name: 'create', present: false, expect: 'absent', value: 'v', ok: true, moves: true },
  {
    name: 'create of what exists',
    present: true,
    expect: 'absent',
    value: 'v',
    ok: false,
    moves: false,
  },
  { name: 'update', present: true, expect: 'same', value: 'v', ok: true, moves: true },
  {
    name: 'update of a stale read',
    present: true,
    expect: 'other',
    value: 'v',
    ok: false,
    moves: false,
  },
  {
    name: 'update of what is gone',
    present: false,
    expect: 'other',
    value: 'v',
    ok: false,
    moves: false,
  },
  { name: 'put over', present: true, expect: 'any', value: 'v', ok: true, moves: true },
  { name: 'put anew', present: false, expect: 'any', value: 'v', ok: true, moves: true },
  { name: 'delete', present: true, expect: 'same', value: null, ok: true, moves: true },
  {
    name: 'delete of a stale read',
    present: true,
    expect: 'other',
    value: null,
    ok: false,
    moves: false,
  },
  {
    name: 'delete of what is gone',
    present: false,
    expect: 'other',
    value: null,
    ok: false,
    moves: false,
  },
  { name: 'delete any', present: true, expect: 'any', value: null, ok: true, moves: true },
  {
    name: 'delete any of nothing',
    present: false,
    expect: 'any',
    value: null,
    ok: true,
    moves: false,
  },
  {
    name: 'delete of nothing, expected',
    present: false,
    expect: 'absent',
    value: null,
    ok: true,
    moves: false,
  },
];

function outcomeTests({ store, prefix }: SuiteContext): void {
  for (const { name, present, expect, value, ok, moves } of CASES) {
    test(`${name}: ${ok ? 'done' : 'conflict'}`, async () => {
      const key = `${prefix()}a`;
      const older = await put(store(), key, 'older');
      const same = present ? await put(store(), key, 'old') : await remove(store(), key);
      const expected = expect === 'same' ? same : expect === 'other' ? older : expect;
      const result = await store().commit({
        key,
        expect: expected,
        value: value === null ? null : bytes(value),
      });
      const revision = moves ? same + 1 : same;
      assert.deepEqual([result.ok, result.revision], [ok, revision]);
      const { entry } = await store().get(key);
      const left = !ok || !moves ? (present ? 'old' : undefined) : (value ?? undefined);
      assert.equal(entry === null ? undefined : text(entry.value), left);
      if (!result.ok) assert.deepEqual(result.current, entry);
    });
  }
}

function orderTests({ store, prefix }: SuiteContext): void {
  test('commits of one key in flight together take effect in call order', async () => {
    const key = `${prefix()}a`;
    const start = await store().revision();
    const results = await Promise.all(
      Array.from({ length: 200 }, (_, n) => put(store(), key, String(n))),
    );
    assert.deepEqual(
      results,
      results.map((_, n) => start + 1 + n),
    );
    const { entry } = await store().get(key);
    assert.equal(text(entry?.value ?? bytes('')), '199');
  });

  test('of many creates in flight one wins, the others see it', async () => {
    const key = `${prefix()}a`;
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        store().commit({ key, expect: 'absent', value: bytes(String(n)) }),
      ),
    );
    const won = results.filter((result) => result.ok);
    const { entry } = await store().get(key);
    assert.equal(won.length, 1);
    for (const result of results) if (!result.ok) assert.deepEqual(result.current, entry);
  });

  test('counters raised by many clients at once lose nothing', async () => {
    const key = `${prefix()}counter`;
    await put(store(), key, '0');
    await Promise.all(Array.from({ length: 8 }, () => raise(store(), key, 25)));
    const { entry } = await store().get(key);
    assert.equal(text(entry?.value ?? bytes('')), '200');
  });

  test('many keys in flight: no revision twice, and the watch shows them in order', async () => {
    const own = prefix();
    const start = await store().revision();
    const watch = collect(store(), own, start);
    const revisions = await Promise.all(
      Array.from({ length: 1000 }, (_, n) => put(store(), `${own}${n}`, String(n))),
    );
    const events = await watch.take(1000);
    await watch.stop();
    const seen = events.map((event) => (event.type === 'put' ? event.entry.modRevision : 0));
    assert.deepEqual(
      seen,
      seen.map((_, n) => start + 1 + n),
    );
    assert.deepEqual(
      revisions.toSorted((a, b) => a - b),
      seen,
    );
    for (const event of events) {
      assert.ok(event.type === 'put');
      const n = Number(text(event.entry.value));
      assert.deepEqual([event.entry.key, event.entry.modRevision], [`${own}${n}`, revisions[n]]);
    }
  });
}

/** Reads and writes back plus one, as often as it takes. */
async function raise(store: Store, key: string, times: number): Promise<void> {
  let { entry } = await store.get(key);
  for (let done = 0; done < times; ) {
    assert.ok(entry);
    const next: Write = {
      key,
      expect: entry.modRevision,
      value: bytes(String(Number(text(entry.value)) + 1)),
    };
    const result: CommitResult = await store.commit(next);
    if (result.ok) done++;
    entry = result.ok ? (await store.get(key)).entry : result.current;
  }
}

function timeToLiveTests({ store, prefix, passTime }: SuiteContext): void {
  test('time to live ends by an ordinary delete; writing again renews or lifts it', async () => {
    const own = prefix();
    const ttlSeconds = 2;
    const revisions: number[] = [];
    for (const key of ['event', 'lifted', 'renewed']) {
      const value = bytes('1');
      revisions.push(await write(store(), { key: own + key, expect: 'any', value, ttlSeconds }));
    }
    await write(store(), { key: `${own}lifted`, expect: 'any', value: bytes('2') });
    const renewal = { expect: 'any', value: bytes('2'), ttlSeconds: 600 } as const;
    const from = await write(store(), { key: `${own}renewed`, ...renewal });
    assert.notEqual((await store().get(`${own}event`)).entry, null);
    const watch = collect(store(), own, from);
    const seen = watch.take(1);
    await passTime(3_100);
    const [event] = await seen;
    await watch.stop();
    assert.ok(event?.type === 'delete' && event.key === `${own}event`);
    assert.equal(event.previous.modRevision, revisions[0]);
    assert.ok(event.revision > from);
    const { entries } = await store().list({ prefix: own });
    assert.deepEqual(
      entries.map((entry) => entry.key),
      [`${own}lifted`, `${own}renewed`],
    );
  });
}
