import type { IncomingMessage } from 'node:http';
import type * as net from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { WebSocketServer } from 'ws';
import type {
  RemoteSession,
  WantedStreams,
} from '#node-agent/runtime/microvm/cri/remote-session.ts';
import { connectSpdy, type SpdyStream } from '#node-agent/runtime/microvm/cri/spdy.ts';
import { websocketSession } from '#node-agent/runtime/microvm/cri/websocket-session.ts';
import { offersTunnel, openTunnel } from '#node-agent/runtime/microvm/cri/websocket-tunnel.ts';

/**
 * What newer clients speak and older runtimes do not: v5.channel.k8s.io, whose channels can be closed
 * one by one, and port-forward's SPDY inside a WebSocket. Both become SPDY/3.1, which every runtime
 * speaks. Source: KEP-4006, transition from SPDY to WebSockets.
 */
const CLOSABLE = 'v5.channel.k8s.io';
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** The runtime has the stream ready before it gives its address away. */
const ANSWER_MS = 30_000;
const MAX_HEAD_BYTES = 16 * 1024;

export type Translation = 'command' | 'tunnel';

/** How a client's upgrade has to be translated; undefined when the runtime may have it as it is. */
export function translationOf(request: IncomingMessage): Translation | undefined {
  if ((request.headers.upgrade ?? '').toLowerCase() !== 'websocket') return undefined;
  if (offersTunnel(request)) return 'tunnel';
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(/ *, */);
  return offered.includes(CLOSABLE) ? 'command' : undefined;
}

/** Serves a tunnel: the bytes inside are the runtime's own protocol. */
export async function serveTunnel(
  upgrade: { request: IncomingMessage; socket: Duplex; head: Buffer },
  backend: net.Socket,
  target: URL,
): Promise<void> {
  await upgradeToSpdy(backend, target, 'portforward.k8s.io');
  openTunnel(upgrade.request, upgrade.socket, upgrade.head, (inner) => {
    const end = (): void => {
      inner.destroy();
      backend.destroy();
    };
    pipeline(inner, backend, end);
    pipeline(backend, inner, end);
  });
}

/** Serves an exec or attach of v5 over the runtime's SPDY. */
export async function serveCommand(
  upgrade: { request: IncomingMessage; socket: Duplex; head: Buffer },
  backend: net.Socket,
  { target, wanted }: { target: URL; wanted: WantedStreams },
): Promise<void> {
  await upgradeToSpdy(backend, target, 'v4.channel.k8s.io');
  const spdy = connectSpdy(backend);
  const open = (streamtype: string): Promise<SpdyStream> => spdy.open({ streamtype });
  const streams = {
    error: await open('error'),
    stdin: wanted.stdin ? await open('stdin') : undefined,
    stdout: wanted.stdout ? await open('stdout') : undefined,
    stderr: wanted.stderr && !wanted.tty ? await open('stderr') : undefined,
    resize: wanted.tty ? await open('resize') : undefined,
  };
  streams.error.end();
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: () => CLOSABLE,
  });
  server.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, (websocket) => {
    const session = websocketSession(websocket, wanted);
    session.gone.addEventListener('abort', () => backend.destroy(), { once: true });
    bridge(session, streams)
      .catch(() => websocket.terminate()) // the runtime broke off: so does the client's connection
      .finally(() => backend.destroy());
  });
}

type Streams = Record<'stdin' | 'stdout' | 'stderr' | 'resize', SpdyStream | undefined> & {
  error: SpdyStream;
};

async function bridge(session: RemoteSession, streams: Streams): Promise<void> {
  const input = async (): Promise<void> => {
    for await (const bytes of session.stdin) await streams.stdin?.write(bytes);
    streams.stdin?.end();
  };
  const sizes = async (): Promise<void> => {
    for await (const { width, height } of session.resize)
      await streams.resize?.write(Buffer.from(JSON.stringify({ Width: width, Height: height })));
  };
  const output = async (name: 'stdout' | 'stderr'): Promise<void> => {
    for await (const bytes of streams[name]?.incoming ?? []) await session.write(name, bytes);
  };
  const verdict = async (): Promise<string> => {
    let text = '';
    for await (const bytes of streams.error.incoming) text += Buffer.from(bytes).toString();
    return text;
  };
  // Both end with the client or the runtime, and say nothing that has to be waited for.
  input().catch(() => undefined);
  sizes().catch(() => undefined);
  const [text] = await Promise.all([verdict(), output('stdout'), output('stderr')]);
  if (!text) throw new Error('the runtime told no outcome');
  await session.finish(JSON.parse(text) as Parameters<RemoteSession['finish']>[0]);
}

/** Turns a fresh connection to the runtime's streaming server into SPDY. */
function upgradeToSpdy(backend: net.Socket, target: URL, protocol: string): Promise<void> {
  backend.write(
    `POST ${target.pathname}${target.search} HTTP/1.1\r\nHost: ${target.host}\r\n` +
      'Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n' +
      `X-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  return new Promise((resolve, reject) => {
    let answer = Buffer.alloc(0);
    const finish = (error?: Error): void => {
      backend.off('data', onData);
      backend.off('error', finish);
      backend.off('close', onClose);
      backend.setTimeout(0);
      backend.pause();
      if (!error) return resolve();
      backend.destroy();
      reject(error);
    };
    const onClose = (): void => finish(new Error('the runtime closed the stream at once'));
    const onData = (chunk: Buffer): void => {
      answer = Buffer.concat([answer, chunk]);
      const end = answer.indexOf('\r\n\r\n');
      if (end < 0 && answer.length < MAX_HEAD_BYTES) return;
      const head = answer.subarray(0, end).toString();
      if (!head.startsWith('HTTP/1.1 101'))
        return finish(new Error(`the runtime refused the stream: ${head.split('\r\n')[0]}`));
      finish();
      const rest = answer.subarray(end + 4);
      if (rest.length > 0) backend.unshift(rest);
    };
    backend.on('data', onData);
    backend.once('error', finish);
    backend.once('close', onClose);
    backend.setTimeout(ANSWER_MS, () => finish(new Error('the runtime did not answer in time')));
  });
}
