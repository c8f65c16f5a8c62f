import {
  type Transport,
  TransportError,
  type TransportRequest,
  type TransportResponse,
} from '#client/transport.ts';

/** The API server's door as this side sees it; the shapes agree by structure, not by import. */
export type Door = (request: {
  method: string;
  url: string;
  headers: Readonly<Record<string, string | undefined>>;
  body: Uint8Array | null;
  signal: AbortSignal;
  user?: DoorUser;
}) => Promise<{
  status: number;
  headers: Record<string, string>;
  body: Uint8Array | string | AsyncIterable<Uint8Array>;
}>;

export type DoorUser = {
  name: string;
  uid?: string;
  groups: readonly string[];
  extra?: Readonly<Record<string, readonly string[]>>;
};

/** Hands requests straight to a server in this process, as `user` (or as the headers say). */
export function inProcessTransport(door: Door, user?: DoorUser): Transport {
  const closed = new AbortController();
  return {
    async request(request: TransportRequest): Promise<TransportResponse> {
      const gone = new AbortController();
      const signals = [gone.signal, closed.signal];
      if (request.signal) signals.push(request.signal);
      const signal = AbortSignal.any(signals);
      signal.throwIfAborted();
      const response = await door({
        method: request.method,
        url: request.path,
        headers: request.headers ?? {},
        body: typeof request.body === 'string' ? Buffer.from(request.body) : (request.body ?? null),
        signal,
        ...(user ? { user } : {}),
      });
      return {
        status: response.status,
        headers: response.headers,
        body: bodyOf(response.body, signal, gone),
      };
    },
    close() {
      closed.abort(new TransportError('transport closed'));
      return Promise.resolve();
    },
  };
}

/** Ends the server's side when the caller stops reading, as a closed socket would. */
async function* bodyOf(
  body: Uint8Array | string | AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  gone: AbortController,
): AsyncGenerator<Uint8Array> {
  try {
    if (typeof body === 'string') yield Buffer.from(body);
    else if (body instanceof Uint8Array) yield body;
    else yield* body;
    signal.throwIfAborted();
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new TransportError('the response broke off', { cause: error });
  } finally {
    gone.abort(new TransportError('the client has gone'));
  }
}
