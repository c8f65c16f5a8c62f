import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import type { IncomingHttpHeaders } from 'node:http';
import { connect as connectTls } from 'node:tls';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import type { TestServer } from '#apiserver/testing.ts';
import { startTestServer } from '#apiserver/testing.ts';

/** The listener itself: what only shows over a real connection. */

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

type Answer = { code: number; headers: IncomingHttpHeaders; body: Buffer };

function call(
  method: string,
  path: string,
  options: { body?: string | Buffer; headers?: Record<string, string>; token?: string } = {},
): Promise<Answer> {
  const { body, headers = {}, token = server.token } = options;
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: '127.0.0.1',
        port: server.port,
        ca: server.caPem,
        method,
        path,
        agent: false,
        headers: {
          ...(token ? { authorization: `Bearer ${token}` } : {}),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            code: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

test('HTTP/1.1: create, read, and a HEAD without a body', async () => {
  const body = JSON.stringify({ metadata: { name: 'over-http1' }, data: { a: 'ä' } });
  assert.equal((await call('POST', CONFIG_MAPS, { body })).code, 201);
  const got = await call('GET', `${CONFIG_MAPS}/over-http1`);
  assert.equal(got.code, 200);
  assert.equal(JSON.parse(got.body.toString()).data.a, 'ä');
  assert.equal(Number(got.headers['content-length']), got.body.length);
  const head = await call('HEAD', `${CONFIG_MAPS}/over-http1`);
  assert.equal(head.code, 200);
  assert.equal(head.body.length, 0);
});

test('HTTP/2 by ALPN: many requests on one connection, and a watch beside them', async () => {
  const session = connectHttp2(server.url, { ca: server.caPem });
  const send = (method: string, path: string, body?: string) => {
    const stream = session.request({
      ':method': method,
      ':path': path,
      authorization: `Bearer ${server.token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    });
    stream.end(body);
    return stream;
  };
  const whole = async (stream: ReturnType<typeof send>): Promise<string> => {
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    return text;
  };
  const watch = send('GET', `${CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Dh2`);
  const first = new Promise<string>((resolve) => watch.once('data', (c) => resolve(String(c))));
  await new Promise((resolve) => watch.once('response', resolve));
  const made = await whole(send('POST', CONFIG_MAPS, JSON.stringify({ metadata: { name: 'h2' } })));
  assert.equal(JSON.parse(made).metadata.name, 'h2');
  const event = JSON.parse(await first);
  assert.equal(event.type, 'ADDED');
  const many = await Promise.all(
    Array.from({ length: 50 }, () => whole(send('GET', `${CONFIG_MAPS}/h2`))),
  );
  assert.ok(many.every((text) => JSON.parse(text).metadata.name === 'h2'));
  watch.close();
  await new Promise<void>((resolve) => session.close(() => resolve()));
});

test('a body over the limit answers 413 and the server goes on', async () => {
  const body = Buffer.alloc(3 * 1024 * 1024 + 1, 0x20);
  const answer = await call('POST', CONFIG_MAPS, { body });
  assert.equal(answer.code, 413);
  assert.equal(JSON.parse(answer.body.toString()).reason, 'RequestEntityTooLarge');
  assert.equal((await call('GET', '/healthz')).code, 200);
});

test('wrong and missing credentials', async () => {
  assert.equal((await call('GET', CONFIG_MAPS, { token: 'wrong' })).code, 401);
  const anonymous = await call('GET', CONFIG_MAPS, { token: '' });
  assert.equal(anonymous.code, 403);
  assert.match(JSON.parse(anonymous.body.toString()).message, /system:anonymous/);
});

test('large lists are compressed for who takes gzip, and the same', async () => {
  const data = { text: 'x'.repeat(100_000) };
  for (const name of ['large-1', 'large-2']) {
    const body = JSON.stringify({ metadata: { name, labels: { large: 'yes' } }, data });
    assert.equal((await call('POST', CONFIG_MAPS, { body })).code, 201);
  }
  const path = `${CONFIG_MAPS}?labelSelector=large`;
  const plain = await call('GET', path);
  const packed = await call('GET', path, { headers: { 'accept-encoding': 'gzip' } });
  assert.equal(plain.headers['content-encoding'], undefined);
  assert.equal(packed.headers['content-encoding'], 'gzip');
  assert.ok(packed.body.length < plain.body.length / 10);
  assert.deepEqual(
    JSON.parse(gunzipSync(packed.body).toString()).items,
    JSON.parse(plain.body.toString()).items,
  );
});

test('an unreadable request and an unknown upgrade do not hurt others', async () => {
  const garbage = connectTls({ host: '127.0.0.1', port: server.port, ca: server.caPem });
  garbage.resume();
  garbage.write('this is not HTTP\r\n\r\n');
  await new Promise((resolve) => garbage.once('close', resolve));
  const upgrade = connectTls({ host: '127.0.0.1', port: server.port, ca: server.caPem });
  upgrade.write(
    'GET /api/v1/namespaces/default/configmaps/x/exec HTTP/1.1\r\nhost: x\r\n' +
      `authorization: Bearer ${server.token}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n`,
  );
  const answer = await new Promise<string>((resolve) =>
    upgrade.once('data', (c) => resolve(String(c))),
  );
  assert.match(answer, /^HTTP\/1\.1 404 /);
  upgrade.destroy();
  assert.equal((await call('GET', '/livez')).code, 200);
});

test('stopping ends watches, frees the port and keeps what was acknowledged', async () => {
  const first = await startTestServer();
  const watching = new Promise<void>((resolve, reject) => {
    const request = httpsRequest(
      `${first.url}${CONFIG_MAPS}?watch=1`,
      { ca: first.caPem, headers: { authorization: `Bearer ${first.token}` } },
      (response) => {
        response.on('data', () => {});
        response.on('end', resolve);
      },
    );
    request.on('error', reject);
    request.end();
    request.on('response', () => {
      const start = performance.now();
      first.close().then(() => {
        assert.ok(performance.now() - start < 8_000);
      }, reject);
    });
  });
  await watching;
});
