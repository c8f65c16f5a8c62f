import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { http } from '#base/http.ts';
import { errorText } from '#base/log.ts';
import type { Runtime } from './pod.ts';
import { PORT_FORWARD_PROTOCOL, runPortForward } from './port-forward.ts';
import { type AttachRequest, type ExecRequest, runAttach, runExec } from './remote-command.ts';
import type { RemoteSession } from './remote-session.ts';
import { spdySession } from './spdy-session.ts';
import { PROTOCOLS, websocketSession } from './websocket-session.ts';
import { offersTunnel, openTunnel } from './websocket-tunnel.ts';

export type StreamRequest =
  | ExecRequest
  | AttachRequest
  | { kind: 'portforward'; id: string; ports: readonly number[] };

export type StreamingServer = {
  /** A URL that works once, within a minute. */
  url(request: StreamRequest): string;
  close(): Promise<void>;
};

/** A client comes at once; what nobody fetches is forgotten. */
const TOKEN_MS = 60_000;
const MAX_TOKENS = 1_000;
/** Of SPDY, best first; those before v4 tell no exit code in a way that clients still read. */
const SPDY_PROTOCOLS = [
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
];
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Serves exec, attach and port-forward on loopback, over SPDY/3.1 and WebSocket. */
export async function startStreamingServer(runtime: Runtime): Promise<StreamingServer> {
  const tokens = new Map<string, { request: StreamRequest; untilMs: number }>();
  const sockets = new Set<Duplex>();
  const websockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: (offered) => PROTOCOLS.find((one) => offered.has(one)) ?? false,
  });

  function take(path: string | undefined): StreamRequest | undefined {
    const [, kind, token = ''] = (path ?? '').split('?')[0]?.split('/') ?? [];
    const found = tokens.get(token);
    tokens.delete(token);
    if (!found || found.request.kind !== kind || found.untilMs < runtime.clock.now())
      return undefined;
    return found.request;
  }

  const server = http.createServer((_request, response) => {
    response.writeHead(400).end('this is a stream: ask for an upgrade to SPDY/3.1 or websocket\n');
  });
  server.on('upgrade', (message: IncomingMessage, socket: Duplex, head: Buffer) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    if (socket instanceof net.Socket) socket.setNoDelay(true);
    const request = take(message.url);
    if (!request) return refuse(socket, 404, 'no such stream: its address works once');
    const upgrade = (message.headers.upgrade ?? '').toLowerCase();
    if (upgrade === 'websocket') return openWebSocket(request, message, socket, head);
    if (upgrade === 'spdy/3.1') return openSpdy(request, message, socket, head);
    refuse(socket, 400, `the protocol "${upgrade}" is not spoken here`);
  });

  function openSpdy(
    request: StreamRequest,
    message: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    const offered = listOf(message.headers['x-stream-protocol-version']);
    const spoken = request.kind === 'portforward' ? [PORT_FORWARD_PROTOCOL] : SPDY_PROTOCOLS;
    const chosen = spoken.find((one) => offered.includes(one)) ?? (offered.length ? '' : spoken[0]);
    if (!chosen)
      return refuse(socket, 403, `none of the protocols ${offered.join(', ')} is spoken`);
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
        `X-Stream-Protocol-Version: ${chosen}\r\n\r\n`,
    );
    if (head.length > 0) socket.unshift(head);
    if (request.kind === 'portforward') run(runPortForward(runtime, request.id, socket), socket);
    else
      run(
        spdySession(socket, request).then((session) => command(request, session)),
        socket,
      );
  }

  function openWebSocket(
    request: StreamRequest,
    message: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    if (request.kind === 'portforward') {
      if (!offersTunnel(message))
        return refuse(socket, 403, 'port-forward speaks SPDY/3.1, plain or inside a WebSocket');
      const { id } = request;
      return openTunnel(message, socket, head, (inner) =>
        run(runPortForward(runtime, id, inner), socket),
      );
    }
    websockets.handleUpgrade(message, socket, head, (websocket) =>
      run(command(request, websocketSession(websocket, request)), socket),
    );
  }

  const command = (request: ExecRequest | AttachRequest, session: RemoteSession): Promise<void> =>
    request.kind === 'exec'
      ? runExec(runtime, request, session)
      : runAttach(runtime, request, session);

  function run(work: Promise<void>, socket: Duplex): void {
    work.catch((error: unknown) => {
      runtime.log.debug('a stream broke off', { error: errorText(error) });
      socket.destroy();
    });
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url(request) {
      const now = runtime.clock.now();
      for (const [token, { untilMs }] of tokens)
        if (untilMs < now || tokens.size >= MAX_TOKENS) tokens.delete(token);
      const token = randomBytes(18).toString('base64url');
      tokens.set(token, { request, untilMs: now + TOKEN_MS });
      return `http://127.0.0.1:${port}/${request.kind}/${token}`;
    },
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

const listOf = (header: string | string[] | undefined): string[] =>
  [header ?? []]
    .flat()
    .flatMap((text) => text.split(','))
    .map((text) => text.trim())
    .filter(Boolean);

function refuse(socket: Duplex, status: number, text: string): void {
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: text/plain\r\nConnection: close\r\n` +
      `Content-Length: ${Buffer.byteLength(text) + 1}\r\n\r\n${text}\n`,
  );
}
