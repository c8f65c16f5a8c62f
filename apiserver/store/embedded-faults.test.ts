import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { type EmbeddedOptions, openEmbeddedStore } from '#apiserver/store/embedded.ts';
import { put } from '#apiserver/store/suite-material.ts';
import { type Store, StoreUnavailableError } from '#apiserver/store/store.ts';
import { manualClock, systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'gantry-faults-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const openStore = (options: Partial<EmbeddedOptions> = {}): Promise<Store> =>
  openEmbeddedStore(dataDir, { clock: systemClock, log: silentLog, ...options });
const databaseFile = (): string => join(dataDir, 'store', 'state.db');

/** The store does not open, and says this. */
async function refuses(...words: RegExp[]): Promise<void> {
  await assert.rejects(openStore(), (error) => {
    assert.ok(error instanceof StoreUnavailableError);
    for (const each of words) assert.match(error.message, each);
    return true;
  });
}

async function fill(entries: number): Promise<void> {
  const store = await openStore();
  for (let n = 0; n < entries; n++) await put(store, `/k/${n}`, 'x'.repeat(3000));
  await store.close();
}

test('what was written is there after a restart, revisions go on', async () => {
  const first = await openStore();
  const revision = await put(first, '/a', '1');
  await first.commit({ key: '/a', expect: 'any', value: null });
  await first.compact(revision + 1);
  await first.close();
  assert.deepEqual(readdirSync(join(dataDir, 'store')).sort(), ['lock', 'owner', 'state.db']);

  const second = await openStore();
  // Compaction took even the row of the newest commit; its number is not given out again.
  assert.equal(await second.revision(), revision + 1);
  assert.equal(await put(second, '/a', '2'), revision + 2);
  await second.close();
});

test('time to live goes on over a restart', async () => {
  const clock = manualClock(5_000);
  const first = await openStore({ clock });
  await first.commit({ key: '/a', expect: 'any', value: new Uint8Array(1), ttlSeconds: 60 });
  await first.close();
  const second = await openStore({ clock });
  const { signal } = new AbortController();
  const watch = second.watch({ prefix: '' }, { from: await second.revision(), signal });
  const batches = watch[Symbol.asyncIterator]();
  const next = batches.next();
  await clock.advance(61_000);
  let batch = await next;
  while (batch.value?.events.length === 0) batch = await batches.next();
  assert.equal(batch.value?.events[0]?.type, 'delete');
  await second.close();
});

test('a second opener is told who has the store', async () => {
  const store = await openStore();
  await refuses(/is in use by another API server \(process \d+\)/, /--data-dir/);
  await put(store, '/a', '1');
  await store.close();
  await (await openStore()).close();
});

for (const [what, damage] of Object.entries({
  'overwritten in its middle': async (size: number) => {
    const file = await open(databaseFile(), 'r+');
    await file.write(Buffer.alloc(20_000, 0xa5), 0, 20_000, Math.floor(size / 2));
    await file.close();
  },
  'overwritten at its head': async () => {
    const file = await open(databaseFile(), 'r+');
    await file.write('this is no database');
    await file.close();
  },
  'cut off': async (size: number) => {
    const file = await open(databaseFile(), 'r+');
    await file.truncate(Math.floor(size / 2));
    await file.close();
  },
})) {
  test(`a file ${what} is reported with the way out`, async () => {
    await fill(50);
    await damage(statSync(databaseFile()).size);
    await refuses(/state\.db is damaged/, /backup/, /\.recover/, /move it away/);
    // Nothing was made worse: the same answer again.
    await refuses(/state\.db is damaged/);
  });
}

test('a foreign file and a newer format are not touched', async () => {
  mkdirSync(join(dataDir, 'store'));
  const foreign = new DatabaseSync(databaseFile());
  foreign.exec('CREATE TABLE t (a)');
  foreign.close();
  await refuses(/is an SQLite file, but not a Gantry store/);
  rmSync(databaseFile());
  await fill(1);
  const newer = new DatabaseSync(databaseFile());
  newer.exec('PRAGMA user_version = 7');
  newer.close();
  await refuses(/has format 7, this Gantry knows 1/);
});

test('a directory that cannot be made is named', async () => {
  writeFileSync(join(dataDir, 'store'), '');
  await refuses(/store/);
});

/** Writes until there is no room; everything acknowledged must be there. */
async function writeUntilFull(store: Store, value: string): Promise<void> {
  const acknowledged = new Set<string>();
  const failures: unknown[] = [];
  for (let n = 0; failures.length === 0; n += 8) {
    const keys = Array.from({ length: 8 }, (_, i) => `/k/${(n + i) % 64}`);
    await Promise.all(
      keys.map(async (key) => {
        await put(store, key, value).then(
          () => acknowledged.add(key),
          (error: unknown) => failures.push(error),
        );
      }),
    );
  }
  for (const error of failures) {
    assert.ok(error instanceof StoreUnavailableError);
    assert.match(error.message, /no room left for store file .*state\.db/);
  }
  const { entries } = await store.list({ prefix: '/k/' });
  assert.deepEqual(new Set(entries.map((entry) => entry.key)), acknowledged);
  assert.ok(entries.every((entry) => entry.value.length === value.length));
}

test('a store at its bound refuses writes, and takes them again after compaction', async () => {
  const store = await openStore({ maxBytes: 2 << 20 });
  await writeUntilFull(store, 'x'.repeat(9_000));
  const revision = await store.revision();
  await store.compact(revision);
  // The sweep runs behind the answer, in the worker, before it takes the next commit or after.
  for (let tries = 0; ; tries++) {
    const result = await store
      .commit({ key: '/k/1', expect: 'any', value: new Uint8Array(9_000) })
      .catch((error: unknown) => error);
    if (!(result instanceof Error)) break;
    assert.ok(tries < 1_000, 'the sweep has freed nothing');
  }
  assert.equal(await store.revision(), revision + 1);
  await store.close();
});

test('a full disk refuses writes, and space that returns is used', async (t) => {
  const disk = join(dataDir, 'disk');
  mkdirSync(disk);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'gantry-test', disk], { stdio: 'pipe' });
  } catch {
    t.skip('a file system of its own cannot be mounted (needs root)');
    return;
  }
  try {
    const ballast = join(disk, 'ballast');
    writeFileSync(ballast, Buffer.alloc(1 << 20));
    const store = await openEmbeddedStore(disk, { clock: systemClock, log: silentLog });
    await writeUntilFull(store, 'x'.repeat(9_000));
    const revision = await store.revision();
    rmSync(ballast);
    assert.equal(await put(store, '/after', 'y'), revision + 1);
    await store.close();
    const again = await openEmbeddedStore(disk, { clock: systemClock, log: silentLog });
    assert.equal(await again.revision(), revision + 1);
    assert.notEqual((await again.get('/after')).entry, null);
    await again.close();
  } finally {
    execFileSync('umount', [disk]);
  }
});
