import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { TestServer } from '#apiserver/testing.ts';
import { ADMIN, startTestServer } from '#apiserver/testing.ts';

/** The generic verbs through the server's own door. */

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const MERGE = { 'content-type': 'application/merge-patch+json' };

async function create(name: string, fields: object = {}): Promise<string> {
  const { code, body } = await server.call('POST', CONFIG_MAPS, { metadata: { name }, ...fields });
  assert.equal(code, 201);
  return String(body['metadata']?.['resourceVersion']);
}

test('a write is seen by the read after it, whoever wins', async () => {
  await create('raced', { data: { n: '0' } });
  const patches = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      server.call('PATCH', `${CONFIG_MAPS}/raced`, { data: { [`k${i}`]: 'v' } }, MERGE),
    ),
  );
  assert.deepEqual([...new Set(patches.map(({ code }) => code))], [200]);
  const { body } = await server.call('GET', `${CONFIG_MAPS}/raced`);
  assert.equal(Object.keys(body['data'] ?? {}).length, 21);
});

test('of conditional updates to one version exactly one succeeds', async () => {
  const resourceVersion = await create('conditional');
  const codes = await Promise.all(
    Array.from({ length: 10 }, async (_, i) => {
      const object = { metadata: { name: 'conditional', resourceVersion }, data: { i: `${i}` } };
      return (await server.call('PUT', `${CONFIG_MAPS}/conditional`, object)).code;
    }),
  );
  assert.deepEqual(
    codes.toSorted((a, b) => a - b),
    [200, ...Array.from({ length: 9 }, () => 409)],
  );
});

test('generateName draws a name; a dry run stores nothing', async () => {
  const made = await server.call('POST', CONFIG_MAPS, { metadata: { generateName: 'gen-' } });
  assert.match(String(made.body['metadata']?.['name']), /^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  const dry = await server.call('POST', `${CONFIG_MAPS}?dryRun=All`, { metadata: { name: 'dry' } });
  assert.equal(dry.code, 201);
  assert.ok(dry.body['metadata']?.['uid']);
  assert.equal(dry.body['metadata']?.['resourceVersion'], undefined);
  assert.equal((await server.call('GET', `${CONFIG_MAPS}/dry`)).code, 404);
});

test('unknown fields warn, are ignored, or are refused', async () => {
  const body = { metadata: { name: 'strict' }, dta: { a: 'b' } };
  const strict = await server.call('POST', `${CONFIG_MAPS}?fieldValidation=Strict`, body);
  assert.equal(strict.code, 400);
  assert.match(String(strict.body['message']), /strict decoding error: unknown field "dta"/);
  const warned = await server.call('POST', CONFIG_MAPS, body);
  assert.equal(warned.code, 201);
  assert.equal(warned.headers['warning'], '299 - "unknown field \\"dta\\""');
  assert.equal(warned.body['dta'], undefined);
});

test('a watch sees every change of its selection once, in order, from any version', async () => {
  const from = await create('watched', { metadata: { name: 'watched', labels: { on: '1' } } });
  const patch = (labels: object) =>
    server.call('PATCH', `${CONFIG_MAPS}/watched`, { metadata: { labels } }, MERGE);
  await patch({ step: 'two' });
  await patch({ on: null });
  await patch({ on: '1' });
  await server.call('DELETE', `${CONFIG_MAPS}/watched`);
  const watch = async (query: string) => {
    const path = `${CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion=${from}&${query}`;
    const { text } = await server.call('GET', path);
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map(
        (line) =>
          JSON.parse(line) as { type: string; object: { metadata: { resourceVersion: string } } },
      );
  };
  const [all, some] = await Promise.all([watch(''), watch('labelSelector=on%3D1')]);
  assert.deepEqual(
    all.map(({ type }) => type),
    ['MODIFIED', 'MODIFIED', 'MODIFIED', 'DELETED'],
  );
  assert.deepEqual(
    some.map(({ type }) => type),
    ['MODIFIED', 'DELETED', 'ADDED', 'DELETED'],
  );
  const versions = all.map(({ object }) => Number(object.metadata.resourceVersion));
  assert.deepEqual(
    versions,
    versions.toSorted((a, b) => a - b),
  );
  assert.deepEqual(
    some.map(({ object }) => Number(object.metadata.resourceVersion)),
    versions,
  );
});

const request = (method: string, url: string, body?: object) =>
  server.handle({
    method,
    url,
    headers: { 'content-type': 'application/json' },
    body: body === undefined ? null : Buffer.from(JSON.stringify(body)),
    signal: new AbortController().signal,
    user: ADMIN,
  });

test('a change between the answer and the first read of a watch is not lost', async () => {
  const from = await create('early');
  for (const query of [`resourceVersion=${from}`, '']) {
    const selector = 'fieldSelector=metadata.name%3Dearly';
    const { body } = await request('GET', `${CONFIG_MAPS}?watch=1&${selector}&${query}`);
    const patched = await server.call(
      'PATCH',
      `${CONFIG_MAPS}/early`,
      { data: { at: query.length.toString() } },
      MERGE,
    );
    const chunks = body as AsyncIterable<Uint8Array>;
    const version = String(patched.body['metadata']?.['resourceVersion']);
    for await (const chunk of chunks) {
      const line = Buffer.from(chunk).toString();
      assert.ok(line.includes(`"resourceVersion":"${version}"`), line);
      break;
    }
  }
});

test('a watcher that does not read is cut, and others go on', async () => {
  await create('flood');
  const watch = await request('GET', `${CONFIG_MAPS}?watch=1`);
  const chunks = (watch.body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  await chunks.next();
  const text = 'x'.repeat(900_000);
  for (let i = 0; i < 20; i++) {
    const data = { text: `${i}${text}` };
    const { code } = await server.call('PATCH', `${CONFIG_MAPS}/flood`, { data }, MERGE);
    assert.equal(code, 200);
  }
  let seen = 0;
  for (;;) {
    const { done } = await chunks.next();
    if (done) break;
    seen++;
  }
  assert.ok(seen < 20, `${seen} chunks were still delivered`);
});

test('initial events end with a bookmark', async () => {
  await create('initial');
  const path =
    `${CONFIG_MAPS}?watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true` +
    '&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Dinitial';
  const { text } = await server.call('GET', path);
  const [added, bookmark] = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(added.type, 'ADDED');
  assert.equal(bookmark.type, 'BOOKMARK');
  assert.equal(bookmark.object.metadata.annotations['k8s.io/initial-events-end'], 'true');
});

test('a bookmark among tables is a row with its metadata', async () => {
  const path =
    `${CONFIG_MAPS}?watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true` +
    '&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Dnone';
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io';
  const { text } = await server.call('GET', path, undefined, { accept });
  const { type, object } = JSON.parse(text.split('\n')[0] ?? '');
  assert.equal(type, 'BOOKMARK');
  assert.equal(object.kind, 'Table');
  assert.equal(object.rows.length, 1);
  assert.equal(object.rows[0].cells.length, object.columnDefinitions.length);
  const { metadata } = object.rows[0].object;
  assert.equal(metadata.annotations['k8s.io/initial-events-end'], 'true');
  assert.equal(metadata.resourceVersion, object.metadata.resourceVersion);
});

test('a request may name a timeout, which has to be one', async () => {
  for (const timeout of ['0s', '3m', '1.5s']) {
    assert.equal((await server.call('GET', `/version?timeout=${timeout}`)).code, 200, timeout);
  }
  const { code, body } = await server.call('GET', `${CONFIG_MAPS}?timeout=soon`);
  assert.equal(code, 400);
  assert.match(
    String(body['message']),
    /invalid timeout specified in the request URL - time: invalid duration "soon"/,
  );
});

test('pages are one snapshot, whatever happens between them', async () => {
  const SECRETS = '/api/v1/namespaces/default/secrets';
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    await server.call('POST', SECRETS, { metadata: { name } });
  }
  const seen: string[] = [];
  let next = '';
  do {
    const path = `${SECRETS}?limit=2${next ? `&continue=${next}` : ''}`;
    const { items, metadata } = JSON.parse((await server.call('GET', path)).text);
    for (const item of items) seen.push(item.metadata.name);
    next = metadata.continue ?? '';
    await server.call('DELETE', `${SECRETS}/${seen.length === 2 ? 'c' : 'e'}`);
    await server.call('POST', SECRETS, { metadata: { name: `z${seen.length}` } });
  } while (next);
  assert.deepEqual(seen, ['a', 'b', 'c', 'd', 'e']);
});

test('a finalizer holds an object until it is gone, and its removal removes the object', async () => {
  await create('held', { metadata: { name: 'held', finalizers: ['example.com/hold'] } });
  const deleted = await server.call('DELETE', `${CONFIG_MAPS}/held`);
  assert.ok(deleted.body['metadata']?.['deletionTimestamp']);
  const again = await server.call('POST', CONFIG_MAPS, { metadata: { name: 'held' } });
  assert.equal(again.code, 409);
  assert.match(String(again.body['message']), /^object is being deleted: /);
  await server.call('PATCH', `${CONFIG_MAPS}/held`, { metadata: { finalizers: null } }, MERGE);
  assert.equal((await server.call('GET', `${CONFIG_MAPS}/held`)).code, 404);
});

test('answers come as YAML, table or metadata when asked for', async () => {
  await create('shown', { data: { k: 'v' } });
  const as = (accept: string, path = `${CONFIG_MAPS}/shown`) =>
    server.call('GET', path, undefined, { accept });
  const yaml = await as('application/yaml');
  assert.match(yaml.text, /^apiVersion: v1\ndata:\n {2}k: v\nkind: ConfigMap\n/);
  const table = await as('application/json;as=Table;v=v1;g=meta.k8s.io');
  assert.equal(table.body['kind'], 'Table');
  assert.deepEqual(JSON.parse(table.text).rows[0].cells.slice(0, 2), ['shown', 1]);
  const partial = await as('application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io');
  assert.equal(partial.body['kind'], 'PartialObjectMetadata');
  assert.equal(partial.body['data'], undefined);
  assert.equal((await as('text/html')).code, 406);
});

test('a failure inside is a 500 Status, not the end', async () => {
  const { code, body } = await server.call('GET', `${CONFIG_MAPS}?resourceVersion=abc`);
  assert.equal(code, 500);
  assert.equal(body['kind'], 'Status');
  assert.equal((await server.call('GET', '/readyz')).text, 'ok');
});
