import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';

/** SPDY's bytes inside a WebSocket; the name has a slash, which is no token for a header. */
const TUNNEL = 'SPDY/3.1+portforward.k8s.io';
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Whether a client offers to speak SPDY inside a WebSocket. Source: KEP-4006. */
export const offersTunnel = (message: IncomingMessage): boolean =>
  (message.headers['sec-websocket-protocol'] ?? '').split(/ *, */).includes(TUNNEL);

/** Accepts such a WebSocket; `opened` gets what is spoken inside as a plain stream of bytes. */
export function openTunnel(
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  opened: (inner: Duplex) => void,
): void {
  message.headers['sec-websocket-protocol'] = 'tunnel';
  const tunnels = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: () => 'tunnel',
  });
  tunnels.once('headers', (lines: string[]) => {
    for (const [index, line] of lines.entries())
      lines[index] = line.replace(/^(Sec-WebSocket-Protocol: )tunnel$/i, `$1${TUNNEL}`);
  });
  tunnels.handleUpgrade(message, socket, head, (websocket: WebSocket) =>
    opened(createWebSocketStream(websocket)),
  );
}
