import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import type { Store } from '#apiserver/store/store.ts';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { type Random, randomInt, seededRandom } from '#base/random.ts';

/**
 * The child process of embedded-crash.test.ts: writes under load for ever and reports every
 * acknowledged commit as a line `<key> <revision> <value>`, a deletion without value.
 * Arguments: data directory, seed.
 */
const IN_FLIGHT = 32;
const KEYS = 200;

async function writeForEver(store: Store, random: Random): Promise<never> {
  for (;;) {
    const key = `/load/${randomInt(random, KEYS)}`;
    const { entry } = await store.get(key);
    const gone = entry !== null && random() < 0.2;
    const text = gone ? '' : `${randomInt(random, 1e9)}`.repeat(1 + randomInt(random, 99));
    const result = await store.commit(
      gone
        ? { key, expect: entry.modRevision, value: null }
        : { key, expect: 'any', value: new TextEncoder().encode(text) },
    );
    // A pipe takes the line before this returns: what was reported outlives the process.
    if (result.ok) process.stdout.write(`${key} ${result.revision} ${text}\n`);
  }
}

const [dataDir = '', seed = '1'] = process.argv.slice(2);
const random = seededRandom(Number(seed));
const store = await openEmbeddedStore(dataDir, { clock: systemClock, log: silentLog });
// Sweeping goes on among the writes, so that some rounds are cut off in it.
await store.compact(await store.revision());
await Promise.all(Array.from({ length: IN_FLIGHT }, () => writeForEver(store, random)));
