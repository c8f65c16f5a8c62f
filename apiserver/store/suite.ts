import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { readSuite } from '#apiserver/store/suite-read.ts';
import { propertySuite } from '#apiserver/store/suite-property.ts';
import { watchSuite } from '#apiserver/store/suite-watch.ts';
import { writeSuite } from '#apiserver/store/suite-write.ts';
import { StoreUnavailableError, type Store } from '#apiserver/store/store.ts';

/** A store under test. Tests share it, each with a key prefix and revisions of its own. */
export type Subject = {
  store: Store;
  /** Lets this much time pass for the store: a manual clock's, or real. */
  passTime(ms: number): Promise<void>;
  /** Closes the store and removes what it left. */
  stop(): Promise<void>;
};

/** What tests get: the subject and an own part of its keys. */
export type SuiteContext = {
  store: () => Store;
  passTime: (ms: number) => Promise<void>;
  /** A prefix that no other test has, ending in a slash. */
  prefix: () => string;
};

/** Generated lives that a store is put through; a slow one gets fewer. */
const DEFAULT_LIVES = 10;

/** The one suite that every Store passes: what store.ts promises, test by test. */
export function storeSuite(
  name: string,
  start: () => Promise<Subject>,
  { lives = DEFAULT_LIVES }: { lives?: number } = {},
): void {
  describe(name, () => {
    let subject: Subject;
    let prefixes = 0;
    before(async () => {
      subject = await start();
    });
    after(() => subject.stop());
    const context: SuiteContext = {
      store: () => subject.store,
      passTime: (ms) => subject.passTime(ms),
      prefix: () => `/suite/${++prefixes}/`,
    };
    writeSuite(context);
    readSuite(context);
    watchSuite(context);
    propertySuite(context, lives);
    closeSuite(context);
  });
}

/** Last, since it ends the store. */
function closeSuite({ store, prefix }: SuiteContext): void {
  test('close ends watches and refuses calls with StoreUnavailableError', async () => {
    const range = { prefix: prefix() };
    const revision = await store().revision();
    const { signal } = new AbortController();
    const batches = store().watch(range, { from: revision, signal })[Symbol.asyncIterator]();
    const ended = assert.rejects(batches.next(), StoreUnavailableError);
    await store().close();
    await ended;
    await assert.rejects(store().revision(), StoreUnavailableError);
    await assert.rejects(store().get(`${range.prefix}a`), StoreUnavailableError);
    await assert.rejects(store().list(range), StoreUnavailableError);
    await assert.rejects(
      store().commit({ key: `${range.prefix}a`, expect: 'any', value: null }),
      StoreUnavailableError,
    );
    await store().close();
  });
}
