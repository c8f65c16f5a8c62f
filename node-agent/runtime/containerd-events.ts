import type * as grpc from '@grpc/grpc-js';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { decodeMessage, serviceDefinition } from '#proto/load.ts';
import type { RuntimeEvent } from '#node-agent/runtime/service.ts';

const PACKAGE = 'containerd.services.events.v1';
/** CRI's namespace inside containerd; task events are what tells that a container began or ended. */
const FILTERS = ['namespace==k8s.io,topic~="^/tasks/"'];
/** Events not yet taken by the reader; beyond it they are dropped and a resync is asked for. */
const MAX_QUEUED = 1_000;
const RECONNECT = { initialMs: 100, maxMs: 5_000 };

type Envelope = { topic: string; event: { typeUrl: string; value: Uint8Array } | null };
type Options = { signal: AbortSignal; clock: Clock; log: Log };

/**
 * containerd's task events as runtime events, until `signal` aborts. After every (re)connection it
 * says `resync` first, because events of the meantime are lost. A runtime without this API (another
 * CRI implementation) leaves the reader with that one resync and its own polling.
 */
export async function* containerdEvents(
  client: grpc.Client,
  { signal, clock, log }: Options,
): AsyncGenerator<RuntimeEvent> {
  for (let failures = 0; !signal.aborted; ) {
    const queue = openStream(client, signal);
    yield { type: 'resync', reason: 'subscribed to runtime events' };
    try {
      for await (const event of queue) {
        failures = 0;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      failures++;
      log.debug('runtime event stream ended', { error: errorText(error), failures });
    }
    try {
      await clock.sleep(backoffMs(failures || 1, RECONNECT), { signal });
    } catch {
      return; // aborted while waiting: the end the caller asked for
    }
  }
}

/** One subscription as an iterable; throws when the stream breaks. */
function openStream(client: grpc.Client, signal: AbortSignal): AsyncIterable<RuntimeEvent> {
  const method = serviceDefinition('containerd-events.proto', `${PACKAGE}.Events`)['Subscribe'];
  if (!method) throw new Error('containerd-events.proto lacks Subscribe');
  const stream = client.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    { filters: FILTERS },
  );
  const queued: RuntimeEvent[] = [];
  let ended: { error?: unknown } | undefined;
  let wake: () => void = () => {};
  const push = (event: RuntimeEvent): void => {
    if (queued.length >= MAX_QUEUED) {
      queued.length = 0;
      queued.push({ type: 'resync', reason: 'too many events at once' });
    } else {
      queued.push(event);
    }
    wake();
  };
  const end = (error?: unknown): void => {
    ended ??= { error };
    wake();
  };
  const onAbort = (): void => stream.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  stream.on('data', (envelope) => {
    const event = translate(envelope as Envelope);
    if (event) push(event);
  });
  stream.on('error', end);
  stream.on('end', () => end(new Error('runtime closed the event stream')));
  return (async function* () {
    try {
      for (;;) {
        const next = queued.shift();
        if (next) yield next;
        else if (ended) throw ended.error;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      stream.cancel();
    }
  })();
}

function translate({ topic, event }: Envelope): RuntimeEvent | undefined {
  if (!event) return undefined;
  if (topic === '/tasks/exit') {
    const exit = decodeMessage('containerd-events.proto', `${PACKAGE}.TaskExit`, event.value) as {
      containerId: string;
      id: string;
    };
    // An exec inside the container ended: nothing to read again.
    if (exit.id !== '' && exit.id !== exit.containerId) return undefined;
    return { type: 'exited', containerId: exit.containerId };
  }
  const type = TYPES[topic];
  if (!type) return undefined;
  const task = decodeMessage('containerd-events.proto', `${PACKAGE}.TaskEvent`, event.value) as {
    containerId: string;
  };
  return { type, containerId: task.containerId };
}

const TYPES: Record<string, 'started' | 'deleted' | 'oom'> = {
  '/tasks/start': 'started',
  '/tasks/delete': 'deleted',
  '/tasks/oom': 'oom',
};
