import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { StatusError } from '#api/status.ts';
import type { WatchEvent } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { configMaps, namespaces } from '#client/resources.ts';
import { TransportError } from '#client/transport.ts';

type Seen = { method: string; url: string; headers: http.IncomingHttpHeaders; body: string };
type Answer = (request: Seen, response: http.ServerResponse) => void;

let answer: Answer = () => {};
const seen: Seen[] = [];
const server = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString();
    const { method = '', url = '', headers } = request;
    seen.push({ method, url, headers, body });
    answer({ method, url, headers, body }, response);
  });
});
let port = 0;

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function connect() {
  seen.length = 0;
  const transport = httpsTransport({ server: `http://127.0.0.1:${port}/prefix`, token: 'secret' });
  return { transport, api: createApi(transport, { userAgent: 'test/1' }) };
}

const json =
  (value: unknown, status = 200): Answer =>
  (_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };

test('requests carry path, token, agent and typed bodies', async () => {
  const { api, transport } = connect();
  answer = json({ metadata: { name: 'a' } });
  const key = { namespace: 'd', name: 'a' };
  await api.get(configMaps, key);
  await api.create(configMaps, { metadata: { namespace: 'd', name: 'a' } }, { dryRun: true });
  await api.patch(configMaps, key, { type: 'apply', body: {}, fieldManager: 'me', force: true });
  await api.list(namespaces, { labelSelector: 'a=b,c!=d', limit: 5 });
  await api.delete(configMaps, key, { preconditions: { uid: 'u' }, gracePeriodSeconds: 0 });
  assert.deepEqual(
    seen.map((r) => `${r.method} ${r.url}`),
    [
      'GET /prefix/api/v1/namespaces/d/configmaps/a',
      'POST /prefix/api/v1/namespaces/d/configmaps?dryRun=All',
      'PATCH /prefix/api/v1/namespaces/d/configmaps/a?fieldManager=me&force=true',
      'GET /prefix/api/v1/namespaces?labelSelector=a%3Db%2Cc%21%3Dd&limit=5',
      'DELETE /prefix/api/v1/namespaces/d/configmaps/a',
    ],
  );
  assert.equal(seen[0]?.headers.authorization, 'Bearer secret');
  assert.equal(seen[0]?.headers['user-agent'], 'test/1');
  assert.equal(JSON.parse(seen[1]?.body ?? '').kind, 'ConfigMap');
  assert.equal(seen[2]?.headers['content-type'], 'application/apply-patch+yaml');
  assert.deepEqual(JSON.parse(seen[4]?.body ?? '').preconditions, { uid: 'u' });
  await transport.close();
});

test('list items learn their kind, which the wire leaves out', async () => {
  const { api, transport } = connect();
  answer = json({ metadata: { resourceVersion: '7' }, items: [{ metadata: { name: 'a' } }] });
  const list = await api.list(configMaps, { namespace: 'd' });
  assert.equal(list.items[0]?.kind, 'ConfigMap');
  assert.equal(list.items[0]?.apiVersion, 'v1');
  await transport.close();
});

test('a Status becomes a StatusError, another error page too', async () => {
  const { api, transport } = connect();
  const key = { namespace: 'd', name: 'a' };
  answer = json({ kind: 'Status', code: 404, reason: 'NotFound', message: 'gone' }, 404);
  await assert.rejects(
    api.get(configMaps, key),
    (e) => e instanceof StatusError && e.reason === 'NotFound' && e.message === 'gone',
  );
  answer = (_, response) => {
    response.writeHead(503);
    response.end('<h1>busy</h1>');
  };
  await assert.rejects(
    api.get(configMaps, key),
    (e) => e instanceof StatusError && e.code === 503 && e.message === '<h1>busy</h1>',
  );
  await transport.close();
});

test('no answer is a TransportError', async () => {
  const { api, transport } = connect();
  answer = (_, response) => response.destroy();
  await assert.rejects(api.get(namespaces, { name: 'a' }), TransportError);
  await transport.close();
});

test('a watch decodes lines however they are cut, and ends with the reader', async () => {
  const { api, transport } = connect();
  const line = (name: string) =>
    `${JSON.stringify({ type: 'ADDED', object: { metadata: { name } } })}\n`;
  const closed = Promise.withResolvers<void>();
  answer = (_, response) => {
    const bytes = Buffer.from(line('é') + line('b') + line('c'));
    const cuts = [0, 44, 45, 60, bytes.length];
    response.once('close', () => closed.resolve());
    const write = (i: number): void => {
      if (i + 1 >= cuts.length) return;
      response.write(bytes.subarray(cuts[i], cuts[i + 1]), () => setImmediate(write, i + 1));
    };
    write(0);
  };
  const names: string[] = [];
  for await (const batch of api.watch(configMaps)) {
    for (const event of batch as WatchEvent<{ metadata: { name?: string } }>[]) {
      if (event.type !== 'BOOKMARK') names.push(event.object.metadata.name ?? '');
    }
    if (names.length === 3) break;
  }
  assert.deepEqual(names, ['é', 'b', 'c']);
  await closed.promise;
  await transport.close();
});

test('an ERROR event and an aborted signal end a watch by throwing', async () => {
  const { api, transport } = connect();
  const status = { kind: 'Status', code: 410, reason: 'Expired', message: 'old' };
  answer = (_, response) =>
    response.write(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
  const read = async (signal?: AbortSignal): Promise<void> => {
    for await (const _ of api.watch(configMaps, { signal })) assert.fail('no event expected');
  };
  await assert.rejects(read(), (e) => e instanceof StatusError && e.code === 410);
  const stop = new AbortController();
  answer = (_, response) => {
    response.write('\n');
    stop.abort(new Error('enough'));
  };
  await assert.rejects(read(stop.signal), /enough/);
  await transport.close();
});
