import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { randomInt, seededRandom } from '#base/random.ts';
import { until } from '#base/testing.ts';
import { encodeFrame, FLAG_MORE, FRAME_TYPE, ProtocolError } from './channel.ts';
import { GuestConnection } from './connection.ts';
import { ProcessStreams } from './streams.ts';

/** The guest's end of the port: what the host sent, and frames with the nonce of its last HELLO. */
type FakeGuest = {
  connections: () => number;
  requests: { id: number; payload: Buffer }[];
  send: (frame: Parameters<typeof encodeFrame>[1]) => void;
  hangUp: () => void;
};

function connect(welcome: Uint8Array = version(1)): {
  guest: FakeGuest;
  connection: GuestConnection;
  stop: AbortController;
  violations: ProtocolError[];
} {
  const stop = new AbortController();
  const violations: ProtocolError[] = [];
  const requests: FakeGuest['requests'] = [];
  let port: Duplex | undefined;
  let nonce: Buffer | undefined;
  let count = 0;

  function listen(own: Duplex): void {
    let rest = Buffer.alloc(0);
    own.on('error', () => {});
    own.on('data', (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes]);
      for (;;) {
        // Zeros come before HELLO; those at the front of a frame belong to its nonce.
        const isFrame = nonce !== undefined && rest.subarray(0, 8).equals(nonce);
        const zeros = isFrame ? 0 : rest.findIndex((byte) => byte !== 0);
        if (zeros > 0) rest = rest.subarray(zeros);
        if (rest.length < 20 || rest.length < 28 + rest.readUInt32LE(16)) return;
        const [type, id, length] = [rest[8], rest.readUInt32LE(12), rest.readUInt32LE(16)];
        const payload = Buffer.from(rest.subarray(20, 20 + length));
        rest = rest.subarray(28 + length);
        if (type === FRAME_TYPE.hello) {
          nonce = payload.subarray(2, 10);
          own.write(encodeFrame(nonce, { type: FRAME_TYPE.welcome, payload: welcome }));
        } else if (type === FRAME_TYPE.request) requests.push({ id, payload });
      }
    });
  }

  const connection = new GuestConnection({
    open: () => {
      const [host, own] = duplexPair();
      port = own;
      count++;
      listen(own);
      return Promise.resolve(host);
    },
    ...{ clock: systemClock, log: silentLog, entropy: randomBytes, instance: randomBytes(8) },
    signal: stop.signal,
    onViolation: (error) => violations.push(error),
  });
  const guest: FakeGuest = {
    connections: () => count,
    requests,
    send: (frame) => port?.write(encodeFrame(nonce ?? Buffer.alloc(8), frame)),
    hangUp: () => port?.destroy(),
  };
  return { guest, connection, stop, violations };
}

function version(number: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(number);
  return Buffer.concat([bytes, Buffer.from('6.1')]);
}

/** An answer's payload: errno, words, data. */
function answer(errno: number, text: string, data = ''): Buffer {
  const head = Buffer.alloc(8);
  head.writeInt32LE(errno, 0);
  head.writeUInt32LE(text.length, 4);
  return Buffer.concat([head, Buffer.from(text + data)]);
}

test('answers find their requests, in parts too; failures keep code and words', async () => {
  const { guest, connection, stop } = connect();
  const parse = (data: Buffer): string => data.toString();
  const first = connection.request(Buffer.from('one'), { parse });
  const second = connection.request(Buffer.from('two'), { parse });
  await until('both', () => guest.requests.length === 2);
  const [one, two] = guest.requests;
  const whole = answer(0, '', 'hello');
  const part = { type: FRAME_TYPE.reply, id: two?.id ?? 0 };
  guest.send({ ...part, flags: FLAG_MORE, payload: whole.subarray(0, 10) });
  guest.send({ type: FRAME_TYPE.reply, id: one?.id ?? 0, payload: answer(2, 'no such thing') });
  guest.send({ ...part, payload: whole.subarray(10) });
  assert.equal(await second, 'hello');
  await assert.rejects(first, { code: 'NotFound', message: 'no such thing' });
  stop.abort(new Error('over'));
  await connection.done;
});

test('a lost connection fails what was asked, is made again, and streams go on', async () => {
  const { guest, connection, stop } = connect();
  const streams = new ProcessStreams({ id: 5, send: connection.send });
  connection.addStreams(streams);
  const asked = connection.request(Buffer.from('x'), { parse: () => undefined });
  await until('the request', () => guest.requests.length === 1);
  guest.hangUp();
  await assert.rejects(asked, { code: 'Unavailable' });
  await until('a new connection', () => guest.connections() === 2);
  await connection.welcomed({ signal: AbortSignal.timeout(5_000) });
  const payload = Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 1]), Buffer.from('hi')]);
  guest.send({ type: FRAME_TYPE.output, id: 5, payload });
  const [chunk] = await Array.fromAsync(take(streams.output(), 1));
  assert.equal(Buffer.from(chunk?.bytes ?? []).toString(), 'hi');
  stop.abort(new Error('over'));
  await connection.done;
  await assert.rejects(streams.exit, /gone: over/);
});

async function* take<T>(source: AsyncIterable<T>, count: number): AsyncGenerator<T> {
  for await (const value of source) {
    yield value;
    if (--count === 0) return;
  }
}

test('another version of the protocol is a violation that says so', async () => {
  const { connection, violations } = connect(version(9));
  await connection.done;
  assert.match(violations[0]?.message ?? '', /version 9, this runtime speaks 1/);
});

test('a hostile guest ends its connection, and nothing else', async () => {
  const random = seededRandom(99);
  for (let round = 0; round < 60; round++) {
    const { guest, connection, stop, violations } = connect();
    connection.addStreams(new ProcessStreams({ id: 1, send: connection.send }));
    const asked = connection.request(Buffer.from('x'), { parse: (data) => data.length });
    asked.catch(() => {});
    await until('the request', () => guest.requests.length === 1);
    const ids = [1, guest.requests[0]?.id ?? 0, randomInt(random, 2 ** 32)];
    const types = [65, 66, 67, 68, 69, randomInt(random, 256)];
    for (let n = 0; n < 30; n++) {
      const payload = Buffer.from(
        Array.from({ length: randomInt(random, 40) }, () => randomInt(random, 256)),
      );
      const [type, id] = [types[randomInt(random, 6)] ?? 0, ids[randomInt(random, 3)] ?? 0];
      guest.send({ type, id, flags: randomInt(random, 2), payload });
    }
    await new Promise((resolve) => setImmediate(resolve));
    stop.abort(new Error('over'));
    await connection.done;
    assert.ok(violations.every((error) => error instanceof ProtocolError));
  }
});

test('an answer without end is a violation, long before it fills the memory', async () => {
  const { guest, connection, violations } = connect();
  const asked = connection.request(Buffer.from('x'), { parse: () => undefined });
  asked.catch(() => {});
  await until('the request', () => guest.requests.length === 1);
  const frame = { type: FRAME_TYPE.reply, id: guest.requests[0]?.id ?? 0, flags: FLAG_MORE };
  for (let n = 0; n < 30; n++) guest.send({ ...frame, payload: Buffer.alloc(48 * 1024) });
  await connection.done;
  assert.match(violations[0]?.message ?? '', /an answer without end/);
});

test('a runtime that ends lets go of its VMs: nobody is told of an end', async () => {
  const { guest, connection } = connect();
  const streams = new ProcessStreams({ id: 5, send: connection.send });
  connection.addStreams(streams);
  await connection.welcomed({ signal: AbortSignal.timeout(5_000) });
  connection.detach();
  await connection.done;
  const told = await Promise.race([streams.exit.catch(() => 'told'), Promise.resolve('not told')]);
  assert.equal(told, 'not told');
  assert.equal(guest.connections(), 1);
});
