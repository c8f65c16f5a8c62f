import type { IncomingMessage, ServerResponse as Http1Response } from 'node:http';
import type {
  IncomingHttpHeaders,
  Http2Session,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2';
import { constants, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { createServer as createTlsServer } from 'node:tls';
import { http } from '#base/http.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import type { Peer } from '#apiserver/authn/client-certificate.ts';
import type { Handler, ServerRequest, ServerResponse } from '#apiserver/request.ts';
import { Chunks } from '#apiserver/chunks.ts';
import { BodyTooLarge, readBody } from '#apiserver/server-body.ts';
import { compress } from '#apiserver/server-compress.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** A client has this long to finish the TLS handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** ... to send a request's head, and its whole body. */
const HEADERS_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** How often the two are looked after. */
const TIMEOUT_CHECK_MS = 5_000;
/** Idle connections are closed after this long; longer than the usual client pools keep them. */
const KEEP_ALIVE_TIMEOUT_MS = 120_000;
/**
 * A client that takes nothing of what is written to it for this long is cut off: what waits for it
 * is held in memory. A watch's own bound is on what it holds, this one on how long.
 */
const STALL_TIMEOUT_MS = 60_000;
/** Larger bodies are written in pieces, each of which must be taken in that time. */
const PIECE_BYTES = 256 * 1024;
const KEEP_ALIVE_PROBE_MS = 30_000;
/** At shutdown, how often connections are looked for that have nothing under way. */
const IDLE_CHECK_MS = 50;
/** Open connections: some for each of a large cluster's clients. */
const MAX_CONNECTIONS = 10_000;
/** At shutdown, requests under way have this long. */
const DRAIN_MS = 5_000;

type PeerOf = (socket: object) => Peer & { address: string };

export type Upgrade = (
  request: ServerRequest,
  connection: { request: IncomingMessage; socket: Duplex; head: Buffer },
) => Promise<void>;

export type ServerConfig = {
  bindAddress: string;
  /** 0 = any free port. */
  port: number;
  tls: SecureContextOptions;
  handle: Handler;
  /** Requests with an Upgrade header (HTTP/1.1 only). */
  upgrade: Upgrade;
  /** Who a connection's client certificate stands for; asked once per connection. */
  peerOf(socket: TLSSocket): Peer;
  /** Default: STALL_TIMEOUT_MS. */
  stallTimeoutMs?: number;
  log: Log;
};

/** What the two protocols need to answer. */
type Door = {
  handle: Handler;
  peerOf: PeerOf;
  stallTimeoutMs: number;
  /** Connections end with the answer under way. */
  isClosing: boolean;
  /** HTTP/1.1 connections, and how many requests each has under way. */
  open: Map<object, number>;
};

export type HttpsServer = {
  port: number;
  /** New connections get these certificates. */
  setCertificates(tls: SecureContextOptions): void;
  /** Stops accepting, lets requests under way finish within the bound, then closes all. */
  close(): Promise<void>;
};

/**
 * HTTP/1.1 and HTTP/2 over TLS on one port, chosen by ALPN. Both become the same ServerRequest;
 * the two protocols have servers of their own behind one TLS listener, so that neither pays for
 * the other. Rejects when the port is taken.
 */
export async function listen(config: ServerConfig): Promise<HttpsServer> {
  const { log } = config;
  const peers = new WeakMap<object, ReturnType<PeerOf>>();
  const peerOf: PeerOf = (socket) => {
    let peer = peers.get(socket);
    if (!peer) {
      const { remoteAddress: address = '' } = socket as TLSSocket;
      peers.set(socket, (peer = { ...config.peerOf(socket as TLSSocket), address }));
    }
    return peer;
  };
  const door: Door = {
    handle: config.handle,
    peerOf,
    stallTimeoutMs: config.stallTimeoutMs ?? STALL_TIMEOUT_MS,
    isClosing: false,
    open: new Map(),
  };
  const http1 = http.createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      noDelay: true,
    },
    (request, response) => void answerHttp1(door, request, response),
  );
  // A server that does not listen itself tracks no connections, and then neither enforces the
  // timeouts above nor finds the idle ones to close.
  http1.emit('listening');
  http1.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const own = new Http1Request(request, null, peerOf(socket));
    door.open.delete(socket);
    socket.on('error', () => socket.destroy());
    config.upgrade(own, { request, socket, head }).catch((error: unknown) => {
      log.warn('upgraded connection failed', { error: errorText(error) });
      socket.destroy();
    });
  });
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams: 250 } });
  const sessions = new Set<ServerHttp2Session>();
  http2.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.setTimeout(KEEP_ALIVE_TIMEOUT_MS, () => {
      if (streamsOf(session) === 0) session.close();
    });
  });
  http2.on('stream', (stream, headers) => {
    void answerHttp2(door, stream as ServerHttp2Stream, headers);
  });
  http2.on('sessionError', (error) => log.debug('HTTP/2 session failed', { error: error.message }));

  const sockets = new Set<Socket>();
  const server = createTlsServer({
    ...config.tls,
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2', 'http/1.1'],
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    noDelay: true,
    // Finds clients that went without a word: a quiet watch would not notice.
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
  });
  server.maxConnections = MAX_CONNECTIONS;
  // Also those that never come as far as a handshake.
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('secureConnection', (socket) => {
    if (socket.alpnProtocol === 'h2') http2.emit('connection', socket);
    else {
      door.open.set(socket, 0);
      socket.on('close', () => door.open.delete(socket));
      http1.emit('connection', socket);
    }
  });
  server.on('tlsClientError', (error) =>
    log.debug('TLS handshake failed', { error: error.message }),
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.port, config.bindAddress, () => {
      server.removeListener('error', reject);
      server.on('error', (error) => log.error('listener failed', { error: error.message }));
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    setCertificates: (tls) => server.setSecureContext(tls),
    close: async () => {
      door.isClosing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      const giveUp = setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, DRAIN_MS);
      // Not at once, and never what is not flushed: requests that are on their way now are still
      // answered, and their clients told to go.
      const idle = setInterval(() => {
        for (const [socket, requests] of door.open) if (requests === 0) (socket as Socket).end();
      }, IDLE_CHECK_MS);
      await closed;
      clearTimeout(giveUp);
      clearInterval(idle);
      // The inner servers only have timers of their own to stop.
      http1.close();
      http2.close();
    },
  };
}

const openStreams = new WeakMap<Http2Session, number>();
const streamsOf = (session: Http2Session): number => openStreams.get(session) ?? 0;

/** A request whose abort signal is made only for those who ask for it. */
class LazyRequest {
  #controller: AbortController | undefined;
  #gone = false;

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#gone) this.#controller.abort(new Error('the client has gone'));
    }
    return this.#controller.signal;
  }

  /** The client has gone. */
  abandon(): void {
    this.#gone = true;
    this.#controller?.abort(new Error('the client has gone'));
  }
}

type Headers = Readonly<Record<string, string | undefined>>;

class Http1Request extends LazyRequest implements ServerRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly body: Uint8Array | null;
  readonly user?: UserInfo;
  readonly frontProxy?: string;
  readonly remoteAddress: string;

  constructor(request: IncomingMessage, body: Uint8Array | null, peer: ReturnType<PeerOf>) {
    super();
    this.method = request.method ?? 'GET';
    this.url = request.url ?? '/';
    // Only set-cookie can be a list, and requests have none.
    this.headers = request.headers as Headers;
    this.body = body;
    if (peer.user) this.user = peer.user;
    if (peer.frontProxy !== undefined) this.frontProxy = peer.frontProxy;
    this.remoteAddress = peer.address;
  }
}

const hasBody = (method: string | undefined): boolean => method !== 'GET' && method !== 'HEAD';

async function answerHttp1(
  door: Door,
  request: IncomingMessage,
  response: Http1Response,
): Promise<void> {
  let own: Http1Request | undefined;
  const { socket } = request;
  door.open.set(socket, (door.open.get(socket) ?? 0) + 1);
  response.on('close', () => {
    const requests = door.open.get(socket);
    if (requests !== undefined) door.open.set(socket, requests - 1);
    if (!response.writableFinished) own?.abandon();
  });
  response.on('error', () => own?.abandon());
  try {
    const body = hasBody(request.method) ? await readBody(request) : null;
    own = new Http1Request(request, body, door.peerOf(request.socket));
    const answer = await compress(await door.handle(own), own.headers['accept-encoding']);
    if (door.isClosing) answer.headers['connection'] = 'close';
    await sendHttp1(door, request, response, answer);
  } catch (error) {
    if (error instanceof BodyTooLarge && !response.headersSent) {
      response.writeHead(413, { 'content-type': 'application/json', connection: 'close' });
      response.end(error.body);
      return;
    }
    response.destroy();
  }
}

async function sendHttp1(
  door: Door,
  request: IncomingMessage,
  response: Http1Response,
  { status, headers, body }: ServerResponse,
): Promise<void> {
  const isHead = request.method === 'HEAD';
  if (typeof body === 'string' || body instanceof Uint8Array) {
    headers['content-length'] = String(Buffer.byteLength(body));
    response.writeHead(status, headers);
    if (isHead) response.end();
    else if (body.length <= PIECE_BYTES) response.end(body);
    else {
      await pump(piecesOf(body), response, door.stallTimeoutMs);
      response.end();
    }
    return;
  }
  if (body instanceof Chunks) {
    headers['content-length'] = String(body.sizeBytes);
    response.writeHead(status, headers);
    if (!isHead) await pump(body.parts, response, door.stallTimeoutMs);
    response.end();
    return;
  }
  response.writeHead(status, headers);
  response.flushHeaders();
  await pump(body, response, door.stallTimeoutMs);
  response.end();
}

function* piecesOf(body: Uint8Array | string): Generator<Uint8Array, void, void> {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    yield bytes.subarray(at, at + PIECE_BYTES);
  }
}

type Out = NodeJS.WritableStream & { destroyed?: boolean; destroy(): unknown };

/** Writes chunks as they come, no faster than the client takes them, and gives up on one that stalls. */
async function pump(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  out: Out,
  stallTimeoutMs: number,
): Promise<void> {
  for await (const chunk of chunks) {
    if (out.destroyed) return;
    if (out.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      const stalled = setTimeout(() => out.destroy(), stallTimeoutMs);
      const done = (): void => {
        clearTimeout(stalled);
        out.removeListener('drain', done);
        out.removeListener('close', done);
        resolve();
      };
      out.on('drain', done);
      out.on('close', done);
    });
  }
}

class Http2Request extends LazyRequest implements ServerRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly body: Uint8Array | null;
  readonly user?: UserInfo;
  readonly frontProxy?: string;
  readonly remoteAddress: string;

  constructor(headers: IncomingHttpHeaders, body: Uint8Array | null, peer: ReturnType<PeerOf>) {
    super();
    this.method = headers[':method'] ?? 'GET';
    this.url = headers[':path'] ?? '/';
    this.headers = headers as Headers;
    this.body = body;
    if (peer.user) this.user = peer.user;
    if (peer.frontProxy !== undefined) this.frontProxy = peer.frontProxy;
    this.remoteAddress = peer.address;
  }
}

async function answerHttp2(
  door: Door,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
): Promise<void> {
  const { session } = stream;
  if (!session) return;
  openStreams.set(session, streamsOf(session) + 1);
  let own: Http2Request | undefined;
  let finished = false;
  stream.on('close', () => {
    openStreams.set(session, streamsOf(session) - 1);
    if (!finished) own?.abandon();
  });
  stream.on('error', () => own?.abandon());
  try {
    const body = hasBody(headers[':method']) ? await readStream(stream) : null;
    own = new Http2Request(headers, body, door.peerOf(session.socket));
    const answer = await compress(await door.handle(own), own.headers['accept-encoding']);
    if (stream.destroyed) return;
    stream.respond({ [constants.HTTP2_HEADER_STATUS]: answer.status, ...answer.headers });
    if (headers[':method'] === 'HEAD') stream.end();
    else await sendHttp2(door, stream, answer.body);
    finished = true;
  } catch (error) {
    if (stream.destroyed) return;
    if (error instanceof BodyTooLarge && !stream.headersSent) {
      stream.respond({ ':status': 413, 'content-type': 'application/json' });
      stream.end(error.body);
      return;
    }
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}

/** A request's body, within the time that HTTP/1 requests have too. */
async function readStream(stream: ServerHttp2Stream): Promise<Uint8Array> {
  const late = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), REQUEST_TIMEOUT_MS);
  try {
    return await readBody(stream);
  } finally {
    clearTimeout(late);
  }
}

async function sendHttp2(
  { stallTimeoutMs }: Door,
  stream: ServerHttp2Stream,
  body: ServerResponse['body'],
): Promise<void> {
  const isWhole = typeof body === 'string' || body instanceof Uint8Array;
  if (isWhole && body.length <= PIECE_BYTES) {
    stream.end(body);
    return;
  }
  const parts = isWhole ? piecesOf(body) : body instanceof Chunks ? body.parts : body;
  await pump(parts, stream, stallTimeoutMs);
  stream.end();
}
