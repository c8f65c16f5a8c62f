import type { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, type Zlib } from 'node:zlib';
import { createInbox, type Inbox } from '#base/inbox.ts';

/** One stream of a session; who opened it gave these headers (names in lower case). */
export type SpdyStream = {
  readonly id: number;
  readonly headers: ReadonlyMap<string, string>;
  /** Ends when the peer has nothing more to say. */
  readonly incoming: AsyncIterable<Uint8Array>;
  write(bytes: Uint8Array): Promise<void>;
  /** Half-closes our side. */
  end(): void;
  /** Refuses or breaks off the stream. */
  reset(): void;
};

/** Frames are no longer than what a client reads at once; more is an attack on memory. */
const MAX_FRAME_BYTES = 4 * 1024 * 1024;
const MAX_STREAMS = 1_000;
const MAX_HEADER_BYTES = 64 * 1024;
/** Input of one stream that is kept for its reader. */
const STREAM_BUFFER_BYTES = 1024 * 1024;

const SYN_STREAM = 1;
const SYN_REPLY = 2;
const RST_STREAM = 3;
const PING = 6;
const FLAG_FIN = 1;
const PROTOCOL_ERROR = 1;
const REFUSED_STREAM = 3;

type Known = { id: number; inbox: Inbox<Uint8Array>; ended: boolean };

/**
 * The server's side of a SPDY/3.1 session, as Kubernetes clients use it: they open all streams, and
 * heed no flow control. Resolves when the connection is over; throws for a broken protocol.
 * Source: SPDY protocol, draft 3.1.
 */
export async function serveSpdy(
  duplex: Duplex,
  onStream: (stream: SpdyStream) => void,
): Promise<void> {
  const session = new Session(duplex, onStream);
  try {
    await session.run();
  } finally {
    session.close();
  }
}

/** The client's side of a session: it opens the streams. */
export type SpdyClient = {
  open(headers: Readonly<Record<string, string>>): Promise<SpdyStream>;
  /** Resolves when the connection is over, rejects for a broken protocol. */
  readonly done: Promise<void>;
};

export function connectSpdy(duplex: Duplex): SpdyClient {
  const session = new Session(duplex);
  const done = session.run().finally(() => session.close());
  done.catch(() => undefined); // whoever waits for it hears of it
  return { open: (headers) => session.open(headers), done };
}

class Session {
  readonly #duplex: Duplex;
  /** Absent on the client's side. */
  readonly #onStream: ((stream: SpdyStream) => void) | undefined;
  readonly #streams = new Map<number, Known>();
  readonly #inflate = createInflate({
    dictionary: DICTIONARY,
    finishFlush: constants.Z_SYNC_FLUSH,
  });
  readonly #deflate = createDeflate({ dictionary: DICTIONARY });

  #nextId = 1;

  constructor(duplex: Duplex, onStream?: (stream: SpdyStream) => void) {
    this.#duplex = duplex;
    this.#onStream = onStream;
    // They end the loop in run(), too.
    duplex.on('error', () => {});
  }

  /** Opens a stream of our own. */
  async open(headers: Readonly<Record<string, string>>): Promise<SpdyStream> {
    const id = this.#nextId;
    this.#nextId += 2;
    const known: Known = { id, inbox: createInbox(STREAM_BUFFER_BYTES), ended: false };
    this.#streams.set(id, known);
    const list = Object.entries(headers);
    const texts = list
      .flat()
      .flatMap((text) => [uint32(Buffer.byteLength(text)), Buffer.from(text)]);
    const block = await through(
      this.#deflate,
      Buffer.concat([uint32(list.length), ...texts]),
      true,
    );
    // Id, no associated stream, no priority.
    const body = Buffer.concat([uint32(id), uint32(0), Buffer.alloc(2), block]);
    this.#send(control(SYN_STREAM, 0, body));
    return this.#face(known, new Map(list));
  }

  async run(): Promise<void> {
    let rest = Buffer.alloc(0);
    for await (const chunk of this.#duplex) {
      rest = rest.length === 0 ? (chunk as typeof rest) : Buffer.concat([rest, chunk as Buffer]);
      while (rest.length >= 8) {
        const length = rest.readUInt32BE(4) & 0xffffff;
        if (length > MAX_FRAME_BYTES) throw new Error('SPDY: a frame is too large');
        if (rest.length < 8 + length) break;
        await this.#frame(rest.subarray(0, 8), rest.subarray(8, 8 + length));
        rest = rest.subarray(8 + length);
      }
    }
  }

  close(): void {
    for (const { inbox } of this.#streams.values()) inbox.end();
    this.#inflate.close();
    this.#deflate.close();
  }

  async #frame(head: Buffer, body: Buffer): Promise<void> {
    const first = head.readUInt32BE(0);
    const flags = head[4] ?? 0;
    if ((first & 0x80000000) === 0) return this.#data(first, flags, body);
    const type = first & 0xffff;
    if (type === SYN_STREAM && this.#onStream) await this.#open(flags, body);
    else if (type === RST_STREAM && body.length >= 8) this.#forget(body.readUInt32BE(0));
    // We send none of our own, so every one asks for an answer.
    else if (type === PING && body.length === 4) this.#send(control(PING, 0, body));
  }

  async #data(id: number, flags: number, body: Buffer): Promise<void> {
    const stream = this.#streams.get(id & 0x7fffffff);
    if (!stream) return;
    if (body.length > 0) await stream.inbox.push(Buffer.from(body), body.length);
    if ((flags & FLAG_FIN) !== 0) stream.inbox.end();
  }

  async #open(flags: number, body: Buffer): Promise<void> {
    if (body.length < 10) throw new Error('SPDY: a SYN_STREAM is cut off');
    const id = body.readUInt32BE(0) & 0x7fffffff;
    const block = await through(this.#inflate, body.subarray(10));
    const headers = readHeaders(block);
    if (this.#streams.has(id)) return this.#reset(id, PROTOCOL_ERROR);
    if (this.#streams.size >= MAX_STREAMS) return this.#reset(id, REFUSED_STREAM);
    const known: Known = { id, inbox: createInbox(STREAM_BUFFER_BYTES), ended: false };
    this.#streams.set(id, known);
    const reply = await through(this.#deflate, uint32(0), true);
    this.#send(control(SYN_REPLY, 0, Buffer.concat([uint32(id), reply])));
    if ((flags & FLAG_FIN) !== 0) known.inbox.end();
    this.#onStream?.(this.#face(known, headers));
  }

  #face(known: Known, headers: ReadonlyMap<string, string>): SpdyStream {
    const { id, inbox } = known;
    return {
      id,
      headers,
      incoming: inbox,
      write: async (bytes) => {
        if (known.ended || bytes.length === 0) return;
        await this.#drained(data(id, 0, bytes));
      },
      end: () => {
        if (known.ended) return;
        known.ended = true;
        this.#send(data(id, FLAG_FIN, new Uint8Array()));
      },
      reset: () => {
        this.#reset(id, PROTOCOL_ERROR);
        this.#forget(id);
      },
    };
  }

  #reset(id: number, status: number): void {
    this.#send(control(RST_STREAM, 0, Buffer.concat([uint32(id), uint32(status)])));
  }

  #forget(id: number): void {
    const known = this.#streams.get(id);
    if (!known) return;
    known.ended = true;
    known.inbox.end();
    this.#streams.delete(id);
  }

  #send(frame: Buffer): boolean {
    return this.#duplex.destroyed || this.#duplex.writableEnded || this.#duplex.write(frame);
  }

  async #drained(frame: Buffer): Promise<void> {
    if (this.#send(frame)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#duplex.off('drain', done);
        this.#duplex.off('close', done);
        resolve();
      };
      this.#duplex.once('drain', done);
      this.#duplex.once('close', done);
    });
  }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

function control(type: number, flags: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE((0x80030000 | type) >>> 0, 0);
  head.writeUInt32BE(((flags << 24) | body.length) >>> 0, 4);
  return Buffer.concat([head, body]);
}

function data(id: number, flags: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(id, 0);
  head.writeUInt32BE(((flags << 24) | body.length) >>> 0, 4);
  return Buffer.concat([head, body]);
}

function readHeaders(block: Buffer): Map<string, string> {
  const headers = new Map<string, string>();
  let at = 0;
  const number = (): number => {
    if (at + 4 > block.length) throw new Error('SPDY: a header block is cut off');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (at + length > block.length) throw new Error('SPDY: a header block is cut off');
    at += length;
    return block.toString('utf8', at - length, at);
  };
  for (let count = number(); count > 0; count--) {
    const name = text().toLowerCase();
    headers.set(name, text());
  }
  return headers;
}

type Codec = ReturnType<typeof createInflate> & Zlib;

/** One header block through a codec that lives as long as the session. */
function through(codec: Codec, bytes: Uint8Array, flush = false): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > MAX_HEADER_BYTES) finish(new Error('SPDY: a header block is too large'));
      else chunks.push(chunk);
    };
    const finish = (error?: Error | null): void => {
      codec.off('data', onData);
      codec.off('error', finish);
      if (error) reject(error);
      else resolve(Buffer.concat(chunks));
    };
    codec.on('data', onData);
    codec.once('error', finish);
    codec.write(bytes, (error) => {
      if (error || !flush) finish(error);
      else codec.flush(constants.Z_SYNC_FLUSH, () => finish());
    });
  });
}

/** Words that both sides' compression starts with: each with its length, then plain text. */
const WORDS =
  'options head post put delete trace accept accept-charset accept-encoding accept-language ' +
  'accept-ranges age allow authorization cache-control connection content-base ' +
  'content-encoding content-language content-length content-location content-md5 ' +
  'content-range content-type date etag expect expires from host if-match ' +
  'if-modified-since if-none-match if-range if-unmodified-since last-modified location ' +
  'max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after ' +
  'server te trailer transfer-encoding upgrade user-agent vary via warning ' +
  'www-authenticate method get status';
const LAST_WORDS = [
  '200 OK',
  'version',
  'HTTP/1.1',
  'url',
  'public',
  'set-cookie',
  'keep-alive',
  'origin',
];
const TEXT =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505' +
  '203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request' +
  '401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented' +
  '503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, ' +
  'Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,' +
  'application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=' +
  'gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

/** Source: SPDY protocol, draft 3, "Compression". */
export const DICTIONARY = Buffer.concat([
  ...[...WORDS.split(' '), ...LAST_WORDS].flatMap((word) => [
    uint32(word.length),
    Buffer.from(word),
  ]),
  Buffer.from(TEXT),
]);
