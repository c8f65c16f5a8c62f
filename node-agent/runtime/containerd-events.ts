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
/** The gRPC status. */
const UNIMPLEMENTED = 12;
const RECONNECT = { initialMs: 100, maxMs: 5_000 };

type Envelope = { topic: string; event: { typeUrl: string; value: Uint8Array } | null };
type Options = { signal: AbortSignal; clock: Clock; log: Log };

/**
 * containerd's task events as runtime events, until `signal` aborts. After every (re)connection it
 * says `resync` first, because events of the meantime are lost. A runtime without this API is asked for
 * CRI's own events; one without either leaves the reader with resyncs and its own polling.
 */
export async function* containerdEvents(
  client: grpc.Client,
  { signal, clock, log }: Options,
): AsyncGenerator<RuntimeEvent> {
  let subscription = taskEvents();
  for (let failures = 0; !signal.aborted; ) {
    const queue = openStream(client, subscription, signal);
    yield { type: 'resync', reason: 'subscribed to runtime events' };
    try {
      for await (const event of queue) {
        failures = 0;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      if ((error as grpc.ServiceError | undefined)?.code === UNIMPLEMENTED) {
        subscription = criEvents();
      }
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

type Subscription = {
  method: grpc.MethodDefinition<object, object>;
  request: object;
  translate: (message: object) => RuntimeEvent | undefined;
};

/** containerd's own events: they tell of lack of memory, too. */
function taskEvents(): Subscription {
  const method = serviceDefinition('containerd-events.proto', `${PACKAGE}.Events`)['Subscribe'];
  if (!method) throw new Error('containerd-events.proto lacks Subscribe');
  const task = (message: object): RuntimeEvent | undefined => translate(message as Envelope);
  return { method, request: { filters: FILTERS }, translate: task };
}

const CRI_TYPES: Record<string, 'started' | 'exited' | 'deleted'> = {
  CONTAINER_STARTED_EVENT: 'started',
  CONTAINER_STOPPED_EVENT: 'exited',
  CONTAINER_DELETED_EVENT: 'deleted',
};

/** What CRI itself offers, for runtimes that are not containerd. */
function criEvents(): Subscription {
  const method = serviceDefinition('cri.proto', 'runtime.v1.RuntimeService')['GetContainerEvents'];
  if (!method) throw new Error('cri.proto lacks GetContainerEvents');
  return {
    method,
    request: {},
    translate(message) {
      const { containerId, containerEventType } = message as {
        containerId: string;
        containerEventType: string;
      };
      const type = CRI_TYPES[containerEventType];
      return type && { type, containerId };
    },
  };
}

/** One subscription as an iterable; throws when the stream breaks. */
function openStream(
  client: grpc.Client,
  { method, request, translate: read }: Subscription,
  signal: AbortSignal,
): AsyncIterable<RuntimeEvent> {
  const stream = client.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
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
    const event = read(envelope);
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
