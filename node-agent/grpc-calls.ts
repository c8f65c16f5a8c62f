import * as grpc from '@grpc/grpc-js';
import { type ProtoFile, serviceDefinition } from '#proto/load.ts';

/** One call of a service; a method that is not answered in `deadlineMs` fails. */
export type GrpcCall = <Response>(
  method: string,
  request: object,
  options: {
    deadlineMs: number;
    signal?: AbortSignal;
    metadata?: Readonly<Record<string, string>>;
  },
) => Promise<Response>;

/**
 * A client of a unix socket: `unix:///path`, or a bare path. Connecting is lazy and is tried again
 * within a second, so that a server may come, go and come back.
 */
export function grpcClient(
  endpoint: string,
  { maxMessageBytes }: { maxMessageBytes?: number } = {},
): grpc.Client {
  const address = endpoint.includes('://') ? endpoint : `unix://${endpoint}`;
  const credentials = grpc.credentials.createInsecure();
  const channel = new grpc.Channel(address, credentials, {
    ...(maxMessageBytes === undefined
      ? {}
      : {
          'grpc.max_receive_message_length': maxMessageBytes,
          'grpc.max_send_message_length': maxMessageBytes,
        }),
    'grpc.enable_retries': 0,
    'grpc.max_reconnect_backoff_ms': 1_000,
    'grpc.initial_reconnect_backoff_ms': 50,
  });
  return new grpc.Client(address, credentials, { channelOverride: channel });
}

/** The unary methods of a service of a .proto file. Fails with grpc-js' errors, or the abort's reason. */
export function grpcCalls(client: grpc.Client, file: ProtoFile, service: string): GrpcCall {
  const methods = serviceDefinition(file, service);
  return <Response>(
    name: string,
    request: object,
    { deadlineMs, signal, metadata = {} }: Parameters<GrpcCall>[2],
  ) =>
    new Promise<Response>((resolve, reject) => {
      const method = methods[name];
      if (!method) throw new Error(`${service} has no method ${name}`);
      if (signal?.aborted) return reject(signal.reason);
      const headers = new grpc.Metadata();
      for (const [key, value] of Object.entries(metadata)) headers.set(key, value);
      const call = client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        headers,
        { deadline: Date.now() + deadlineMs },
        (error, response) => {
          signal?.removeEventListener('abort', onAbort);
          if (error) reject(signal?.aborted ? signal.reason : error);
          else resolve(response as Response);
        },
      );
      const onAbort = () => call.cancel();
      signal?.addEventListener('abort', onAbort, { once: true });
    });
}

/** Whether the other side, or the way to it, failed: `code` and `details` say how. */
export const isServiceError = (error: unknown): error is grpc.ServiceError =>
  error instanceof Error && 'code' in error && 'details' in error;
