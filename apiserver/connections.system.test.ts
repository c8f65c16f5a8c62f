import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { ClientHttp2Session } from 'node:http2';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { silentLog } from '#base/log.ts';
import { until } from '#base/testing.ts';
import { listen } from '#apiserver/server.ts';
import type { TestServer } from '#apiserver/testing.ts';
import { startTestServer } from '#apiserver/testing.ts';

/** Clients that misuse their connections: the others must not notice, and memory is bounded. */

const MAPS = '/api/v1/namespaces/default/configmaps';
const MIB = 1024 * 1024;

/** Events in a piece of a watch's answer: each ends a line, and a line's end cannot be cut in two. */
function linesIn(chunk: Buffer): number {
  let lines = 0;
  for (const byte of chunk) if (byte === 0x0a) lines++;
  return lines;
}

function watchOn(
  session: ClientHttp2Session,
  { token }: TestServer,
  take: (chunk: Buffer) => void,
) {
  const stream = session.request({
    ':path': `${MAPS}?watch=1`,
    authorization: `Bearer ${token}`,
  });
  stream.on('data', take);
  return new Promise<void>((resolve, reject) => {
    stream.once('response', () => resolve());
    stream.once('error', reject);
  });
}

test('two thousand watches each get every event', { timeout: 60_000 }, async () => {
  const server = await startTestServer();
  const sessions = Array.from({ length: 10 }, () => connectHttp2(server.url, { ca: server.caPem }));
  try {
    const startBytes = process.memoryUsage.rss();
    let delivered = 0;
    const take = (chunk: Buffer): void => {
      delivered += linesIn(chunk);
    };
    const opened = sessions.flatMap((session) =>
      Array.from({ length: 200 }, () => watchOn(session, server, take)),
    );
    // The answer's head arrives with the watch's beginning; its first event proves the rest.
    await server.call('POST', MAPS, { metadata: { name: 'first' } });
    await Promise.all(opened);
    await until('first events', () => delivered >= 2_000);
    for (let n = 0; n < 10; n++) await server.call('POST', MAPS, { metadata: { name: `w${n}` } });
    await until('all events', () => delivered >= 2_000 * 11);
    assert.ok(process.memoryUsage.rss() - startBytes < 400 * MIB);
    const start = performance.now();
    assert.equal((await server.call('GET', `${MAPS}/first`)).code, 200);
    assert.ok(performance.now() - start < 1_000);
  } finally {
    for (const session of sessions) session.destroy();
    const start = performance.now();
    await server.close();
    assert.ok(performance.now() - start < 5_000, 'gone clients hold nothing up');
  }
});

test('a watcher that does not read is cut with 410; others see all', {
  timeout: 60_000,
}, async () => {
  const server = await startTestServer();
  try {
    const idle = connectTls({ host: '127.0.0.1', port: server.port, ca: server.caPem });
    idle.write(
      `GET ${MAPS}?watch=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${server.token}\r\n\r\n`,
    );
    await new Promise((resolve) => idle.once('readable', resolve));
    idle.pause();
    const reader = connectHttp2(server.url, { ca: server.caPem });
    let seen = 0;
    const opened = watchOn(reader, server, (chunk) => {
      seen += linesIn(chunk);
    });
    const data = { text: 'x'.repeat(700 * 1024) };
    await server.call('POST', MAPS, { metadata: { name: 'large' }, data });
    await opened;
    await until('the first event', () => seen > 0);
    const startBytes = process.memoryUsage.rss();
    for (let n = 0; n < 60; n++) {
      data.text = String.fromCharCode(97 + (n % 26)).repeat(700 * 1024);
      const put = await server.call('PUT', `${MAPS}/large`, { metadata: { name: 'large' }, data });
      assert.equal(put.code, 200, put.text);
      // Writers in this process are faster than its sockets: a reader is not to be cut for that.
      await until('the event', () => seen > n + 1);
    }
    assert.ok(process.memoryUsage.rss() - startBytes < 600 * MIB);

    let tail = '';
    idle.on('data', (chunk: Buffer) => {
      tail = (tail + chunk.toString('latin1')).slice(-1_000);
    });
    idle.resume();
    await until('the end of the answer', () => tail.endsWith('0\r\n\r\n'));
    assert.match(tail, /"type":"ERROR".*"reason":"Expired","code":410/);
    idle.destroy();
    reader.destroy();
  } finally {
    await server.close();
  }
});

test('a client that takes nothing of its answer is cut off', { timeout: 30_000 }, async () => {
  const server = await startTestServer();
  const read = (name: string): Buffer => readFileSync(join(server.dataDir, 'pki', name));
  const piece = Buffer.alloc(64 * 1024, 0x20);
  let given = 0;
  const ended = Promise.withResolvers<void>();
  const door = await listen({
    bindAddress: '127.0.0.1',
    port: 0,
    tls: { key: read('apiserver.key'), cert: read('apiserver.crt') },
    stallTimeoutMs: 100,
    handle: async ({ url }) => ({
      status: 200,
      headers: {},
      body:
        url === '/whole'
          ? Buffer.alloc(64 * MIB)
          : (async function* () {
              try {
                for (;;) {
                  given += piece.length;
                  yield piece;
                }
              } finally {
                ended.resolve();
              }
            })(),
    }),
    upgrade: async () => {},
    peerOf: () => ({}),
    log: silentLog,
  });
  try {
    const stuck = ['/stream', '/whole'].map((path) => {
      const socket = connectTls({ host: '127.0.0.1', port: door.port, rejectUnauthorized: false });
      socket.on('error', () => {});
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return socket;
    });
    const session = connectHttp2(`https://127.0.0.1:${door.port}`, { rejectUnauthorized: false });
    const stream = session.request({ ':path': '/whole' });
    const reset = new Promise((resolve) => stream.once('close', resolve));
    stream.on('error', () => {});
    stream.once('response', () => stream.pause());
    await ended.promise;
    assert.ok(given < 32 * MIB, `${given} bytes were made for nobody`);
    stream.resume();
    await reset;
    session.destroy();
    for (const socket of stuck) socket.destroy();
  } finally {
    await door.close();
    await server.close();
  }
});

test('connections that say nothing, or half a thing, are in nobody’s way', async () => {
  const server = await startTestServer();
  const sockets: Socket[] = [];
  const to = { host: '127.0.0.1', port: server.port };
  try {
    for (let n = 0; n < 300; n++) sockets.push(connectTcp(to));
    const halves = Array.from({ length: 150 }, (_, n) => {
      const socket = connectTls({ ...to, ca: server.caPem });
      socket.write(
        n % 2 === 0
          ? `GET ${MAPS} HTTP/1.1\r\nhost: x\r\nauth`
          : `POST ${MAPS} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"half":`,
      );
      sockets.push(socket);
      return new Promise((resolve) => socket.once('secureConnect', resolve));
    });
    for (const socket of sockets) socket.on('error', () => {});
    await Promise.all(halves);
    const start = performance.now();
    assert.equal((await server.call('GET', MAPS)).code, 200);
    assert.equal((await requestOver(server, new Agent(), 'GET', MAPS)).code, 200);
    assert.ok(performance.now() - start < 2_000);
  } finally {
    const start = performance.now();
    await server.close();
    assert.ok(performance.now() - start < 8_000);
    for (const socket of sockets) socket.destroy();
  }
});

type Reply = { code: number; connection: string | undefined };

function requestOver(
  server: TestServer,
  agent: Agent,
  method: string,
  path: string,
  body = '',
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${server.token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const options = { host: '127.0.0.1', port: server.port, ca: server.caPem, agent, headers };
    const request = httpsRequest({ ...options, method, path }, (response) => {
      response.resume();
      response.on('end', () =>
        resolve({ code: response.statusCode ?? 0, connection: response.headers.connection }),
      );
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

test('at shutdown, what is under way is answered, and what was answered is kept', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'gantry-shutdown-'));
  const first = await startTestServer({ dataDir });
  const acknowledged: string[] = [];
  const unexpected: number[] = [];
  let isOver = false;
  let closings = 0;
  const started = Promise.withResolvers<void>();
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const writers = Array.from({ length: 16 }, async (_, writer) => {
    for (let n = 0; !isOver; n++) {
      const name = `s-${writer}-${n}`;
      try {
        const body = JSON.stringify({ metadata: { name } });
        const { code, connection } = await requestOver(first, agent, 'POST', MAPS, body);
        if (code === 201) acknowledged.push(name);
        else unexpected.push(code);
        if (connection === 'close') closings++;
        if (acknowledged.length === 200) started.resolve();
      } catch {
        // Refused: the listener is closed.
        isOver = true;
      }
    }
  });
  await started.promise;
  const list = first.call('GET', MAPS);
  const start = performance.now();
  const closing = first.close();
  await Promise.all(writers);
  await closing;
  assert.ok(performance.now() - start < 4_000, 'busy connections end with their answer');
  assert.deepEqual(unexpected, []);
  assert.ok(closings > 0, 'clients are told to go');
  assert.equal((await list).code, 200);
  agent.destroy();
  const second = await startTestServer({ dataDir });
  const kept = (await second.call('GET', MAPS)).body['items'] as unknown as {
    metadata: { name: string };
  }[];
  const names = new Set(kept.map(({ metadata }) => metadata.name));
  assert.deepEqual(
    acknowledged.filter((name) => !names.has(name)),
    [],
  );
  await second.close();
  rmSync(dataDir, { recursive: true });
});
