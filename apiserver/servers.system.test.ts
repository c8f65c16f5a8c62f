import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import type { TestEtcd } from '#apiserver/store/etcd-testing.ts';
import { findEtcd, startEtcd } from '#apiserver/store/etcd-testing.ts';
import { openStore } from '#apiserver/store/open-store.ts';
import type { TestServer } from '#apiserver/testing.ts';
import { ADMIN, startTestServer } from '#apiserver/testing.ts';

/** Several API servers on one etcd are one API. */

const skip = findEtcd() === undefined && 'etcd is not installed (package etcd-server)';
const MAPS = '/api/v1/namespaces/default/configmaps';

type Pair = { etcd: TestEtcd; one: TestServer; two: TestServer };

async function withPair(run: (pair: Pair) => Promise<void>): Promise<void> {
  const etcd = await startEtcd();
  const servers: TestServer[] = [];
  try {
    const options = { etcdServers: [etcd.endpoint] };
    servers.push(...(await Promise.all([startTestServer(options), startTestServer(options)])));
    const [one, two] = servers as [TestServer, TestServer];
    await run({ etcd, one, two });
  } finally {
    await Promise.all(servers.map((server) => server.close()));
    await etcd.stop();
  }
}

type Event = { type: string; object: { metadata: { name: string; resourceVersion: string } } };

/** Follows a watch until `enough` says so; the events in order. */
async function follow(
  server: TestServer,
  query: string,
  enough: (events: readonly Event[]) => boolean,
): Promise<Event[]> {
  const stop = new AbortController();
  const url = `${MAPS}?watch=1&${query}`;
  const { signal } = stop;
  const request = { method: 'GET', url, headers: {}, body: null, signal, user: ADMIN };
  const { status, body }: ServerResponse = await server.handle(request);
  assert.equal(status, 200);
  const events: Event[] = [];
  let rest = '';
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    const lines = (rest + Buffer.from(chunk).toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) events.push(JSON.parse(line) as Event);
    if (enough(events)) stop.abort();
  }
  return events;
}

const create = async (server: TestServer, name: string): Promise<string> => {
  const made = await server.call('POST', MAPS, { metadata: { name } });
  assert.equal(made.code, 201, made.text);
  return String(made.body['metadata']?.['resourceVersion']);
};

const namesOf = (body: unknown): string[] =>
  (body as { items: { metadata: { name: string } }[] }).items.map(({ metadata }) => metadata.name);

test('what one server has acknowledged, the other shows', { skip, timeout: 60_000 }, () =>
  withPair(async ({ one, two }) => {
    for (let n = 0; n < 40; n++) {
      const [writer, reader] = n % 2 === 0 ? [one, two] : [two, one];
      const name = `own-${n}`;
      const version = await create(writer, name);
      // The newest of one object, of all, and no older than a version, all from the other server.
      const got = await reader.call('GET', `${MAPS}/${name}`);
      assert.deepEqual([got.code, got.body['metadata']?.['resourceVersion']], [200, version]);
      assert.ok(namesOf((await reader.call('GET', MAPS)).body).includes(name));
      const notOlder = `${MAPS}?resourceVersion=${version}&resourceVersionMatch=NotOlderThan`;
      assert.ok(namesOf((await reader.call('GET', notOlder)).body).includes(name));
      const patched = await reader.call('PATCH', `${MAPS}/${name}`, '{"data":{"a":"b"}}', {
        'content-type': 'application/merge-patch+json',
      });
      assert.equal(patched.code, 200);
      // A write with the version before that is refused by both.
      const stale = { metadata: { name, resourceVersion: version }, data: { a: 'c' } };
      assert.equal((await writer.call('PUT', `${MAPS}/${name}`, stale)).code, 409);
      assert.equal((await reader.call('PUT', `${MAPS}/${name}`, stale)).code, 409);
      assert.equal((await writer.call('DELETE', `${MAPS}/${name}`)).code, 200);
      assert.equal((await reader.call('GET', `${MAPS}/${name}`)).code, 404);
      assert.equal((await reader.call('DELETE', `${MAPS}/${name}`)).code, 404);
    }
  }),
);

test('writers on both servers never overwrite each other', { skip, timeout: 60_000 }, () =>
  withPair(async ({ one, two }) => {
    await create(one, 'counter');
    const rounds = 25;
    await Promise.all(
      [one, two, one, two].map(async (server) => {
        for (let done = 0; done < rounds; ) {
          const { body } = await server.call('GET', `${MAPS}/counter`);
          const data = { n: String(Number(body['data']?.['n'] ?? 0) + 1) };
          const put = await server.call('PUT', `${MAPS}/counter`, {
            metadata: body['metadata'],
            data,
          });
          if (put.code === 200) done++;
          else assert.equal(put.code, 409, put.text);
        }
      }),
    );
    const { body } = await two.call('GET', `${MAPS}/counter`);
    assert.equal(body['data']?.['n'], String(4 * rounds));
  }),
);

test(
  'a watch goes on at the other server, and both show one order',
  { skip, timeout: 60_000 },
  () =>
    withPair(async ({ one, two }) => {
      const from = await create(one, 'start');
      const total = 60;
      const all = (events: readonly Event[]): boolean => events.length >= total;
      const watching = [one, two].map((server) => follow(server, `resourceVersion=${from}`, all));
      const half = follow(one, `resourceVersion=${from}`, (events) => events.length >= total / 2);
      await Promise.all(
        Array.from({ length: total }, (_, n) => create(n % 2 === 0 ? one : two, `e-${n}`)),
      );
      const [left = [], right = []] = await Promise.all(watching);
      assert.deepEqual(left, right);
      const versions = left.map(({ object }) => Number(object.metadata.resourceVersion));
      assert.deepEqual(
        versions,
        versions.toSorted((a, b) => a - b),
      );
      assert.equal(new Set(left.map(({ object }) => object.metadata.name)).size, total);
      // What the first server had not told when it was left, the second tells: no more, no less.
      const before = await half;
      const last = before.at(-1)?.object.metadata.resourceVersion ?? '';
      const missing = total - before.length;
      const after =
        missing === 0
          ? []
          : await follow(two, `resourceVersion=${last}`, (events) => events.length >= missing);
      assert.deepEqual([...before, ...after], left);
    }),
);

test(
  'pages of one list come from both servers and are one snapshot',
  { skip, timeout: 60_000 },
  () =>
    withPair(async ({ one, two }) => {
      const names = Array.from({ length: 25 }, (_, n) => `page-${String(n).padStart(2, '0')}`);
      for (const name of names) await create(one, name);
      const selector = encodeURIComponent('metadata.name!=kube-root-ca.crt');
      let path = `${MAPS}?limit=6&fieldSelector=${selector}`;
      const seen: string[] = [];
      const versions = new Set<string>();
      for (let page = 0; path !== ''; page++) {
        const { code, body, text } = await (page % 2 === 0 ? one : two).call('GET', path);
        assert.equal(code, 200, text);
        seen.push(...namesOf(body));
        versions.add(String(body['metadata']?.['resourceVersion']));
        // Later pages must not show this.
        await two.call('DELETE', `${MAPS}/page-2${page}`);
        await create(one, `page-99-${page}`);
        const next = body['metadata']?.['continue'];
        path = next
          ? `${MAPS}?limit=6&fieldSelector=${selector}&continue=${encodeURIComponent(next)}`
          : '';
      }
      assert.deepEqual(seen, names);
      assert.equal(versions.size, 1);
    }),
);

test('what one server compacts is gone for the other too', { skip, timeout: 60_000 }, () =>
  withPair(async ({ etcd, one, two }) => {
    for (let n = 0; n < 10; n++) await create(one, `old-${n}`);
    const page = await one.call('GET', `${MAPS}?limit=4`);
    const first = page.body['metadata'];
    await create(two, 'new');
    // As a third server would, at the end of its period.
    const store = await openStore(
      { etcdServers: [etcd.endpoint] },
      { clock: systemClock, log: silentLog },
    );
    await store.compact(await store.revision());
    await store.close();
    for (const server of [one, two]) {
      const token = encodeURIComponent(String(first?.['continue']));
      const gone = await server.call('GET', `${MAPS}?limit=4&continue=${token}`);
      assert.deepEqual([gone.code, gone.body['reason']], [410, 'Expired']);
      // The answer says how to go on without the snapshot.
      const fresh = encodeURIComponent(String(gone.body['metadata']?.['continue']));
      const rest = await server.call('GET', `${MAPS}?continue=${fresh}`);
      assert.equal(rest.code, 200);
      assert.deepEqual(
        [...namesOf(page.body), ...namesOf(rest.body)].filter((name) => name.startsWith('old-')),
        Array.from({ length: 10 }, (_, n) => `old-${n}`),
      );
    }
    // A server that has not seen the past cannot tell it.
    const late = await startTestServer({ etcdServers: [etcd.endpoint] });
    const [event] = await follow(late, 'resourceVersion=2', (events) => events.length > 0);
    assert.equal(event?.type, 'ERROR');
    assert.match(JSON.stringify(event), /"reason":"Expired","code":410/);
    await late.close();
  }),
);

test('when one server is gone the other goes on, its watches too', { skip, timeout: 60_000 }, () =>
  withPair(async ({ one, two }) => {
    const from = await create(one, 'before');
    const watching = follow(two, `resourceVersion=${from}`, (events) => events.length >= 20);
    const writes = Array.from({ length: 20 }, async (_, n) => {
      const name = `gone-${n}`;
      // A server that stops answers what it had taken on; whoever is refused asks the other one.
      const made = await one
        .call('POST', MAPS, { metadata: { name } })
        .catch(() => ({ code: 503, text: '' }));
      if (made.code === 201) return;
      const again = await two.call('POST', MAPS, { metadata: { name } });
      assert.ok(again.code === 201 || again.code === 409, again.text);
    });
    const closed = one.close();
    await Promise.all(writes);
    await closed;
    const events = await watching;
    assert.equal(new Set(events.map(({ object }) => object.metadata.name)).size, 20);
    await create(two, 'after');
    assert.equal((await two.call('GET', '/readyz')).text, 'ok');
  }),
);
