import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Draft } from '#apiserver/fuzz-requests.ts';
import {
  MUTATIONS,
  NAMESPACE,
  STORED,
  bytesOf,
  draft,
  pick,
  urlOf,
} from '#apiserver/fuzz-requests.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import type { TestServer } from '#apiserver/testing.ts';
import { ADMIN, startTestServer } from '#apiserver/testing.ts';

/**
 * Requests that are right but for a few places, by a seed. Whatever is wrong with them, the answer
 * is a success or a Status that says so, it comes soon, and the server stays as it was.
 * FUZZ_SEED and FUZZ_REQUESTS in the environment look elsewhere, and longer.
 */

const SEED = Number(process.env['FUZZ_SEED'] ?? 1);
const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 3_000);
/** One answer takes at most this long, on a busy machine too. */
const ANSWER_MS = 5_000;
const MEMORY_BYTES = 512 * 1024 * 1024;

/** Failures of the server's own that are upstream's answer as well. */
const EXPLAINED_500 =
  /resourceVersion: Invalid value|unknown patch type: |failed to create typed patch object|no preferred addresses found/;

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

/** The answer and its whole body; a stream's beginning. */
async function ask(it: Draft): Promise<{ answer: ServerResponse; text: string }> {
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(new Error('too late')), ANSWER_MS);
  const request = {
    method: it.method,
    url: urlOf(it),
    headers: it.headers,
    body: bytesOf(it),
    signal: stop.signal,
    ...(it.headers['authorization'] === undefined ? { user: ADMIN } : {}),
  };
  try {
    const answer = await Promise.race([
      server.handle(request),
      new Promise<never>((_, reject) =>
        stop.signal.addEventListener('abort', () => reject(stop.signal.reason as Error)),
      ),
    ]);
    const { body } = answer;
    if (typeof body === 'string') return { answer, text: body };
    if (body instanceof Uint8Array) return { answer, text: Buffer.from(body).toString('latin1') };
    setImmediate(() => stop.abort(new Error('enough')));
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part);
    return { answer, text: Buffer.concat(parts).toString('latin1') };
  } finally {
    clearTimeout(late);
    stop.abort();
  }
}

function check(it: Draft, { answer, text }: { answer: ServerResponse; text: string }): void {
  const { status, headers } = answer;
  const told = (): string =>
    `${it.method} ${urlOf(it).slice(0, 300)}\n${JSON.stringify(it.headers).slice(0, 400)}\n` +
    `${bytesOf(it)?.toString('utf8').slice(0, 400)}\n=> ${status} ${text.slice(0, 600)}`;
  assert.ok(Number.isInteger(status) && status >= 200 && status < 600, told());
  const type = headers['content-type'] ?? '';
  for (const value of Object.values(headers)) assert.ok(/^[\t\x20-\xff]*$/.test(value), told());
  if (status < 400) return;
  if (type.startsWith('text/plain')) {
    assert.ok(status < 500 && text.length < 10_000, told());
    return;
  }
  if (type === 'application/json') {
    const body = JSON.parse(text) as Record<string, unknown>;
    assert.deepEqual([body['kind'], body['status'], body['code']], ['Status', 'Failure', status]);
    assert.equal(typeof body['message'], 'string', told());
  } else {
    assert.match(text, /Status[\s\S]*Failure/, told());
  }
  if (status === 500) assert.match(text, EXPLAINED_500, told());
  if (status === 503) assert.match(text, /no endpoints available for service/, told());
}

const prototypes = [Object.prototype, Array.prototype, Function.prototype, String.prototype];
const ownNames = (): string[] => prototypes.flatMap((one) => Reflect.ownKeys(one).map(String));

test('whatever is sent, the answer is a success or a Status', { timeout: 60_000 }, async () => {
  const before = ownNames();
  const startBytes = process.memoryUsage.rss();
  const random = seededRandom(SEED);
  for (const { path, object } of STORED) {
    const made = await server.call('POST', path, object);
    assert.ok(made.code === 201 || made.code === 403, made.text);
  }
  const codes = new Map<number, number>();
  for (let n = 0; n < REQUESTS; n++) {
    const it = draft(random);
    const count = randomInt(random, 3) + (n % 10 === 0 ? 0 : 1);
    for (let i = 0; i < count; i++) pick(random, MUTATIONS)(random, it);
    const got = await ask(it).catch((error: unknown) => {
      const body = bytesOf(it)?.toString('utf8').slice(0, 300);
      throw new Error(`${it.method} ${urlOf(it).slice(0, 300)} ${body}`, { cause: error });
    });
    check(it, got);
    codes.set(got.answer.status, (codes.get(got.answer.status) ?? 0) + 1);
  }
  // The mutations reach deep and wide: all of these were answered.
  for (const code of [200, 201, 400, 401, 404, 405, 406, 409, 415, 422]) {
    assert.ok((codes.get(code) ?? 0) > 0, `no ${code} among ${JSON.stringify([...codes])}`);
  }
  assert.deepEqual(ownNames(), before);
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  assert.ok(process.memoryUsage.rss() - startBytes < MEMORY_BYTES);
  const name = { metadata: { name: 'afterwards' } };
  assert.equal((await server.call('POST', `${NAMESPACE}/configmaps`, name)).code, 201);
  assert.equal((await server.call('GET', '/readyz')).text, 'ok');
});
