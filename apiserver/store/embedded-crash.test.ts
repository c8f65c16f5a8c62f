import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import { collect, revisionOf, text } from '#apiserver/store/suite-material.ts';
import type { Entry, Revision, WatchEvent } from '#apiserver/store/store.ts';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { randomInt, seededRandom } from '#base/random.ts';

const ROUNDS = 20;
/** Each round ends after up to so many acknowledgements. */
const MAX_ACKNOWLEDGED = 1_500;

test('kill -9 under load loses nothing acknowledged and leaves no gap', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-crash-'));
  const random = seededRandom(20);
  let verified: Revision = 1;
  let total = 0;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const acknowledged = await writeUntilKilled(
        dataDir,
        round,
        randomInt(random, MAX_ACKNOWLEDGED),
      );
      const events = await eventsAfter(dataDir, verified);
      events.forEach((event, n) => assert.equal(revisionOf(event), verified + 1 + n));
      const commits = new Set(events.map(describeCommit));
      const lost = acknowledged.filter((line) => !commits.has(line));
      assert.deepEqual(lost, [], `round ${round} lost ${lost.length} of ${acknowledged.length}`);
      verified += events.length;
      total += acknowledged.length;
    }
    assert.ok(total > ROUNDS);
  } finally {
    await rm(dataDir, { recursive: true });
  }
});

/** Runs the writer, kills it after `count` acknowledgements, and returns all it has reported. */
async function writeUntilKilled(dataDir: string, seed: number, count: number): Promise<string[]> {
  const program = join(import.meta.dirname, 'embedded-crash-writer.ts');
  const child = spawn(process.execPath, ['--no-warnings', program, dataDir, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    if (lines.push(line) === count + 1) child.kill('SIGKILL');
  }
  const [code, signal] = await exited;
  assert.deepEqual([code, signal], [null, 'SIGKILL']);
  return lines;
}

async function eventsAfter(dataDir: string, from: Revision): Promise<WatchEvent[]> {
  const store = await openEmbeddedStore(dataDir, { clock: systemClock, log: silentLog });
  const revision = await store.revision();
  const watch = collect(store, '', from);
  await watch.reach(revision);
  await watch.stop();
  // What is read must be what the sequence of commits leads to.
  const last = new Map<string, Entry | null>();
  for (const event of watch.events) {
    if (event.type === 'put') last.set(event.entry.key, event.entry);
    else last.set(event.key, null);
  }
  for (const [key, entry] of last) assert.deepEqual((await store.get(key)).entry, entry);
  await store.close();
  return watch.events;
}

function describeCommit(event: WatchEvent): string {
  return event.type === 'put'
    ? `${event.entry.key} ${event.entry.modRevision} ${text(event.entry.value)}`
    : `${event.key} ${event.revision} `;
}
