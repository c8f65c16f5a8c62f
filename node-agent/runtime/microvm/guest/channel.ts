/**
 * Frames between host and guest over one virtio-serial port (guest/channel.c is the other side).
 *
 * A frame is: nonce (8 bytes), type, flags, two zero bytes, id (u32), length (u32), payload, nonce
 * again; little endian. The host draws the nonce for each connection and says it in HELLO. Before the
 * first frame with it, everything is left over from an earlier connection and skipped; after it, any
 * byte out of place breaks the protocol: a guest is not trusted, so that ends its VM.
 */
export const PROTOCOL_VERSION = 1;

export const FRAME_TYPE = {
  hello: 1,
  request: 2,
  stdin: 3,
  acknowledge: 4,
  ping: 5,
  welcome: 65,
  reply: 66,
  output: 67,
  stdinAcknowledge: 68,
  pong: 69,
} as const;

/** On request and reply: more of it follows. On stdin: its end. */
export const FLAG_MORE = 1;
export const FLAG_EOF = 1;

/** Agreed with guest/agent.h. Small towards the guest: a reconnect first sends as many zeros. */
export const MAX_HOST_PAYLOAD = 16 * 1024;
export const MAX_GUEST_PAYLOAD = 48 * 1024;
const HEADER_BYTES = 20;
const NONCE_BYTES = 8;
/** More than QEMU, the port and the agent can hold of an earlier connection. */
const MAX_STALE_BYTES = 4 * 1024 * 1024;

const HELLO_MAGIC = Buffer.from('GANTRY\0\x01', 'latin1');

export type Frame = { type: number; flags: number; id: number; payload: Buffer };

/** A guest that does not keep to the protocol; the message says how. */
export class ProtocolError extends Error {
  constructor(message: string) {
    super(`the guest broke the protocol: ${message}`);
    this.name = 'ProtocolError';
  }
}

export function encodeFrame(
  nonce: Uint8Array,
  frame: { type: number; flags?: number; id?: number; payload?: Uint8Array },
): Buffer {
  const payload = frame.payload ?? new Uint8Array();
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length + NONCE_BYTES);
  bytes.set(nonce, 0);
  bytes[8] = frame.type;
  bytes[9] = frame.flags ?? 0;
  bytes.writeUInt32LE(frame.id ?? 0, 12);
  bytes.writeUInt32LE(payload.length, 16);
  bytes.set(payload, HEADER_BYTES);
  bytes.set(nonce, HEADER_BYTES + payload.length);
  return bytes;
}

export type Hello = {
  nonce: Uint8Array;
  /** One life of the runtime: another one has no use for the execs of the life before. */
  instance: Uint8Array;
  nowMs: number;
  /** 64 bytes for the guest's random number generator. */
  entropy: Uint8Array;
};

/** What a host sends first: the end of whatever frame was cut off, then HELLO. */
export function encodeHello(hello: Hello): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16LE(PROTOCOL_VERSION);
  const payload = Buffer.concat([
    head,
    hello.nonce,
    hello.instance,
    encodeTime(hello.nowMs),
    hello.entropy,
  ]);
  const frame = encodeFrame(HELLO_MAGIC, { type: FRAME_TYPE.hello, payload });
  return Buffer.concat([Buffer.alloc(HEADER_BYTES + MAX_HOST_PAYLOAD + NONCE_BYTES), frame]);
}

/** Nanoseconds since the epoch, eight bytes. */
export function encodeTime(nowMs: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(Math.round(nowMs * 1000)) * 1000n);
  return bytes;
}

export type FrameDecoder = {
  /** The frames that `bytes` complete. Throws ProtocolError; the decoder is of no use after that. */
  push(bytes: Uint8Array): Frame[];
};

export function createDecoder(nonce: Uint8Array): FrameDecoder {
  let rest: Buffer = Buffer.alloc(0);
  let framed = false;
  let skipped = 0;

  /** Drops what an earlier connection left; true when the first frame's start was found. */
  function seek(): boolean {
    const at = rest.indexOf(nonce);
    const drop = at >= 0 ? at : Math.max(0, rest.length - (NONCE_BYTES - 1));
    skipped += drop;
    rest = rest.subarray(drop);
    if (at < 0 && skipped > MAX_STALE_BYTES)
      throw new ProtocolError(`no frame within ${MAX_STALE_BYTES} bytes`);
    framed = at >= 0;
    return framed;
  }

  function next(): Frame | undefined {
    if (!framed && !seek()) return undefined;
    if (rest.length < HEADER_BYTES) return undefined;
    if (!rest.subarray(0, NONCE_BYTES).equals(nonce)) throw new ProtocolError('no frame start');
    const length = rest.readUInt32LE(16);
    if (length > MAX_GUEST_PAYLOAD) throw new ProtocolError(`a frame of ${length} bytes`);
    const end = HEADER_BYTES + length;
    if (rest.length < end + NONCE_BYTES) return undefined;
    if (!rest.subarray(end, end + NONCE_BYTES).equals(nonce))
      throw new ProtocolError('no frame end');
    const frame = {
      type: rest[8] ?? 0,
      flags: rest[9] ?? 0,
      id: rest.readUInt32LE(12),
      payload: rest.subarray(HEADER_BYTES, end),
    };
    rest = rest.subarray(end + NONCE_BYTES);
    return frame;
  }

  return {
    push(bytes) {
      rest = rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([rest, bytes]);
      const frames: Frame[] = [];
      for (let frame = next(); frame; frame = next()) frames.push(frame);
      return frames;
    },
  };
}
