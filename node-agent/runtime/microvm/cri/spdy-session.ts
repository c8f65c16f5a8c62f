import type { Duplex } from 'node:stream';
import { createInbox } from '#base/inbox.ts';
import {
  parseSize,
  type RemoteSession,
  type TerminalSize,
  type WantedStreams,
} from './remote-session.ts';
import { serveSpdy, type SpdyStream } from './spdy.ts';

/** A client opens its streams at once after the upgrade. */
const OPEN_TIMEOUT_MS = 30_000;
const MAX_SIZES = 100;
const MAX_SIZE_BYTES = 1024;

/**
 * The session of an exec or attach over SPDY, once the client has opened all its streams. Throws
 * when it does not in time. Source: Kubernetes remotecommand over SPDY.
 */
export async function spdySession(duplex: Duplex, wanted: WantedStreams): Promise<RemoteSession> {
  const gone = new AbortController();
  const streams = new Map<string, SpdyStream>();
  const expected = [
    'error',
    ...(wanted.stdin ? ['stdin'] : []),
    ...(wanted.stdout ? ['stdout'] : []),
    ...(wanted.stderr && !wanted.tty ? ['stderr'] : []),
    ...(wanted.tty ? ['resize'] : []),
  ];
  const opened = Promise.withResolvers<void>();
  serveSpdy(duplex, (stream) => {
    const type = stream.headers.get('streamtype') ?? '';
    if (!expected.includes(type) || streams.has(type)) return stream.reset();
    streams.set(type, stream);
    if (streams.size === expected.length) opened.resolve();
  })
    .catch(() => undefined) // a broken protocol is a client that is gone
    .finally(() => {
      gone.abort(new Error('the client has gone'));
      opened.reject(new Error('the client has gone'));
      duplex.destroy();
    })
    .catch(() => undefined);
  const timer = setTimeout(() => {
    const missing = expected.filter((type) => !streams.has(type));
    opened.reject(new Error(`the client did not open its streams: ${missing.join(', ')}`));
    duplex.destroy();
  }, OPEN_TIMEOUT_MS);
  try {
    await opened.promise;
  } finally {
    clearTimeout(timer);
  }
  return {
    stdin: streams.get('stdin')?.incoming ?? nothing(),
    resize: sizesOf(streams.get('resize')),
    write: async (stream, bytes) => {
      await streams.get(stream)?.write(bytes);
    },
    async finish(status) {
      await streams.get('error')?.write(Buffer.from(JSON.stringify(status)));
      for (const stream of streams.values()) stream.end();
      duplex.end();
    },
    gone: gone.signal,
  };
}

async function* nothing(): AsyncGenerator<never> {}

function sizesOf(stream: SpdyStream | undefined): AsyncIterable<TerminalSize> {
  const sizes = createInbox<TerminalSize>(MAX_SIZES);
  const read = async (): Promise<void> => {
    let text = '';
    for await (const bytes of stream?.incoming ?? nothing()) {
      // Each size is a JSON object of its own, perhaps several in one piece.
      text = (text + Buffer.from(bytes).toString()).slice(-MAX_SIZE_BYTES);
      for (let end = text.indexOf('}'); end >= 0; end = text.indexOf('}')) {
        const size = parseSize(text.slice(0, end + 1).trim());
        text = text.slice(end + 1);
        if (size) sizes.offer(size, 1);
      }
    }
    sizes.end();
  };
  read().catch(() => sizes.end());
  return sizes;
}
