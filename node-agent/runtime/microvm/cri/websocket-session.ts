import type { WebSocket } from 'ws';
import { createInbox } from '#base/inbox.ts';
import {
  parseSize,
  type RemoteSession,
  type TerminalSize,
  type WantedStreams,
} from './remote-session.ts';

/** Best first. `v5` adds the closing of a channel; the oldest two tell no exit code. */
export const PROTOCOLS = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  'channel.k8s.io',
  'base64.channel.k8s.io',
] as const;

/** Input that is kept for the process; a client sends faster than a guest takes. */
const STDIN_BUFFER_BYTES = 1024 * 1024;
const MAX_SIZES = 100;

const STDIN = 0;
const CHANNELS = { stdout: 1, stderr: 2, error: 3 } as const;
const RESIZE = 4;
const CLOSE = 255;

/**
 * The session of an exec or attach over a WebSocket: the first byte of a message (a digit in the
 * base64 protocols) names its channel. Source: Kubernetes remotecommand over WebSocket.
 */
export function websocketSession(socket: WebSocket, wanted: WantedStreams): RemoteSession {
  const base64 = socket.protocol.includes('base64');
  const stdin = createInbox<Uint8Array>(STDIN_BUFFER_BYTES);
  const resize = createInbox<TerminalSize>(MAX_SIZES);
  const gone = new AbortController();
  if (!wanted.stdin) stdin.end();
  socket.on('message', (data: Buffer) => {
    const channel = base64 ? Number(String.fromCharCode(data[0] ?? 0)) : data[0];
    const bytes = base64 ? Buffer.from(data.subarray(1).toString(), 'base64') : data.subarray(1);
    if (channel === STDIN && bytes.length > 0) {
      socket.pause();
      void stdin.push(bytes, bytes.length).then(() => socket.resume());
    } else if (channel === RESIZE) {
      const size = parseSize(bytes.toString());
      if (size) resize.offer(size, 1);
    } else if (channel === CLOSE && bytes[0] === STDIN) {
      stdin.end();
    }
  });
  const over = (): void => {
    stdin.end();
    resize.end();
    gone.abort(new Error('the client has gone'));
  };
  socket.on('close', over);
  socket.on('error', over);
  const send = (channel: number, bytes: Uint8Array): Promise<void> =>
    new Promise((resolve) => {
      if (gone.signal.aborted) return resolve();
      const message = base64
        ? `${channel}${Buffer.from(bytes).toString('base64')}`
        : Buffer.concat([Uint8Array.of(channel), bytes]);
      // A client that has gone is told by 'close'.
      socket.send(message, { binary: !base64 }, () => resolve());
    });
  return {
    stdin,
    resize,
    write: (stream, bytes) => send(CHANNELS[stream], bytes),
    async finish(status) {
      await send(CHANNELS.error, Buffer.from(JSON.stringify(status)));
      socket.close(1000);
    },
    gone: gone.signal,
  };
}
