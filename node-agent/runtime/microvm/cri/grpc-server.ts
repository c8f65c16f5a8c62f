import { existsSync, rmSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import { errorText, type Log } from '#base/log.ts';
import { serviceDefinition } from '#proto/load.ts';
import { RuntimeError, type RuntimeErrorCode } from '#node-agent/runtime/service.ts';

/** A method by its published name; the request has CRI's words in camelCase. */
export type Methods = Record<
  string,
  (request: never, call: { signal: AbortSignal }) => Promise<object>
>;
export type Streams = Record<
  string,
  (request: never, call: { signal: AbortSignal }) => AsyncIterable<object>
>;

/** Stats and images of a full node fit in this with room to spare. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const STATUS: Record<RuntimeErrorCode, grpc.status> = {
  NotFound: grpc.status.NOT_FOUND,
  DeadlineExceeded: grpc.status.DEADLINE_EXCEEDED,
  Unimplemented: grpc.status.UNIMPLEMENTED,
  Unavailable: grpc.status.UNAVAILABLE,
  AlreadyExists: grpc.status.ALREADY_EXISTS,
  Cancelled: grpc.status.CANCELLED,
  Unknown: grpc.status.UNKNOWN,
};

export type CriServer = { close(): Promise<void> };

/** Serves CRI on a unix socket; methods that are not given answer UNIMPLEMENTED. */
export async function serveCri(options: {
  socket: string;
  runtime: Methods;
  runtimeStreams: Streams;
  images: Methods;
  log: Log;
}): Promise<CriServer> {
  const { socket, log } = options;
  const server = new grpc.Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  });
  const add = (name: string, methods: Methods, streams: Streams): void => {
    const definition = serviceDefinition('cri.proto', name);
    const handlers = Object.entries(definition).map(([method, { responseStream }]) => [
      method,
      responseStream
        ? streaming(method, streams[method], log)
        : unary(method, methods[method], log),
    ]);
    server.addService(
      definition,
      Object.fromEntries(handlers) as grpc.UntypedServiceImplementation,
    );
  };
  add('runtime.v1.RuntimeService', options.runtime, options.runtimeStreams);
  add('runtime.v1.ImageService', options.images, {});
  // A socket file of an earlier life takes the name; who serves has made sure that nobody else does.
  if (existsSync(socket)) rmSync(socket);
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix://${socket}`, grpc.ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  return {
    async close() {
      server.forceShutdown();
      rmSync(socket, { force: true });
      await Promise.resolve();
    },
  };
}

const unimplemented = (method: string): RuntimeError =>
  new RuntimeError('Unimplemented', `${method} is not implemented by the microVM runtime`);

function unary(method: string, work: Methods[string] | undefined, log: Log) {
  return (call: grpc.ServerUnaryCall<object, object>, answer: grpc.sendUnaryData<object>): void => {
    if (!work) return answer(toStatus(unimplemented(method)));
    const stop = new AbortController();
    call.on('cancelled', () => stop.abort(new RuntimeError('Cancelled', 'the caller has gone')));
    const started = performance.now();
    Promise.resolve()
      .then(() => work(call.request as never, { signal: stop.signal }))
      .then(
        (response) => {
          log.debug(method, { ms: Math.round(performance.now() - started) });
          answer(null, response);
        },
        (error: unknown) => {
          log.debug(`${method} failed`, { error: errorText(error) });
          answer(toStatus(error));
        },
      );
  };
}

function streaming(method: string, work: Streams[string] | undefined, log: Log) {
  return (call: grpc.ServerWritableStream<object, object>): void => {
    const stop = new AbortController();
    call.on('cancelled', () => stop.abort(new RuntimeError('Cancelled', 'the caller has gone')));
    const run = async (): Promise<void> => {
      if (!work) throw unimplemented(method);
      for await (const message of work(call.request as never, { signal: stop.signal }))
        if (!call.write(message)) await new Promise<void>((resolve) => call.once('drain', resolve));
      call.end();
    };
    run().catch((error: unknown) => {
      log.debug(`${method} ended`, { error: errorText(error) });
      call.destroy(Object.assign(new Error(errorText(error)), toStatus(error)));
    });
  };
}

function toStatus(error: unknown): Partial<grpc.StatusObject> {
  const code = error instanceof RuntimeError ? STATUS[error.code] : grpc.status.UNKNOWN;
  return { code, details: errorText(error) };
}
