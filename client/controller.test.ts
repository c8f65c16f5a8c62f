import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { failure, isStatusError } from '#api/status.ts';
import type { ConfigMap } from '#api/types.ts';
import { type Action, describeAction, execute } from '#client/actions.ts';
import { type Controller, cacheOf, onSelf, runController } from '#client/controller.ts';
import { createEventRecorder, listRecorder } from '#client/events.ts';
import { createInformers } from '#client/informer-factory.ts';
import { configMaps, events, leases } from '#client/resources.ts';
import { runAsLeader } from '#client/leader.ts';
import { simulateApi } from '#client/simulated-api.ts';

const map = (name: string, data: Record<string, string> = {}): ConfigMap => ({
  metadata: { namespace: 'd', name },
  data,
});
const makes = (count: number): Action[] =>
  Array.from({ length: count }, (_, i) => ({
    type: 'create',
    resource: configMaps,
    object: map(`m${i}`),
    announce: {
      about: map('owner'),
      success: { type: 'Normal', reason: 'Made', message: 'Made {name}' },
      failure: { type: 'Warning', reason: 'Failed', message: 'Error: {error}' },
    },
  }));

test('a controller copies until there is nothing left to do, without acting on old news', async () => {
  const clock = manualClock();
  const api = simulateApi({ clock });
  const stop = new AbortController();
  const { signal } = stop;
  const informers = createInformers(api, { signal, clock, freeze: true });
  const maps = informers.of(configMaps);
  let plans = 0;
  const counter: Controller<ConfigMap> = {
    name: 'counter',
    caches: [cacheOf(configMaps, maps)],
    triggers: (add) => onSelf(maps, add),
    observe: (key) => maps.get(key),
    plan(object) {
      plans += 1;
      const count = Number(object.data?.count ?? '0');
      if (count >= 5) return { actions: [] };
      const next = { ...object, data: { count: String(count + 1) } };
      return { actions: [{ type: 'update', resource: configMaps, object: next }] };
    },
  };
  const run = runController(counter, {
    api,
    recorder: listRecorder(),
    log: silentLog,
    signal,
    clock,
  });
  await api.create(configMaps, map('a', { count: '0' }));
  for (let turn = 0; turn < 20; turn++) await clock.advance(10);
  assert.equal(api.all(configMaps)[0]?.data?.count, '5');
  // Six plans for five writes: no plan was made on a cache that lagged (it would have conflicted).
  assert.equal(plans, 6);
  stop.abort(new Error('stop'));
  await run;
  await informers.done();
});

test('one failing key backs off alone', async () => {
  const clock = manualClock();
  const api = simulateApi({ clock });
  const stop = new AbortController();
  const { signal } = stop;
  const informers = createInformers(api, { signal, clock });
  const maps = informers.of(configMaps);
  const tries: string[] = [];
  const run = runController<ConfigMap>(
    {
      name: 'thrower',
      caches: [cacheOf(configMaps, maps)],
      triggers: (add) => onSelf(maps, add),
      observe: (key) => maps.get(key),
      plan(object) {
        tries.push(object.metadata.name ?? '');
        if (object.metadata.name === 'bad') throw new Error('cannot');
        return { actions: [] };
      },
    },
    { api, recorder: listRecorder(), log: silentLog, signal, clock },
  );
  await api.create(configMaps, map('bad'));
  await api.create(configMaps, map('good'));
  for (let turn = 0; turn < 100; turn++) await clock.advance(10);
  assert.equal(tries.filter((name) => name === 'good').length, 1);
  const bad = tries.filter((name) => name === 'bad').length;
  assert.ok(bad >= 4 && bad <= 7, `${bad} tries in a second`);
  stop.abort(new Error('stop'));
  await run;
});

test('slow start stops after the batch that failed', async () => {
  const api = simulateApi();
  const recorder = listRecorder();
  api.onWrite((_, __, object) => {
    if (object.metadata.name === 'm2') throw failure(403, 'Forbidden', 'exceeded quota');
  });
  const outcome = await execute([{ type: 'slowStart', actions: makes(10) }], { api, recorder });
  assert.deepEqual(
    api.all(configMaps).map((m) => m.metadata.name),
    ['m0', 'm1'],
  );
  assert.equal(outcome.failures.length, 1);
  assert.equal(outcome.skipped, 7);
  assert.deepEqual(recorder.said.toSorted(), [
    'Normal Made Made m0',
    'Normal Made Made m1',
    'Warning Failed Error: exceeded quota',
  ]);
});

test('a namespace that is going away is told nobody, and not tried again', async () => {
  const api = simulateApi();
  const recorder = listRecorder();
  let tried = 0;
  api.onWrite(() => {
    tried += 1;
    const cause = { reason: 'NamespaceTerminating', message: 'namespace d is being terminated' };
    throw failure(403, 'Forbidden', 'being terminated', { causes: [cause] });
  });
  const outcome = await execute([{ type: 'slowStart', actions: makes(10) }], { api, recorder });
  assert.equal(tried, 1);
  assert.equal(outcome.failures.length, 1);
  assert.deepEqual(recorder.said, []);
});

test('the first failure ends the row; harmless ones do not count', async () => {
  const api = simulateApi();
  const recorder = listRecorder();
  const [first] = makes(1);
  assert.ok(first);
  const gone: Action = { type: 'delete', resource: configMaps, key: { namespace: 'd', name: 'x' } };
  const outcome = await execute([first, gone, first, ...makes(3)], { api, recorder });
  assert.equal(outcome.failures.length, 1);
  assert.ok(isStatusError(outcome.failures[0]?.error, 'AlreadyExists'));
  assert.equal(outcome.skipped, 3);
  assert.equal(describeAction(gone), 'delete configmaps d/x');
});

test('events repeat as a count, and floods are combined, then silenced', async () => {
  const clock = manualClock(1_000_000);
  const api = simulateApi({ clock });
  const recorder = createEventRecorder(api, { component: 'test', host: 'h', clock });
  const about = await api.create(configMaps, map('a'));
  for (let i = 0; i < 3; i++) {
    recorder.record(about, { type: 'Normal', reason: 'Same', message: 'again' });
  }
  await recorder.flush();
  assert.deepEqual(
    api.all(events).map((e) => [e.reason, e.message, e.count]),
    [['Same', 'again', 3]],
  );
  for (let i = 0; i < 40; i++) {
    recorder.record(about, { type: 'Warning', reason: 'Flood', message: `wave ${i}` });
  }
  await recorder.flush();
  const flood = api.all(events).filter((e) => e.reason === 'Flood');
  assert.equal(flood.length, 11);
  assert.equal(flood.at(-1)?.message, '(combined from similar events): wave 21');
  assert.equal(flood.at(-1)?.count, 12);
  assert.equal(flood[0]?.involvedObject.uid, about.metadata.uid);
});

test('one leads; another takes over when the lease is given up, or expires', async () => {
  const clock = manualClock(1_000_000);
  const api = simulateApi({ clock });
  const log: string[] = [];
  const contend = (identity: string, stop: AbortController) =>
    runAsLeader(
      api,
      { name: 'l', namespace: 'd', identity, signal: stop.signal, log: silentLog, clock },
      async (signal) => {
        log.push(`${identity} leads`);
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      },
    ).catch((error: unknown) => log.push(`${identity}: ${(error as Error).message}`));
  const [a, b] = [new AbortController(), new AbortController()];
  const first = contend('a', a);
  await clock.advance(100);
  const second = contend('b', b);
  for (let i = 0; i < 60; i++) await clock.advance(1000);
  assert.deepEqual(log, ['a leads']);
  a.abort(new Error('stop a'));
  await first;
  for (let i = 0; i < 6; i++) await clock.advance(1000);
  assert.deepEqual(log, ['a leads', 'b leads']);
  api.onWrite((_, resource) => {
    if (resource.resource === leases.resource) throw failure(503, 'ServiceUnavailable', 'away');
  });
  for (let i = 0; i < 14; i++) await clock.advance(1000);
  await second;
  assert.deepEqual(log.at(-1), 'b: lost the lease d/l');
  assert.equal(api.all(leases)[0]?.spec?.leaseTransitions, 1);
});
