import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { seededRandom } from '#base/random.ts';
import { expiredError, failure } from '#api/status.ts';
import type { ConfigMap } from '#api/types.ts';
import type { Api, WatchEvent, WatchOptions } from '#client/api.ts';
import { configMaps } from '#client/resources.ts';
import {
  initialWatcherState,
  step,
  type WatcherInput,
  type WatcherItem,
  type WatcherState,
  watchResource,
} from '#client/watcher.ts';

const object = (name: string, resourceVersion: string): ConfigMap => ({
  metadata: { name, namespace: 'd', resourceVersion },
});
const added = (name: string, version: string): WatchEvent<ConfigMap> => ({
  type: 'ADDED',
  object: object(name, version),
});
const bookmark = (resourceVersion: string, end = false): WatchEvent<ConfigMap> => ({
  type: 'BOOKMARK',
  resourceVersion,
  initialEventsEnd: end,
});
const watching: WatcherState = { phase: 'watching', resourceVersion: '5', failures: 0 };
const gone = expiredError('too old');
const refused = new Error('refused');
const internal = failure(500, 'InternalError', 'a feature of the store is disabled');
const cannot = failure(422, 'Invalid', 'sendInitialEvents: Forbidden');

const cases: {
  name: string;
  from: WatcherState;
  input: WatcherInput<ConfigMap>;
  to: WatcherState;
  items: string[];
}[] = [
  {
    name: 'initial events up to the bookmark',
    from: initialWatcherState,
    input: { type: 'events', events: [added('a', '1'), bookmark('4', true), added('b', '6')] },
    to: { phase: 'watching', resourceVersion: '6', failures: 0 },
    items: ['applied', 'synced', 'applied'],
  },
  {
    name: 'a bookmark moves the version on',
    from: { ...watching, failures: 3 },
    input: { type: 'events', events: [bookmark('9')] },
    to: { phase: 'watching', resourceVersion: '9', failures: 0 },
    items: ['progress'],
  },
  {
    name: 'a lost connection resumes at the same version',
    from: watching,
    input: { type: 'failed', error: refused },
    to: { ...watching, failures: 1 },
    items: ['failed'],
  },
  {
    name: 'a version too old lists again',
    from: watching,
    input: { type: 'failed', error: gone },
    to: { phase: 'listing', failures: 1 },
    items: ['failed', 'restarted'],
  },
  {
    name: 'a server that fails to send initial events is asked for pages',
    from: { phase: 'listing', failures: 0 },
    input: { type: 'failed', error: internal },
    to: { phase: 'paging', continue: '', failures: 1 },
    items: ['failed', 'restarted'],
  },
  {
    name: 'a failed list starts over',
    from: { phase: 'listing', failures: 2 },
    input: { type: 'failed', error: refused },
    to: { phase: 'listing', failures: 3 },
    items: ['failed', 'restarted'],
  },
  {
    name: 'a server that cannot send initial events is paged',
    from: initialWatcherState,
    input: { type: 'failed', error: cannot },
    to: { phase: 'paging', continue: '', failures: 0 },
    items: ['restarted'],
  },
  {
    name: 'a page with more to come',
    from: { phase: 'paging', continue: '', failures: 0 },
    input: { type: 'page', objects: [object('a', '1')], resourceVersion: '7', continue: 'next' },
    to: { phase: 'paging', continue: 'next', failures: 0 },
    items: ['applied'],
  },
  {
    name: 'the last page',
    from: { phase: 'paging', continue: 'next', failures: 0 },
    input: { type: 'page', objects: [], resourceVersion: '7', continue: '' },
    to: { phase: 'watching', resourceVersion: '7', failures: 0 },
    items: ['synced'],
  },
  {
    name: 'an orderly end resumes at once',
    from: { ...watching, failures: 2 },
    input: { type: 'ended', afterMs: 300_000 },
    to: watching,
    items: [],
  },
  {
    name: 'an early end counts as a failure',
    from: watching,
    input: { type: 'ended', afterMs: 10 },
    to: { ...watching, failures: 1 },
    items: [],
  },
];

for (const { name, from, input, to, items } of cases) {
  test(`step: ${name}`, () => {
    const next = step(from, input);
    assert.deepEqual(next.state, to);
    assert.deepEqual(
      next.items.map((item) => item.type),
      items,
    );
  });
}

test('watchResource resumes where it was, backs off, and lists again after 410', async () => {
  const clock = manualClock();
  const stop = new AbortController();
  const asked: WatchOptions[] = [];
  const answers: (() => AsyncGenerator<WatchEvent<ConfigMap>[]>)[] = [
    async function* () {
      yield [added('a', '3'), bookmark('4', true)];
      yield [added('b', '8')];
      throw refused;
    },
    async function* () {
      yield* [];
      throw gone;
    },
    async function* () {
      yield [added('b', '8'), bookmark('9', true)];
    },
  ];
  const api = {
    watch(_: unknown, options: WatchOptions) {
      asked.push(options);
      const answer = answers.shift();
      if (!answer) stop.abort(new Error('enough'));
      return (answer ?? async function* () {})();
    },
  } as unknown as Api;
  const items: WatcherItem<ConfigMap>[] = [];
  const run = (async () => {
    const options = { signal: stop.signal, clock, random: seededRandom(1) };
    for await (const batch of watchResource(api, configMaps, options)) items.push(...batch);
  })();
  run.catch(() => {});
  for (let turn = 0; turn < 10; turn++) await clock.advance(1000);
  await assert.rejects(run, /enough/);
  assert.deepEqual(
    asked.map((o) => [o.sendInitialEvents ?? false, o.resourceVersion ?? '']).slice(0, 4),
    [
      [true, ''],
      [false, '8'],
      [true, ''],
      [false, '9'],
    ],
  );
  assert.deepEqual(
    items.map((item) => item.type),
    [
      'restarted',
      'applied',
      'synced',
      'applied',
      'failed',
      'failed',
      'restarted',
      'applied',
      'synced',
    ],
  );
});
