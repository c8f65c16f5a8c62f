import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { encodeBody } from '#proto/kubernetes-encode.ts';
import { messageNameOf } from '#proto/kubernetes-messages.ts';
import { decodeMessage, readEnvelope } from '#proto/kubernetes.ts';
import { PROTOBUF } from '#apiserver/negotiate.ts';
import type { TestServer } from '#apiserver/testing.ts';
import { ADMIN, startTestServer } from '#apiserver/testing.ts';

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const MAPS = '/api/v1/namespaces/default/configmaps';

type Answer = { code: number; headers: Record<string, string>; body: Buffer };

async function send(
  method: string,
  url: string,
  body: Uint8Array | null,
  headers: Record<string, string>,
  signal = new AbortController().signal,
): Promise<Answer> {
  const response = await server.handle({ method, url, headers, body, signal, user: ADMIN });
  const chunks: Uint8Array[] = [];
  if (typeof response.body === 'string') chunks.push(Buffer.from(response.body));
  else if (response.body instanceof Uint8Array) chunks.push(response.body);
  else for await (const chunk of response.body) chunks.push(chunk);
  return { code: response.status, headers: response.headers, body: Buffer.concat(chunks) };
}

const get = (url: string, accept = PROTOBUF) => send('GET', url, null, { accept });

type Decoded = Record<string, unknown> & { metadata?: Record<string, unknown> };

function decode(body: Buffer): Decoded {
  const { apiVersion, kind, raw } = readEnvelope(body);
  return { apiVersion, kind, ...decodeMessage(raw, messageNameOf(apiVersion, kind) ?? '') };
}

test('objects made and read in protobuf are those that JSON shows', async () => {
  const body = encodeBody({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'binary', labels: { a: 'b' } },
    data: { text: 'ä' },
  });
  const headers = { 'content-type': PROTOBUF, accept: PROTOBUF };
  const created = await send('POST', MAPS, body ?? null, headers);
  assert.deepEqual([created.code, created.headers['content-type']], [201, PROTOBUF]);
  const json = (await server.call('GET', `${MAPS}/binary`)).body;
  assert.equal('nodeName' in json || 'generateName' in (json['metadata'] ?? {}), false);
  assert.deepEqual(decode(created.body), json);
  assert.deepEqual(decode((await get(`${MAPS}/binary`)).body), json);

  const list = await get(`${MAPS}?limit=500`);
  const { items, ...head } = decode(list.body) as Decoded & { items: Decoded[] };
  assert.equal(head['kind'], 'ConfigMapList');
  const asJson = (await server.call('GET', MAPS)).body;
  assert.deepEqual(head.metadata, asJson['metadata']);
  assert.deepEqual(items, asJson['items']);
});

test('every stored kind can be listed in protobuf', async () => {
  const paths = ['/api/v1', '/apis'];
  const groups = (await server.call('GET', '/apis')).body['groups'];
  for (const { versions } of groups as unknown as { versions: { groupVersion: string }[] }[]) {
    for (const { groupVersion } of versions) paths.push(`/apis/${groupVersion}`);
  }
  let listed = 0;
  for (const path of paths) {
    const { resources = [] } = (await server.call('GET', path)).body as unknown as {
      resources?: { name: string; verbs: string[]; kind: string }[];
    };
    for (const { name, verbs } of resources) {
      if (!verbs.includes('list') || path.includes('metrics')) continue;
      const answer = await get(`${path}/${name}`);
      assert.equal(answer.code, 200, `${path}/${name}`);
      assert.equal(answer.headers['content-type'], PROTOBUF, `${path}/${name}`);
      const { items = [] } = decode(answer.body) as { items?: unknown[] };
      const json = await server.call('GET', `${path}/${name}`);
      assert.deepEqual(withoutEmpty(items), withoutEmpty(json.body['items']), `${path}/${name}`);
      listed++;
    }
  }
  assert.ok(listed > 40, `only ${listed} kinds`);
});

/** Protobuf does not tell an empty list, map or text from none. */
function withoutEmpty(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_key, item: unknown) => {
    const isEmpty = typeof item === 'object' && item !== null && Object.keys(item).length === 0;
    return isEmpty || item === null || item === '' ? undefined : item;
  });
}

test('failures, deletions and metadata are protobuf too; tables are not', async () => {
  const missing = await get(`${MAPS}/missing`);
  assert.deepEqual([missing.code, missing.headers['content-type']], [404, PROTOBUF]);
  const status = decode(missing.body);
  assert.deepEqual([status['kind'], status['reason'], status['code']], ['Status', 'NotFound', 404]);

  const as = `${PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1`;
  const metadata = decode((await get(`${MAPS}/binary`, as)).body);
  assert.deepEqual(
    [metadata['apiVersion'], metadata['kind'], metadata.metadata?.['name'], metadata['data']],
    ['meta.k8s.io/v1', 'PartialObjectMetadata', 'binary', undefined],
  );
  const list = decode((await get(MAPS, as.replace('Metadata', 'MetadataList'))).body);
  assert.equal(list['kind'], 'PartialObjectMetadataList');
  assert.ok((list['items'] as Decoded[]).some((item) => item.metadata?.['name'] === 'binary'));

  const table = 'as=Table;g=meta.k8s.io;v=v1';
  assert.equal((await get(MAPS, `${PROTOBUF};${table}`)).code, 406);
  const fallback = await get(MAPS, `${PROTOBUF};${table},application/json;${table}`);
  assert.equal(fallback.headers['content-type'], 'application/json');
  assert.equal(decode((await get('/api/v1')).body)['kind'], 'APIResourceList');
  assert.equal((await get('/version', `${PROTOBUF},application/json`)).code, 200);
});

test('a watch in protobuf is frames with their length before them', async () => {
  const stop = new AbortController();
  const url = `${MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=a=b`;
  const headers = { accept: `${PROTOBUF};stream=watch` };
  const request = { method: 'GET', url, headers, body: null, signal: stop.signal, user: ADMIN };
  const response = await server.handle(request);
  assert.equal(response.headers['content-type'], `${PROTOBUF};stream=watch`);
  const events: { type: unknown; object: Decoded }[] = [];
  let bytes = Buffer.alloc(0);
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE(0)) {
      const end = 4 + bytes.readUInt32BE(0);
      events.push(readFrame(bytes.subarray(4, end)));
      bytes = bytes.subarray(end);
    }
    if (events.length === 2) {
      const data = JSON.stringify({ data: { text: 'b' } });
      const patch = { 'content-type': 'application/merge-patch+json' };
      await server.call('PATCH', `${MAPS}/binary`, data, patch);
      await server.call('DELETE', `${MAPS}/binary`);
    }
    if (events.length >= 4) stop.abort();
  }
  assert.deepEqual(
    events.map(({ type }) => type),
    ['ADDED', 'BOOKMARK', 'MODIFIED', 'DELETED'],
  );
  const [added, bookmark, modified, deleted] = events.map(({ object }) => object);
  assert.deepEqual(bookmark?.metadata?.['annotations'], { 'k8s.io/initial-events-end': 'true' });
  assert.equal(added?.['kind'], 'ConfigMap');
  assert.deepEqual([modified?.['data'], deleted?.['data']], [{ text: 'b' }, { text: 'b' }]);
  assert.ok(
    Number(deleted?.metadata?.['resourceVersion']) >
      Number(modified?.metadata?.['resourceVersion']),
  );
});

/** A WatchEvent is a message by itself; its object is a whole body in bytes. */
function readFrame(frame: Buffer): { type: unknown; object: Decoded } {
  const typeEnd = 2 + (frame[1] ?? 0);
  assert.equal(frame[0], 0x0a);
  return {
    type: frame.subarray(2, typeEnd).toString(),
    object: decode(frame.subarray(frame.indexOf('k8s\0', 0, 'latin1'))),
  };
}

test('CBOR is refused by name; a body without a type is JSON', async () => {
  const cbor = Buffer.from([0xd9, 0xd9, 0xf7, 0xa0]);
  const refused = await send('POST', MAPS, cbor, { 'content-type': 'application/cbor' });
  const status = JSON.parse(refused.body.toString()) as Record<string, unknown>;
  assert.deepEqual([refused.code, status['reason']], [415, 'UnsupportedMediaType']);
  assert.match(String(status['message']), /unknown format - accepted media types include: app/);
  const type = 'application/apply-patch+cbor';
  const patch = await send('PATCH', `${MAPS}/x?fieldManager=m`, cbor, { 'content-type': type });
  assert.equal(patch.code, 415);
  const json = Buffer.from('{"metadata":{"name":"untyped"}}');
  assert.equal((await send('POST', MAPS, json, {})).code, 201);
});
