import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import {
  createDecoder,
  encodeFrame,
  encodeHello,
  FRAME_TYPE,
  type Frame,
  MAX_GUEST_PAYLOAD,
  ProtocolError,
} from './channel.ts';

const SEED = 20261128;
const nonce = Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]);

function someFrames(random: () => number, count: number): Frame[] {
  return Array.from({ length: count }, () => ({
    type: randomInt(random, 256),
    flags: randomInt(random, 256),
    id: randomInt(random, 2 ** 32),
    payload: Buffer.from(
      Array.from({ length: randomInt(random, 300) }, () => randomInt(random, 256)),
    ),
  }));
}

/** Cut anywhere, in pieces of any size. */
function* pieces(bytes: Buffer, random: () => number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + randomInt(random, 200);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

test('frames come out as they went in, wherever the stream is cut', () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 100; round++) {
    const frames = someFrames(random, randomInt(random, 10));
    const stream = Buffer.concat(frames.map((frame) => encodeFrame(nonce, frame)));
    const decoder = createDecoder(nonce);
    const got = [...pieces(stream, random)].flatMap((piece) => decoder.push(piece));
    assert.deepEqual(got, frames);
  }
});

test('what an earlier connection left is skipped, even where it looks like frames', () => {
  const random = seededRandom(SEED);
  const old = Buffer.from([9, 9, 9, 9, 9, 9, 9, 9]);
  const [frame] = someFrames(random, 1);
  assert.ok(frame);
  for (let round = 0; round < 50; round++) {
    const stale = Buffer.concat(someFrames(random, 3).map((f) => encodeFrame(old, f)));
    const cut = stale.subarray(randomInt(random, stale.length));
    const decoder = createDecoder(nonce);
    const stream = Buffer.concat([cut, encodeFrame(nonce, frame)]);
    assert.deepEqual(
      [...pieces(stream, random)].flatMap((p) => decoder.push(p)),
      [frame],
    );
  }
});

/** Pushes until the decoder has had enough of it; the number of bytes it holds on to is the point. */
function feed(bytes: Buffer, random: () => number): Frame[] | ProtocolError {
  const decoder = createDecoder(nonce);
  const frames: Frame[] = [];
  try {
    for (const piece of pieces(bytes, random)) frames.push(...decoder.push(piece));
    return frames;
  } catch (error) {
    if (error instanceof ProtocolError) return error;
    throw error;
  }
}

test('a hostile guest gets a protocol error or frames, never anything else', () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 500; round++) {
    const frames = someFrames(random, 4);
    const stream = Buffer.concat(frames.map((frame) => encodeFrame(nonce, frame)));
    for (let flips = 1 + randomInt(random, 5); flips > 0; flips--)
      stream[randomInt(random, stream.length)] = randomInt(random, 256);
    const result = feed(stream, random);
    assert.ok(result instanceof ProtocolError || result.length <= frames.length);
  }
});

test('a length beyond the bound is refused before any of it has come', () => {
  const head = encodeFrame(nonce, { type: FRAME_TYPE.output }).subarray(0, 20);
  head.writeUInt32LE(MAX_GUEST_PAYLOAD + 1, 16);
  assert.throws(() => createDecoder(nonce).push(head), /a frame of 49153 bytes/);
});

test('a guest that never says hello is given up, with little kept meanwhile', () => {
  const decoder = createDecoder(nonce);
  const noise = Buffer.alloc(64 * 1024, 5);
  assert.throws(() => {
    for (let round = 0; round < 100; round++) decoder.push(noise);
  }, /no frame within/);
});

test('a hello ends whatever frame was cut off before it', () => {
  const hello = { nonce, instance: nonce, nowMs: 1.5, entropy: Buffer.alloc(64, 7) };
  const bytes = encodeHello(hello);
  const at = bytes.indexOf('GANTRY');
  assert.ok(at >= 16 * 1024 + 28, 'as many zeros as the largest frame towards a guest');
  assert.ok(bytes.subarray(0, at).every((byte) => byte === 0));
  assert.equal(bytes.length - at, 20 + 90 + 8);
  assert.equal(bytes.readBigInt64LE(at + 20 + 18), 1_500_000n);
});
