/**
 * How a client reaches an API server. Two implementations: HTTPS (https-transport.ts) and
 * in-process (in-process-transport.ts), which hands the same request to the server's own door.
 */
export type TransportRequest = {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with query: `/api/v1/pods?watch=1`. */
  path: string;
  headers?: Readonly<Record<string, string>>;
  body?: string | Uint8Array;
  /** Longest silence of the connection, milliseconds. Default: none (watches). */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
};

export type TransportResponse = {
  status: number;
  /** Lower-case names. */
  headers: Readonly<Record<string, string>>;
  /** Chunks as they arrive; ends when the response does. */
  body: AsyncIterable<Uint8Array>;
};

export type Transport = {
  /** Throws TransportError when no answer could be had; an HTTP error status is an answer. */
  request(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
};

/** No answer: refused, reset, timed out. The write may or may not have happened. */
export class TransportError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'TransportError';
  }
}
