import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import { after, test } from 'node:test';
import { exitStatus } from '#node-agent/runtime/microvm/cri/remote-session.ts';
import { spdySession } from '#node-agent/runtime/microvm/cri/spdy-session.ts';
import { serveCommand, serveTunnel, translationOf } from '#node-agent/server/stream-translation.ts';

const servers: { close(): void }[] = [];
const open: Duplex[] = [];
after(() => {
  for (const socket of open) socket.destroy();
  for (const server of servers) server.close();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  server.on('connection', (socket) => open.push(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as net.AddressInfo).port;
}

const wanted = { stdin: true, stdout: true, stderr: true, tty: false };

/** A runtime that speaks SPDY only: says its input back, and a last word once that has ended. */
const runtime = createServer();
runtime.on('upgrade', (message, socket: Duplex) => {
  const protocol = message.headers['x-stream-protocol-version'];
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n',
  );
  if (protocol === 'portforward.k8s.io') return void socket.pipe(socket);
  const talk = async (): Promise<void> => {
    const session = await spdySession(socket, wanted);
    for await (const bytes of session.stdin) await session.write('stdout', bytes);
    await session.write('stderr', Buffer.from('after'));
    await session.finish(exitStatus(3));
  };
  void talk();
});
const runtimePort = await listen(runtime);

const agent = createServer();
agent.on('upgrade', (request, socket: Duplex, head: Buffer) => {
  const target = new URL(`http://127.0.0.1:${runtimePort}/exec/x`);
  const backend = net.connect(runtimePort, '127.0.0.1');
  const upgrade = { request, socket, head };
  if (translationOf(request) === 'tunnel') void serveTunnel(upgrade, backend, target);
  else void serveCommand(upgrade, backend, { target, wanted });
});
const url = `ws://127.0.0.1:${await listen(agent)}/`;

function connect(protocol: string): { socket: WebSocket; opened: Promise<unknown> } {
  const socket = new WebSocket(url, protocol);
  socket.binaryType = 'arraybuffer';
  return { socket, opened: new Promise((resolve) => socket.addEventListener('open', resolve)) };
}

test('v5: input ends while output goes on, the outcome comes last', async () => {
  const { socket, opened } = connect('v5.channel.k8s.io');
  const heard: string[] = ['', '', '', ''];
  socket.addEventListener('message', ({ data }) => {
    const bytes = Buffer.from(data as ArrayBuffer);
    heard[bytes[0] ?? 0] += bytes.subarray(1).toString();
  });
  const closed = new Promise<CloseEvent>((resolve) => socket.addEventListener('close', resolve));
  await opened;
  const much = 'x'.repeat(300_000);
  socket.send(Buffer.from(`\0${much}`));
  socket.send(Uint8Array.of(255, 0));
  assert.equal((await closed).code, 1000);
  assert.equal(heard[1], much);
  assert.equal(heard[2], 'after');
  assert.deepEqual(JSON.parse(heard[3] ?? ''), exitStatus(3));
});

test('what older clients speak is left to the runtime', () => {
  const of = (headers: Record<string, string>) =>
    translationOf({ headers } as unknown as Parameters<typeof translationOf>[0]);
  const protocols = (list: string) => of({ upgrade: 'websocket', 'sec-websocket-protocol': list });
  assert.equal(protocols('v4.channel.k8s.io'), undefined);
  assert.equal(of({ upgrade: 'SPDY/3.1' }), undefined);
  assert.equal(protocols('v5.channel.k8s.io, v4.channel.k8s.io'), 'command');
  assert.equal(protocols('SPDY/3.1+portforward.k8s.io'), 'tunnel');
});
