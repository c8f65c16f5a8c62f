import { backoffMs } from '#base/backoff.ts';
import { type Clock, systemClock } from '#base/clock.ts';
import { type Random, systemRandom } from '#base/random.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { Api, ListOptions, Resource, WatchEvent } from '#client/api.ts';

/**
 * List-then-watch as a state machine (after kube-rs's idea): the stream never ends by itself, and
 * failures are items of it. `listing` asks the server to send the list as watch events, `paging`
 * is the fallback for servers that cannot, `watching` resumes after a known version.
 */
export type WatcherState =
  | { phase: 'listing'; failures: number }
  | { phase: 'paging'; continue: string; failures: number }
  | { phase: 'watching'; resourceVersion: string; failures: number };

export type WatcherInput<T> =
  | { type: 'events'; events: readonly WatchEvent<T>[] }
  | { type: 'page'; objects: readonly T[]; resourceVersion: string; continue: string }
  /** The server ended the watch in good order after so long. */
  | { type: 'ended'; afterMs: number }
  | { type: 'failed'; error: unknown };

export type WatcherItem<T> =
  /** A complete list begins: objects until `synced` are all there is. */
  | { type: 'restarted' }
  | { type: 'applied'; object: T }
  | { type: 'deleted'; object: T }
  | { type: 'synced'; resourceVersion: string }
  /** Nothing changed up to here. */
  | { type: 'progress'; resourceVersion: string }
  | { type: 'failed'; error: unknown; failures: number };

export const initialWatcherState: WatcherState = { phase: 'listing', failures: 0 };

/** A watch that ends sooner than this counts as a failure, or a broken proxy makes us spin. */
const SHORT_WATCH_MS = 1000;
const PAGE_SIZE = 500;
/** Servers end watches after 5 to 10 minutes, spread so that not all resume at once. */
const MIN_WATCH_SECONDS = 300;
const BACKOFF = { initialMs: 200, maxMs: 10_000, factor: 2, jitter: 0.5 };

type Step<T> = { state: WatcherState; items: WatcherItem<T>[] };

/** What an input means in a state. Pure. */
export function step<T extends KubeObject>(state: WatcherState, input: WatcherInput<T>): Step<T> {
  switch (input.type) {
    case 'events':
      return stepEvents(state, input.events);
    case 'page':
      return stepPage(state, input);
    case 'ended':
      return stepEnded(state, input.afterMs);
    case 'failed':
      return stepFailed(state, input.error);
  }
}

function stepEvents<T extends KubeObject>(
  state: WatcherState,
  events: readonly WatchEvent<T>[],
): Step<T> {
  const items: WatcherItem<T>[] = [];
  let current = state;
  for (const event of events) {
    if (event.type !== 'BOOKMARK') {
      items.push({ type: event.type === 'DELETED' ? 'deleted' : 'applied', object: event.object });
      if (current.phase === 'watching') {
        const resourceVersion = event.object.metadata.resourceVersion ?? current.resourceVersion;
        current = { phase: 'watching', resourceVersion, failures: 0 };
      }
      continue;
    }
    const { resourceVersion } = event;
    if (current.phase === 'watching') {
      items.push({ type: 'progress', resourceVersion });
      current = { phase: 'watching', resourceVersion, failures: 0 };
    } else if (event.initialEventsEnd) {
      items.push({ type: 'synced', resourceVersion });
      current = { phase: 'watching', resourceVersion, failures: 0 };
    }
  }
  return { state: current, items };
}

function stepPage<T extends KubeObject>(
  state: WatcherState,
  page: Extract<WatcherInput<T>, { type: 'page' }>,
): Step<T> {
  const items: WatcherItem<T>[] = page.objects.map((object) => ({ type: 'applied', object }));
  if (page.continue) {
    return { state: { phase: 'paging', continue: page.continue, failures: state.failures }, items };
  }
  const { resourceVersion } = page;
  items.push({ type: 'synced', resourceVersion });
  return { state: { phase: 'watching', resourceVersion, failures: 0 }, items };
}

function stepEnded<T>(state: WatcherState, afterMs: number): Step<T> {
  if (state.phase === 'watching' && afterMs >= SHORT_WATCH_MS) {
    return { state: { ...state, failures: 0 }, items: [] };
  }
  const failures = state.failures + 1;
  if (state.phase === 'watching') return { state: { ...state, failures }, items: [] };
  return restart({ phase: 'listing', failures }, new Error('the watch ended during its list'));
}

function stepFailed<T>(state: WatcherState, error: unknown): Step<T> {
  const failures = state.failures + 1;
  if (state.phase === 'listing' && cannotSendInitialEvents(error)) {
    return restart({ phase: 'paging', continue: '', failures: state.failures }, undefined);
  }
  // A server whose store lacks what this takes says so as an internal error (kube-apiserver on an
  // etcd before 3.5): the older way may work where this one does not.
  if (state.phase === 'listing' && isInternal(error)) {
    return restart({ phase: 'paging', continue: '', failures }, error);
  }
  if (state.phase === 'watching' && !isGone(error)) {
    return { state: { ...state, failures }, items: [{ type: 'failed', error, failures }] };
  }
  if (state.phase === 'paging') {
    return restart({ phase: 'paging', continue: '', failures }, error);
  }
  return restart({ phase: 'listing', failures }, error);
}

function restart<T>(state: WatcherState, error: unknown): Step<T> {
  const items: WatcherItem<T>[] = [];
  if (error) items.push({ type: 'failed', error, failures: state.failures });
  items.push({ type: 'restarted' });
  return { state, items };
}

const isGone = (error: unknown): boolean => isStatusError(error) && error.code === 410;

const isInternal = (error: unknown): boolean => isStatusError(error) && error.code === 500;

const cannotSendInitialEvents = (error: unknown): boolean =>
  isStatusError(error) &&
  (error.code === 400 || error.code === 422) &&
  error.message.includes('sendInitialEvents');

export type WatcherOptions = Pick<
  ListOptions,
  'namespace' | 'labelSelector' | 'fieldSelector' | 'metadataOnly'
> & { signal: AbortSignal; clock?: Clock; random?: Random };

/** Follows a resource for ever (until aborted, which throws `signal.reason`), batch by batch. */
export async function* watchResource<T extends KubeObject>(
  api: Api,
  resource: Resource<T>,
  options: WatcherOptions,
): AsyncGenerator<WatcherItem<T>[]> {
  const { signal, clock = systemClock, random = systemRandom, ...selection } = options;
  let state = initialWatcherState;
  yield [{ type: 'restarted' }];
  for (;;) {
    signal.throwIfAborted();
    if (state.failures > 0) {
      await clock.sleep(backoffMs(state.failures, { ...BACKOFF, random }), { signal });
    }
    for await (const input of inputs(api, resource, state, { signal, clock, random, selection })) {
      signal.throwIfAborted();
      const next: Step<T> = step(state, input);
      state = next.state;
      if (next.items.length) yield next.items;
    }
  }
}

type InputOptions = {
  signal: AbortSignal;
  clock: Clock;
  random: Random;
  selection: Omit<WatcherOptions, 'signal' | 'clock' | 'random'>;
};

/** Does the one request that a state calls for and reports what came of it. */
async function* inputs<T extends KubeObject>(
  api: Api,
  resource: Resource<T>,
  state: WatcherState,
  { signal, clock, random, selection }: InputOptions,
): AsyncGenerator<WatcherInput<T>> {
  const startedMs = clock.now();
  try {
    if (state.phase === 'paging') {
      yield await readPage(api, resource, state.continue, { ...selection, signal });
      return;
    }
    const timeoutSeconds = Math.floor(MIN_WATCH_SECONDS * (1 + random()));
    const from =
      state.phase === 'watching'
        ? { resourceVersion: state.resourceVersion }
        : { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan' as const };
    const stream = api.watch(resource, {
      ...selection,
      ...from,
      allowBookmarks: true,
      timeoutSeconds,
      signal,
    });
    for await (const events of stream) yield { type: 'events', events };
    yield { type: 'ended', afterMs: clock.now() - startedMs };
  } catch (error) {
    signal.throwIfAborted();
    yield { type: 'failed', error };
  }
}

async function readPage<T extends KubeObject>(
  api: Api,
  resource: Resource<T>,
  after: string,
  options: ListOptions,
): Promise<WatcherInput<T>> {
  const list = await api.list(resource, {
    ...options,
    limit: PAGE_SIZE,
    ...(after ? { continue: after } : { resourceVersion: '0' }),
  });
  return {
    type: 'page',
    objects: list.items,
    resourceVersion: list.metadata.resourceVersion ?? '',
    continue: list.metadata.continue ?? '',
  };
}
