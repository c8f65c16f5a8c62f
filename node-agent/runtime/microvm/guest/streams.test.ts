import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME_TYPE, type Frame, ProtocolError } from './channel.ts';
import { ProcessStreams, vmGone } from './streams.ts';

type Sent = { type: number; flags?: number; id: number; payload: Uint8Array };

function opened(): { streams: ProcessStreams; sent: Sent[] } {
  const sent: Sent[] = [];
  return { sent, streams: new ProcessStreams({ id: 7, send: (frame) => sent.push(frame) }) };
}

function record(sequence: number, channel: number, bytes: Uint8Array | string): Frame {
  const head = Buffer.alloc(9);
  head.writeBigUInt64LE(BigInt(sequence));
  head[8] = channel;
  const payload = Buffer.concat([head, Buffer.from(bytes)]);
  return { type: FRAME_TYPE.output, flags: 0, id: 7, payload };
}

function exitRecord(sequence: number, code: number): Frame {
  const body = Buffer.alloc(13);
  body.writeInt32LE(code);
  body.writeBigInt64LE(1234n, 5);
  return record(sequence, 255, body);
}

test('records are taken once and in order, also when they are sent again', async () => {
  const { streams, sent } = opened();
  streams.receive(record(1, 1, 'a'));
  streams.receive(record(2, 2, 'b'));
  streams.receive(record(1, 1, 'a')); // a reconnect: nothing was acknowledged
  streams.receive(record(2, 2, 'b'));
  streams.receive(record(3, 1, 'c'));
  streams.receive(exitRecord(4, 3));
  const seen: string[] = [];
  for await (const { stream, bytes } of streams.output()) {
    seen.push(`${stream} ${Buffer.from(bytes)}`);
    streams.acknowledge();
  }
  assert.deepEqual(seen, ['stdout a', 'stderr b', 'stdout c']);
  assert.deepEqual(await streams.exit, { code: 3, oomKilled: false, finishedAtMs: 1234 });
  streams.acknowledge();
  const acknowledged = sent.map(({ payload }) => Buffer.from(payload).readBigUInt64LE(0));
  assert.deepEqual(acknowledged, [1n, 2n, 4n], 'the last with the exit, all were taken');
});

test('what was not taken is not acknowledged', async () => {
  const { streams, sent } = opened();
  streams.receive(record(1, 1, 'a'));
  streams.receive(record(2, 1, 'b'));
  streams.acknowledge();
  assert.equal(sent.length, 0);
  await streams.output().next();
  streams.acknowledge();
  assert.equal(Buffer.from(sent[0]?.payload ?? []).readBigUInt64LE(0), 1n);
});

test('a guest that breaks the order, the window or the format is a protocol error', () => {
  const broken: [string, (s: ProcessStreams) => void][] = [
    ['a gap', (s) => s.receive(record(2, 1, 'a'))],
    ['no number', (s) => s.receive({ type: 67, flags: 0, id: 7, payload: Buffer.alloc(3) })],
    ['an unknown channel', (s) => s.receive(record(1, 9, 'a'))],
    ['a short exit', (s) => s.receive(record(1, 255, 'a'))],
    ['input that was not given', (s) => s.inputTaken(5n)],
    [
      'a flood',
      (s) => {
        for (let n = 1; n < 100; n++) s.receive(record(n, 1, Buffer.alloc(16_000)));
      },
    ],
    [
      'output after the end',
      (s) => {
        s.receive(exitRecord(1, 0));
        s.receive(record(2, 1, 'a'));
      },
    ],
  ];
  for (const [what, act] of broken) assert.throws(() => act(opened().streams), ProtocolError, what);
});

test('input waits for room, is sent again until it was taken, and ends once', async () => {
  const { streams, sent } = opened();
  let done = false;
  const writing = streams.write(Buffer.alloc(100_000, 'x')).then(() => (done = true));
  await new Promise((resolve) => setImmediate(resolve));
  const bytes = (frames: Sent[]): number =>
    frames.reduce((sum, f) => sum + f.payload.length - 8, 0);
  assert.ok(bytes(sent) <= 64 * 1024 && !done, 'no more than the window');
  const before = sent.length;
  streams.resend();
  assert.equal(sent.length, before * 2, 'nothing was taken, so all comes again');
  streams.inputTaken(BigInt(bytes(sent.slice(0, before))));
  await writing;
  assert.ok(done);
  await streams.closeStdin();
  streams.inputTaken(100_001n);
  const after = sent.length;
  streams.resend();
  await streams.write(Buffer.from('after the end'));
  assert.equal(sent.length, after);
});

test('whoever waits hears when the VM is gone', async () => {
  const { streams } = opened();
  const read = streams.output().next();
  const write = streams.write(Buffer.alloc(100_000));
  streams.fail(vmGone('killed'));
  await assert.rejects(read, /gone: killed/);
  await assert.rejects(write, /gone: killed/);
  await assert.rejects(streams.exit, { code: 'Unavailable' });
});

test('writing to an ended process does not wait', async () => {
  const { streams } = opened();
  const write = streams.write(Buffer.alloc(100_000));
  streams.receive(exitRecord(1, 0));
  await write;
});
