import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { seededRandom } from '#base/random.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { freeRange, idSpace, IdRanges, parseRange, rangeText } from '#node-agent/pods/id-ranges.ts';
import { podDir, podPaths } from '#node-agent/pods/pod-files.ts';

function pathsOf(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-ids-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return podPaths(dir);
}

test('the lowest range that nobody has', () => {
  const table: [used: number[], count: number, first: number | undefined][] = [
    [[], 110, 65_536],
    [[65_536], 110, 131_072],
    [[131_072], 110, 65_536],
    [[65_536, 131_072], 2, undefined],
    [[], 0, undefined],
    // Kept by a node that had room for more pods.
    [[65_536, 65_536 * 9], 2, 131_072],
  ];
  for (const [used, count, first] of table)
    assert.equal(freeRange(new Set(used), { first: 65_536, count }), first, JSON.stringify(used));
  // Ids end at 32 bits, however many pods a node may have.
  const all = new Set(Array.from({ length: 65_535 }, (_, index) => (index + 1) * 65_536));
  assert.equal(freeRange(all, idSpace(1_000_000, '', '')), undefined);
});

test('whose ids pods may have', () => {
  const kubelet = (...ids: number[]) => `root:100000:65536\nkubelet:${ids.join(':')}\n`;
  const other = 'alice:100000:65536\n';
  assert.deepEqual(idSpace(110, '', ''), { first: 65_536, count: 110 });
  assert.deepEqual(idSpace(110, other, other), { first: 65_536, count: 110 });
  const given = kubelet(65_536 * 10, 65_536 * 5);
  assert.deepEqual(idSpace(5, given, given), { first: 655_360, count: 5 });
  const refused: [subuid: string, subgid: string, rule: RegExp][] = [
    [given, '', /the same one line/],
    [given, kubelet(65_536, 65_536 * 5), /the same one line/],
    [given + given, given + given, /the same one line/],
    [kubelet(0, 65_536 * 9), kubelet(0, 65_536 * 9), /multiples of 65536/],
    [kubelet(70_000, 65_536 * 9), kubelet(70_000, 65_536 * 9), /multiples of 65536/],
    [kubelet(65_536, 65_536 * 4), kubelet(65_536, 65_536 * 4), /5 \(--max-pods\) times 65536/],
    ['kubelet:x:y\n', 'kubelet:x:y\n', /5 \(--max-pods\)|multiples/],
  ];
  for (const [subuid, subgid, rule] of refused)
    assert.throws(() => idSpace(5, subuid, subgid), rule, subuid);
});

test('kept as the kubelet keeps it; anything else is refused', () => {
  assert.deepEqual(JSON.parse(rangeText(131_072)), {
    uidMappings: [{ hostId: 131_072, containerId: 0, length: 65_536 }],
    gidMappings: [{ hostId: 131_072, containerId: 0, length: 65_536 }],
  });
  const range = (ids: object, groups = ids) =>
    JSON.stringify({ uidMappings: [ids], gidMappings: [groups] });
  const good = { hostId: 65_536, containerId: 0, length: 65_536 };
  assert.equal(parseRange(range({ length: 65_536, containerId: 0, hostId: 65_536 })), 65_536);
  const bad = [
    '{',
    '{}',
    range({ ...good, hostId: 0 }),
    range({ ...good, hostId: 70_000 }),
    range({ ...good, hostId: 2 ** 32 }),
    range({ ...good, containerId: 1 }),
    range({ ...good, length: 1 }),
    range(good, { ...good, hostId: 131_072 }),
    JSON.stringify({ uidMappings: [good, good], gidMappings: [good, good] }),
  ];
  for (const text of bad) assert.throws(() => parseRange(text), text);
});

test('two pods never share a range, over restarts and whatever order they come and go in', (t) => {
  const paths = pathsOf(t);
  const random = seededRandom(7);
  const count = 8;
  const space = idSpace(count, '', '');
  let ranges = new IdRanges(paths, space);
  const owned = new Map<string, number>();
  for (let round = 0; round < 500; round++) {
    const uid = `pod-${Math.floor(random() * 12)}`;
    if (random() < 0.1) ranges = new IdRanges(paths, space);
    if (random() < 0.4) {
      ranges.release(uid);
      owned.delete(uid);
      assert.equal(existsSync(join(podDir(paths, uid), 'userns')), false);
      continue;
    }
    if (!owned.has(uid) && owned.size === count) {
      assert.throws(() => ranges.claim(uid), ConfigError);
      continue;
    }
    const { mode, uids, gids } = ranges.claim(uid);
    assert.equal(mode, 'POD');
    assert.deepEqual(uids, gids);
    const first = uids[0]?.hostId ?? 0;
    assert.equal(owned.get(uid) ?? first, first, `${uid} keeps its range`);
    owned.set(uid, first);
    assert.equal(new Set(owned.values()).size, owned.size, `round ${round}: a range of two pods`);
    assert.ok(first >= 65_536 && first <= 65_536 * count);
    assert.equal(parseRange(readFileSync(join(podDir(paths, uid), 'userns'), 'utf8')), first);
  }
});

test('a kept range that cannot be read stops the agent, one cut off with the machine does not', (t) => {
  const paths = pathsOf(t);
  mkdirSync(podDir(paths, 'a'), { recursive: true });
  const file = join(podDir(paths, 'a'), 'userns');
  writeFileSync(file, '');
  assert.equal(new IdRanges(paths, idSpace(2, '', '')).claim('b').uids[0]?.hostId, 65_536);
  writeFileSync(file, rangeText(70_000));
  assert.throws(() => new IdRanges(paths, idSpace(2, '', '')), /pods\/a\/userns: .*remove it when/);
});
