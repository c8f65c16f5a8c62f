import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { put, remove, text } from '#apiserver/store/suite-material.ts';
import type { SuiteContext } from '#apiserver/store/suite.ts';
import { CompactedError, FutureRevisionError, type Entry } from '#apiserver/store/store.ts';

const keysOf = (entries: readonly Entry[]): string[] => entries.map((entry) => entry.key);

/** Reads: of now, of the past, in pages. */
export function readSuite(context: SuiteContext): void {
  describe('read', () => {
    nowTests(context);
    pastTests(context);
    pagingTests(context);
    compactTests(context);
  });
}

function nowTests({ store, prefix }: SuiteContext): void {
  test('get of what never was', async () => {
    const revision = await store().revision();
    assert.deepEqual(await store().get(`${prefix()}a`), { entry: null, revision });
  });

  test('a read sees every commit acknowledged before it', async () => {
    const own = prefix();
    for (let n = 0; n < 20; n++) {
      const modRevision = await put(store(), `${own}a`, String(n));
      const { entry, revision } = await store().get(`${own}a`);
      assert.deepEqual([entry?.modRevision, revision], [modRevision, modRevision]);
      const list = await store().list({ prefix: own });
      assert.deepEqual([list.entries[0]?.modRevision, list.revision], [modRevision, modRevision]);
    }
  });

  test('a list has the keys of its prefix, no others, in the order of UTF-8 bytes', async () => {
    const own = prefix();
    // As UTF-16 units the last two would stand the other way round.
    const names = ['', '!', 'a', 'a/', 'a/b', 'ab', 'b', 'é', '\ud7ff', '\uffff', '\u{1f600}'];
    for (const name of names.toReversed()) await put(store(), `${own}x${name}`, name);
    for (const other of ['w', 'w\u{10ffff}', 'y']) await put(store(), own + other, other);
    const { entries, remaining } = await store().list({ prefix: `${own}x` });
    assert.deepEqual(
      keysOf(entries),
      names.map((name) => `${own}x${name}`),
    );
    assert.equal(remaining, 0);
    const surrogate = await store().list({ prefix: `${own}x\ud7ff` });
    assert.deepEqual(keysOf(surrogate.entries), [`${own}x\ud7ff`]);
  });

  test('a list of nothing tells its revision', async () => {
    const revision = await store().revision();
    const list = await store().list({ prefix: prefix() });
    assert.deepEqual(list, { entries: [], revision, remaining: 0 });
  });
}

function pastTests({ store, prefix }: SuiteContext): void {
  test('a list at a revision shows that moment', async () => {
    const own = prefix();
    const start = await store().revision();
    await put(store(), `${own}a`, 'a1');
    await put(store(), `${own}b`, 'b1');
    await put(store(), `${own}a`, 'a2');
    await remove(store(), `${own}b`);
    await put(store(), `${own}b`, 'b2');
    const expected = [[], ['a1'], ['a1', 'b1'], ['a2', 'b1'], ['a2'], ['a2', 'b2']];
    for (const [commits, values] of expected.entries()) {
      const at = start + commits;
      const list = await store().list({ prefix: own }, { at });
      assert.deepEqual(
        list.entries.map((entry) => text(entry.value)),
        values,
      );
      assert.equal(list.revision, at);
    }
  });

  test('a list at a revision to come is refused', async () => {
    const at = (await store().revision()) + 1;
    await assert.rejects(store().list({ prefix: prefix() }, { at }), FutureRevisionError);
  });
}

function pagingTests({ store, prefix }: SuiteContext): void {
  test('limit, after and remaining', async () => {
    const own = prefix();
    for (const name of ['a', 'b', 'c', 'd', 'e']) await put(store(), own + name, name);
    const page = async (after: string | undefined, limit: number) => {
      const options = after === undefined ? { limit } : { after: own + after, limit };
      const { entries, remaining } = await store().list({ prefix: own }, options);
      return [keysOf(entries).map((key) => key.slice(own.length)), remaining];
    };
    assert.deepEqual(await page(undefined, 2), [['a', 'b'], 3]);
    assert.deepEqual(await page('b', 2), [['c', 'd'], 1]);
    assert.deepEqual(await page('bb', 3), [['c', 'd', 'e'], 0]);
    assert.deepEqual(await page('d', 2), [['e'], 0]);
    assert.deepEqual(await page('e', 2), [[], 0]);
    assert.deepEqual(await page(undefined, 5), [['a', 'b', 'c', 'd', 'e'], 0]);
    assert.deepEqual(await page('c', 0), [['d', 'e'], 0]);
  });

  test('pages at one revision are one snapshot while writes go on', async () => {
    const own = prefix();
    const names = Array.from({ length: 60 }, (_, n) => `${own}${String(n).padStart(3, '0')}`);
    for (const name of names) await put(store(), name, 'before');
    const found: Entry[] = [];
    let at: number | undefined;
    let left = names.length;
    while (left > 0) {
      const after = found.at(-1)?.key;
      const page = await store().list(
        { prefix: own },
        {
          limit: 7,
          ...(at === undefined ? {} : { at }),
          ...(after === undefined ? {} : { after }),
        },
      );
      at ??= page.revision;
      assert.equal(page.revision, at);
      found.push(...page.entries);
      left = page.remaining;
      assert.equal(found.length + left, names.length);
      // Behind and before the reader: changes, deletions, newcomers.
      await Promise.all([
        put(store(), names[found.length % 60] ?? '', 'after'),
        remove(store(), names[(found.length * 7) % 60] ?? ''),
        put(store(), `${own}new-${found.length}`, 'after'),
      ]);
    }
    assert.deepEqual(keysOf(found), names);
    assert.ok(found.every((entry) => text(entry.value) === 'before'));
  });

  test('a list longer than the pages it is read in is whole', async () => {
    const own = prefix();
    const names = Array.from({ length: 1203 }, (_, n) => `${own}${String(n).padStart(4, '0')}`);
    await Promise.all(names.map((name) => put(store(), name, name)));
    const list = await store().list({ prefix: own });
    assert.deepEqual(keysOf(list.entries), names);
    const page = await store().list({ prefix: own }, { limit: 1100 });
    assert.deepEqual([page.entries.length, page.remaining], [1100, 103]);
  });
}

function compactTests({ store, prefix }: SuiteContext): void {
  test('compaction forgets what was before, and keeps what is', async () => {
    const own = prefix();
    const first = await put(store(), `${own}a`, 'a1');
    await put(store(), `${own}gone`, 'g');
    await put(store(), `${own}a`, 'a2');
    const mark = await remove(store(), `${own}gone`);
    await put(store(), `${own}a`, 'a3');
    await store().compact(mark);
    for (const at of [first, mark - 1]) {
      await assert.rejects(
        store().list({ prefix: own }, { at }),
        (error) => error instanceof CompactedError && error.compactedRevision === mark,
      );
    }
    const at = await store().list({ prefix: own }, { at: mark });
    assert.deepEqual(
      at.entries.map((entry) => text(entry.value)),
      ['a2'],
    );
    const now = await store().list({ prefix: own });
    assert.deepEqual(
      now.entries.map((entry) => [text(entry.value), entry.createRevision]),
      [['a3', first]],
    );
  });

  test('compaction of the past again does nothing, of the future is refused', async () => {
    const revision = await put(store(), `${prefix()}a`, '1');
    await store().compact(revision);
    await store().compact(revision);
    await store().compact(revision - 1);
    await assert.rejects(store().compact(revision + 1), FutureRevisionError);
  });
}
