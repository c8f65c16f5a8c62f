import { readFileSync, statSync } from 'node:fs';
import type { Agent, AgentOptions, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import https from 'node:https';
import { createSecureContext } from 'node:tls';
import { http } from '#base/http.ts';
import {
  type Transport,
  TransportError,
  type TransportRequest,
  type TransportResponse,
} from '#client/transport.ts';

/** Everything needed to reach and convince one API server. PEM texts, not paths. */
export type Connection = {
  /** `https://host:port`, optionally with a path prefix. */
  server: string;
  ca?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
  /** Where `cert` and `key` came from: read again when they change, as rotated certificates do. */
  certFile?: string | undefined;
  keyFile?: string | undefined;
  token?: string | undefined;
  /** Read again once a minute: service account tokens rotate in place. */
  tokenFile?: string | undefined;
  username?: string | undefined;
  password?: string | undefined;
  insecureSkipTlsVerify?: boolean | undefined;
  tlsServerName?: string | undefined;
  /** Default namespace of the kubeconfig's context. */
  namespace?: string | undefined;
};

/** Idle connections kept for reuse. */
const MAX_FREE_SOCKETS = 16;
/** Calls in flight; more wait their turn. Watches and other streams do not count. */
const MAX_CALLS = 48;
/** TCP keep-alive probes, so that a watch on a vanished server ends. */
const TCP_KEEP_ALIVE_MS = 15_000;
const TOKEN_FRESH_MS = 60_000;
/** Certificate files are looked at this often, when there is something to send. */
const CERTIFICATE_FRESH_MS = 1_000;

/** HTTP/1.1 with kept connections over node:https. A broken idle connection is retried once. */
export function httpsTransport(connection: Connection): Transport {
  const server = new URL(connection.server);
  const prefix = server.pathname.replace(/\/$/, '');
  const secure = server.protocol === 'https:';
  let agents = openAgents(secure, connection);
  const renewed = certificateFiles(connection);
  const authorization = authorizationOf(connection);
  const open = secure ? https.request : http.request;

  const send = (request: TransportRequest, mayRetry: boolean): Promise<TransportResponse> =>
    new Promise((resolve, reject) => {
      if (request.signal?.aborted) {
        reject(request.signal.reason);
        return;
      }
      const pair = renewed();
      if (pair) {
        // What is under way keeps its connection; only new ones show the new certificate.
        retire(agents);
        agents = openAgents(secure, { ...connection, ...pair });
      }
      const outgoing = open({
        agent: request.timeoutMs ? agents.calls : agents.streams,
        host: server.hostname.replace(/^\[|\]$/g, ''),
        port: server.port || (secure ? 443 : 80),
        method: request.method,
        path: prefix + request.path,
        headers: headersOf(request, authorization()),
      });
      const { signal, timeoutMs } = request;
      const onAbort = (): void => void outgoing.destroy();
      signal?.addEventListener('abort', onAbort, { once: true });
      outgoing.once('close', () => signal?.removeEventListener('abort', onAbort));
      if (timeoutMs) {
        outgoing.setTimeout(timeoutMs, () => {
          outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`));
        });
      }
      outgoing.once('response', (incoming) => {
        if (!timeoutMs) incoming.socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS);
        resolve({
          status: incoming.statusCode ?? 0,
          headers: flatHeaders(incoming.headers),
          body: bodyOf(incoming, request),
        });
      });
      outgoing.once('error', (cause: NodeJS.ErrnoException) => {
        if (signal?.aborted) reject(signal.reason);
        else if (mayRetry && outgoing.reusedSocket && cause.code === 'ECONNRESET') {
          send(request, false).then(resolve, reject);
        } else reject(failed(request, cause));
      });
      outgoing.end(request.body);
    });

  return {
    // Only reads are repeated: after a reset nobody knows whether a write has happened.
    request: (request) => send(request, request.method === 'GET'),
    close() {
      agents.calls.destroy();
      agents.streams.destroy();
      return Promise.resolve();
    },
  };
}

type Agents = { calls: Agent; streams: Agent };

function openAgents(secure: boolean, connection: Connection): Agents {
  const tls = tlsOptions(connection);
  const agentOf = (options: AgentOptions): Agent =>
    secure ? new https.Agent({ ...options, ...tls }) : new http.Agent(options);
  return {
    calls: agentOf({
      keepAlive: true,
      keepAliveMsecs: TCP_KEEP_ALIVE_MS,
      maxFreeSockets: MAX_FREE_SOCKETS,
      maxSockets: MAX_CALLS,
      scheduling: 'lifo',
    }),
    // Requests without a time limit are streams that hold their connection for minutes.
    streams: agentOf({ keepAlive: false }),
  };
}

/** Lets connections in use end by themselves, and closes those that idle. */
function retire({ calls }: Agents): void {
  calls.maxFreeSockets = 0;
  for (const sockets of Object.values(calls.freeSockets)) {
    for (const socket of sockets ?? []) socket.destroy();
  }
}

/** Tells of a new certificate, once, when the files have changed and hold a whole pair. */
export function certificateFiles({
  certFile,
  keyFile,
}: Connection): () => { cert: string; key: string } | undefined {
  if (!certFile || !keyFile) return () => undefined;
  const stamp = (): string => {
    const { mtimeMs, ino, size } = statSync(certFile);
    return `${mtimeMs} ${ino} ${size}`;
  };
  let seen = stamp();
  let lookedAtMs = performance.now();
  return () => {
    if (performance.now() - lookedAtMs < CERTIFICATE_FRESH_MS) return undefined;
    lookedAtMs = performance.now();
    try {
      const now = stamp();
      if (now === seen) return undefined;
      const pair = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
      createSecureContext(pair);
      seen = now;
      return pair;
    } catch {
      return undefined; // half written: the one in use still holds, and we look again
    }
  };
}

function headersOf(request: TransportRequest, credential: string): Record<string, string> {
  const headers: Record<string, string> = { ...request.headers };
  if (credential) headers.authorization = credential;
  if (request.body !== undefined) {
    headers['content-length'] = String(Buffer.byteLength(request.body));
  }
  return headers;
}

function failed(request: TransportRequest, cause: Error): TransportError {
  return new TransportError(`${request.method} ${request.path}: ${cause.message}`, { cause });
}

async function* bodyOf(
  incoming: IncomingMessage,
  request: TransportRequest,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of incoming as AsyncIterable<Uint8Array>) yield chunk;
  } catch (cause) {
    if (request.signal?.aborted) throw request.signal.reason;
    throw failed(request, cause as Error);
  }
}

function flatHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return flat;
}

/** TLS options of a connection, also for WebSocket and SPDY upgrades. */
export function tlsOptions(connection: Connection): https.AgentOptions {
  const { ca, cert, key, insecureSkipTlsVerify, tlsServerName } = connection;
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(insecureSkipTlsVerify ? { rejectUnauthorized: false } : {}),
    ...(tlsServerName === undefined ? {} : { servername: tlsServerName }),
  };
}

/** Gives the Authorization header of the moment, or '' when certificates do the work. */
export function authorizationOf(connection: Connection): () => string {
  const { token, tokenFile, username, password } = connection;
  if (token) return () => `Bearer ${token}`;
  if (tokenFile) {
    let read = { text: '', atMs: Number.NEGATIVE_INFINITY };
    return () => {
      const now = performance.now();
      if (now - read.atMs > TOKEN_FRESH_MS) {
        read = { text: readFileSync(tokenFile, 'utf8').trim(), atMs: now };
      }
      return `Bearer ${read.text}`;
    };
  }
  if (username !== undefined) {
    const pair = Buffer.from(`${username}:${password ?? ''}`).toString('base64');
    return () => `Basic ${pair}`;
  }
  return () => '';
}
