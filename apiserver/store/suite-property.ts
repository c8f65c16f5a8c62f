import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collect, describeEvent } from '#apiserver/store/suite-material.ts';
import { createModel, type Model } from '#apiserver/store/suite-model.ts';
import type { SuiteContext } from '#apiserver/store/suite.ts';
import {
  CompactedError,
  type ListOptions,
  type Store,
  type Write,
} from '#apiserver/store/store.ts';
import { type Random, randomInt, seededRandom } from '#base/random.ts';

const STEPS = 250;
const KEYS = ['a', 'a/1', 'a/2', 'b', 'b/1', 'c\u{1f600}', 'c\uffff'];
const PREFIXES = ['', 'a', 'a/', 'b', 'c', 'nothing'];

/** The store beside a model that is too simple to be wrong, in generated lives. */
export function propertySuite({ store, prefix }: SuiteContext, lives: number): void {
  for (let seed = 1; seed <= lives; seed++) {
    test(`a generated life agrees with the model (seed ${seed})`, async () => {
      const own = prefix();
      const model = createModel(await store().revision());
      const start = model.revision();
      const random = seededRandom(seed);
      const watches = PREFIXES.map((each) => collect(store(), own + each, start));
      for (let step = 0; step < STEPS; step++) await live(store(), model, own, random);
      for (const [n, watch] of watches.entries()) {
        const expected = model.events(own + PREFIXES[n], start).map(describeEvent);
        assert.deepEqual((await watch.take(expected.length)).map(describeEvent), expected);
        await watch.stop();
      }
    });
  }
}

/** One random step on both, compared. */
async function live(store: Store, model: Model, own: string, random: Random): Promise<void> {
  const dice = randomInt(random, 100);
  if (dice < 55) await commitStep(store, model, own, random);
  else if (dice < 65) await groupStep(store, model, own, random);
  else if (dice < 75) await getStep(store, model, own, random);
  else if (dice < 97) await listStep(store, model, own, random);
  else await compactStep(store, model, random);
}

function pick<T>(random: Random, from: readonly T[]): T {
  const picked = from[randomInt(random, from.length)];
  assert.ok(picked !== undefined);
  return picked;
}

function randomWrite(model: Model, own: string, random: Random): Write {
  const key = own + pick(random, KEYS);
  const current = model.get(key)?.modRevision;
  const expect = pick(random, [
    'any' as const,
    'absent' as const,
    current ?? ('absent' as const),
    current ?? ('any' as const),
    Math.max(2, model.revision() - 1),
  ]);
  const size = randomInt(random, 4) === 0 ? 3000 : 5;
  const value = random() < 0.25 ? null : new Uint8Array(size).fill(97 + randomInt(random, 26));
  return { key, expect, value };
}

async function commitStep(store: Store, model: Model, own: string, random: Random): Promise<void> {
  const write = randomWrite(model, own, random);
  assert.deepEqual(plain(await store.commit(write)), plain(model.commit(write)));
}

/** Several at once on one key, whose order is promised. */
async function groupStep(store: Store, model: Model, own: string, random: Random): Promise<void> {
  const key = own + pick(random, KEYS);
  const writes = Array.from({ length: 2 + randomInt(random, 6) }, () => ({
    ...randomWrite(model, own, random),
    key,
  }));
  const results = await Promise.all(writes.map((write) => store.commit(write)));
  assert.deepEqual(plain(results), plain(writes.map((write) => model.commit(write))));
}

async function getStep(store: Store, model: Model, own: string, random: Random): Promise<void> {
  const key = own + pick(random, KEYS);
  const expected = { entry: model.get(key), revision: model.revision() };
  assert.deepEqual(plain(await store.get(key)), plain(expected));
}

async function listStep(store: Store, model: Model, own: string, random: Random): Promise<void> {
  const range = { prefix: own + pick(random, PREFIXES) };
  const options: ListOptions = {};
  if (random() < 0.5) options.at = model.start + randomInt(random, model.age() + 1);
  if (random() < 0.3) options.after = own + pick(random, KEYS);
  if (random() < 0.6) options.limit = randomInt(random, 4);
  if (options.at !== undefined && options.at < model.compacted()) {
    await assert.rejects(store.list(range, options), CompactedError);
    return;
  }
  assert.deepEqual(plain(await store.list(range, options)), plain(model.list(range, options)));
}

async function compactStep(store: Store, model: Model, random: Random): Promise<void> {
  const before = model.start + randomInt(random, model.age() + 1);
  await store.compact(before);
  model.compact(before);
}

/** Values as text, whatever kind of byte array the store gives. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}
