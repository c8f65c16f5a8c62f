import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import { after, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { systemClock } from '#base/clock.ts';
import type { Container } from '#api/types.ts';
import { createHandlers, type Handler, portOf } from '#node-agent/containers/handlers.ts';
import { RuntimeError, type RuntimeService } from '#node-agent/runtime/service.ts';

const runtime = {
  execSync: async (_id: string, command: readonly string[]) => {
    if (command[0] === 'hang') throw new RuntimeError('DeadlineExceeded', 'late');
    if (command[0] === 'away') throw new RuntimeError('Unavailable', 'no runtime');
    const bad = command[0] === 'false';
    return { stdout: Buffer.from('out'), stderr: Buffer.from('err'), exitCode: bad ? 1 : 0 };
  },
} as unknown as RuntimeService;
const run = createHandlers({ runtime, clock: systemClock });

const web = createServer((request, response) => {
  if (request.url === '/slow') return;
  const to = { '/away': 'http://elsewhere.test/', '/led': '/bad', '/round': '/round' };
  const location = to[request.url as keyof typeof to];
  if (location) response.setHeader('location', location);
  const moved = location !== undefined || request.url === '/moved';
  response.statusCode = request.url === '/bad' ? 503 : moved ? 302 : 200;
  response.end(`${request.headers.host} ${request.headers['x-test'] ?? ''}`);
});
await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
const port = (web.address() as AddressInfo).port;
after(() => {
  web.closeAllConnections();
  web.close();
});

const container: Container = { name: 'c', ports: [{ name: 'web', containerPort: port }] };
const check = (handler: Handler, timeoutMs = 2_000) =>
  run(handler, { containerId: 'id', container, podIp: '127.0.0.1' }, { timeoutMs });

test('ports by number, numeric text, or name', () => {
  assert.equal(portOf(80, container), 80);
  assert.equal(portOf('81', container), 81);
  assert.equal(portOf('web', container), port);
  assert.ok(Number.isNaN(portOf('none', container)));
});

test('http: 2xx and 3xx are fine, headers are sent, failures say why', async () => {
  const headers = [
    { name: 'X-Test', value: 'yes' },
    { name: 'Host', value: 'example.test' },
  ];
  const good = await check({ httpGet: { port: 'web', path: 'x', httpHeaders: headers } });
  assert.deepEqual(good, { ok: true, output: 'example.test yes' });
  assert.equal((await check({ httpGet: { port, path: '/moved' } })).ok, true);
  const bad = await check({ httpGet: { port, path: '/bad' } });
  assert.deepEqual(bad, { ok: false, output: 'HTTP probe failed with statuscode: 503' });
  const slow = await check({ httpGet: { port, path: '/slow' } }, 50);
  assert.match(slow.output, /context deadline exceeded/);
  const refused = await check({ httpGet: { port: 1, path: '/' } });
  assert.equal(
    refused.output,
    'Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused',
  );
  const plain = await check({ httpGet: { port, path: '/', scheme: 'HTTPS' } });
  assert.match(plain.output, /: http: server gave HTTP response to HTTPS client$/);
  const away = await check({ httpGet: { port, path: '/away' } });
  assert.deepEqual([away.ok, away.warning], [true, true]);
  const led = await check({ httpGet: { port, path: '/led' } });
  assert.deepEqual(led, { ok: false, output: 'HTTP probe failed with statuscode: 503' });
  assert.match((await check({ httpGet: { port, path: '/round' } })).output, /stopped after 10/);
  assert.equal((await check({ httpGet: { port: 'none' } })).errored, true);
});

test('exec: exit code decides, time is limited', async () => {
  assert.deepEqual(await check({ exec: { command: ['true'] } }), { ok: true, output: 'outerr' });
  assert.equal((await check({ exec: { command: ['false'] } })).ok, false);
  assert.match((await check({ exec: { command: ['hang'] } })).output, /timed out after 2s/);
  const away = await check({ exec: { command: ['away'] } });
  assert.deepEqual(away, { ok: false, output: 'no runtime', errored: true });
});

test('tcp: a connection is enough', async () => {
  const tcp = createTcpServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve));
  const open = (tcp.address() as AddressInfo).port;
  assert.equal((await check({ tcpSocket: { port: open } })).ok, true);
  tcp.close();
  assert.match(
    (await check({ tcpSocket: { port: 1 } })).output,
    /^dial tcp 127.0.0.1:1: connect: connection refused$/,
  );
});

type Answer = grpc.sendUnaryData<Buffer>;
const raw = (bytes: Buffer): Buffer => bytes;
const CHECK = {
  path: '/grpc.health.v1.Health/Check',
  requestStream: false,
  responseStream: false,
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw,
} as const;

/** Serves grpc.health.v1 for services by name, with `served` as their states. */
async function healthServer(served: Readonly<Record<string, number>>, services = { Check: CHECK }) {
  const server = new grpc.Server();
  const Check = ({ request }: grpc.ServerUnaryCall<Buffer, Buffer>, done: Answer): void => {
    const reader = protobuf.Reader.create(request);
    const service = reader.len > 0 && reader.uint32() === 0x0a ? reader.string() : '';
    if (service === 'hangs') return;
    const status = served[service];
    if (status === undefined) done({ code: grpc.status.NOT_FOUND, details: 'unknown service' });
    else done(null, Buffer.from([8, status]));
  };
  server.addService(services, { Check });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { port, stop: () => server.forceShutdown() };
}

test('grpc: only SERVING is healthy, whatever else comes says what it was', async () => {
  const long = 'long.'.repeat(50);
  const health = await healthServer({ '': 1, well: 1, sick: 2, [long]: 1 });
  const other = await healthServer({}, { Check: { ...CHECK, path: '/other.Thing/Do' } } as never);
  try {
    const said = async (service?: string, timeoutMs?: number, open = health.port) => {
      const probe = { port: open, ...(service === undefined ? {} : { service }) };
      const { ok, output } = await check({ grpc: probe }, timeoutMs);
      return `${ok} ${output}`;
    };
    assert.equal(await said(), 'true service healthy');
    assert.equal(await said('well'), 'true service healthy');
    assert.equal(await said(long), 'true service healthy', 'a name of more than 127 bytes');
    assert.equal(await said('sick'), 'false service unhealthy (responded with "NOT_SERVING")');
    assert.match(await said('none'), /^false error: health rpc probe failed: unknown service/);
    assert.match(
      await said('hangs', 200),
      /^false timeout: health rpc did not complete within 0.2s$/,
    );
    assert.match(await said('', 2_000, other.port), /^false error: this server does not implement/);
    assert.match(await said('', 500, 1), /^false timeout: failed to connect service "127.0.0.1:1"/);
  } finally {
    health.stop();
    other.stop();
  }
});
